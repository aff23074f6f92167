//! The search for the first heirs of a slot, which looks at few of many pods.

use crate::assignment::NOBODY;
use crate::heirs::KEPT;
use crate::id::PodIndex;
use crate::ranking::{Rank, Ranking};
use crate::ring::Parts;
use crate::visitors::Search;

/// The first `count` pods after the owner of a slot, of [`KEPT`] at most.
pub(crate) fn successors(parts: &Parts, slot: u32, owner: PodIndex, count: usize) -> [u16; KEPT] {
    let zones = count.min(parts.zones_in_use - 1);
    let mut search = Successors {
        ranking: Ranking::new(parts, slot, owner),
        of_zones: Best::of(zones),
        of_all: Best::of(if zones < count { count } else { 0 }),
        takers: true,
        example: None,
        last: None,
        bound: u32::MAX,
    };
    parts.visitors.search(slot, &mut search);
    if !search.is_complete() {
        // Those who would not take the slot come behind.
        search.takers = false;
        parts.visitors.search(slot, &mut search);
    }
    search.heirs()
}

struct Successors<'a> {
    ranking: Ranking<'a>,
    /// The best pod of each zone but the owner's.
    of_zones: Best,
    /// The best pods, whatever their zones: needed where zones are few.
    of_all: Best,
    /// Whether pods are looked at that would take the slot, or the others.
    takers: bool,
    example: Option<u16>,
    /// The last of those that were found, if there is no place behind it.
    last: Option<Entry>,
    bound: u32,
}

impl Successors<'_> {
    fn is_complete(&self) -> bool {
        self.of_zones.is_complete() && self.of_all.is_complete()
    }

    fn offer(&mut self, place: u16, visit: u32) {
        let rank = self.ranking.rank(place, visit, self.takers);
        let zone = self.ranking.zone(place);
        if zone != self.ranking.owner_zone {
            self.of_zones.offer(Entry { rank, zone, visit });
        }
        self.of_all.offer(Entry { rank, zone: place, visit });
        if self.is_complete() {
            let found = self.of_zones.last().into_iter().chain(self.of_all.last());
            self.last = found.max_by_key(|entry| entry.rank).copied();
        }
    }

    /// The visit from which on no contender of the weight of the example comes before the last.
    fn bound(&self) -> u32 {
        let times = self.ranking.parts.logarithm.times();
        let (Some(example), Some(last)) = (self.example, self.last) else { return u32::MAX };
        let example = self.ranking.contender(example);
        if example.weight == self.ranking.contender(last.rank.place).weight
            && example.is_told_by_visits(times)
        {
            return last.visit + 2;
        }
        times.blocks_not_after(|tau| example.paced(tau) <= last.rank.time())
    }

    fn heirs(&self) -> [u16; KEPT] {
        let of_zones = self.of_zones.found();
        let is_new =
            |entry: &&Entry| !of_zones.iter().any(|known| known.rank.place == entry.rank.place);
        let entries = of_zones.iter().chain(self.of_all.found().iter().filter(is_new));
        let mut heirs = [NOBODY; KEPT];
        for (heir, entry) in heirs.iter_mut().zip(entries) {
            *heir = self.ranking.pod(entry.rank.place);
        }
        heirs
    }
}

impl Search for Successors<'_> {
    #[inline]
    fn begin(&mut self, example: Option<usize>) -> u32 {
        self.example = example.and_then(|place| u16::try_from(place).ok());
        self.bound = self.bound();
        self.bound
    }

    #[inline]
    fn look(&mut self, place: usize, visit: u32) -> u32 {
        let Ok(place) = u16::try_from(place) else { return self.bound };
        if self.ranking.takes(place, visit) == self.takers && !self.ranking.is_owner(place) {
            let times = self.ranking.parts.logarithm.times();
            let earliest = self.ranking.contender(place).time_around(times, visit).0;
            if self.last.is_none_or(|last| earliest <= last.rank.time()) {
                self.offer(place, visit);
                self.bound = self.bound();
            }
        }
        self.bound
    }
}

/// The best pod of each zone, best first.
struct Best {
    /// Only the first `count` mean anything, of which there are to be `wanted`.
    entries: [Entry; KEPT],
    count: usize,
    wanted: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    zone: u16,
    visit: u32,
}

impl Best {
    fn of(wanted: usize) -> Self {
        let none = Entry { rank: Rank::LAST, zone: 0, visit: 0 };
        Self { entries: [none; KEPT], count: 0, wanted: wanted.min(KEPT) }
    }

    fn is_complete(&self) -> bool {
        self.count == self.wanted
    }

    fn found(&self) -> &[Entry] {
        &self.entries[..self.count]
    }

    fn last(&self) -> Option<&Entry> {
        self.found().last()
    }

    /// A zone that was pushed out may come back with a better pod.
    fn offer(&mut self, entry: Entry) {
        let known = self.found().iter().position(|held| held.zone == entry.zone);
        let mut hole = match known {
            Some(hole) => hole,
            None if self.count < self.wanted => {
                self.count += 1;
                self.entries[self.count - 1].rank = Rank::LAST;
                self.count - 1
            }
            None if self.wanted == 0 => return,
            None => self.wanted - 1,
        };
        if self.entries[hole].rank <= entry.rank {
            return;
        }
        while hole > 0 && self.entries[hole - 1].rank > entry.rank {
            self.entries[hole] = self.entries[hole - 1];
            hole -= 1;
        }
        self.entries[hole] = entry;
    }
}
