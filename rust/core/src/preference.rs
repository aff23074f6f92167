//! The preference list of a slot: its owner, then who would inherit it.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::iter::FusedIterator;

use crate::assignment::NOBODY;
use crate::contender::Contender;
use crate::heirs::KEPT;
use crate::id::{PodIndex, Slot};
use crate::ring::{Parts, Ring};
use crate::visitors::Search;

/// The pods of a slot in the order in which they would inherit it: see [`Ring::preference`].
///
/// The owner is one load and the next three another one, once somebody asked the same of this ring
/// or a clone of it; the first time they are one pass over the pods. The rest is a sorted list.
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    ring: &'a Ring,
    slot: u32,
    /// How many pods were given, and the first of them and those that come next, [`NOBODY`] where
    /// there are none or nobody asked.
    given: usize,
    first: [u16; 1 + KEPT],
    /// All that are left after those, if somebody asked.
    rest: Option<vec::IntoIter<u16>>,
}

impl Ring {
    /// Every pod that may own slots, once: the owner of `slot` first; then one pod of each zone
    /// that the list has not named yet; then the rest. A pod without zone counts as a zone of its
    /// own. Among these, pods that would take the slot if the owner's zone were lost come first
    /// (in the owner's own zone: if the owner alone were), then the pod that visits the slot
    /// earlier in the race.
    ///
    /// A slot is taken modulo the number of slots.
    #[inline]
    #[must_use]
    pub fn preference(&self, slot: Slot) -> Preference<'_> {
        let mask = u32::try_from(self.owners().len()).unwrap_or(u32::MAX).wrapping_sub(1);
        let first = [self.owner(slot).get(), NOBODY, NOBODY, NOBODY];
        Preference { ring: self, slot: slot.get() & mask, given: 0, first, rest: None }
    }
}

impl Preference<'_> {
    /// The first pods after the owner.
    #[cold]
    #[inline(never)]
    fn find_early(&self) -> [u16; KEPT] {
        let found = Successors::of(self.ring.parts(), self.slot, self.ring.owners());
        self.ring.parts().heirs.keep(self.slot, found);
        found
    }

    /// All that has not been given yet.
    fn rest(&self) -> vec::IntoIter<u16> {
        let parts = self.ring.parts();
        let owner = PodIndex::new(self.first[0]);
        let ranking = Ranking::new(parts, self.slot, owner);
        let mut ranks: Vec<(bool, Rank)> = (0..=u16::MAX)
            .zip(&parts.contenders)
            .map(|(place, pod)| {
                (pod.pod != owner, ranking.rank(place, pod.permutation.visit(self.slot)))
            })
            .collect();
        ranks.sort_unstable();

        let mut seen = BTreeSet::new();
        let pods = ranks.iter().map(|(_, rank)| ranking.pod(rank.place));
        let (mut order, repeated): (Vec<u16>, Vec<u16>) =
            pods.partition(|pod| seen.insert(parts.zones[usize::from(*pod)]));
        order.extend(repeated);
        order.drain(..self.given);
        order.into_iter()
    }

    /// What comes after the owner and what is kept.
    #[cold]
    #[inline(never)]
    fn next_of_rest(&mut self) -> Option<PodIndex> {
        if self.given == self.ring.parts().contenders.len() {
            return None;
        }
        let mut rest = self.rest.take().unwrap_or_else(|| self.rest());
        let next = rest.next();
        self.rest = Some(rest);
        self.given += 1;
        next.map(PodIndex::new)
    }
}

impl Iterator for Preference<'_> {
    type Item = PodIndex;

    #[inline]
    fn next(&mut self) -> Option<PodIndex> {
        if self.given == 1 {
            let kept = self.ring.parts().heirs.get(self.slot);
            let [first, second, third] = kept.unwrap_or_else(|| self.find_early());
            self.first = [self.first[0], first, second, third];
        }
        if let Some(pod) = self.first.get(self.given)
            && *pod != NOBODY
        {
            self.given += 1;
            return Some(PodIndex::new(*pod));
        }
        self.next_of_rest()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ring.parts().contenders.len() - self.given;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Preference<'_> {}
impl FusedIterator for Preference<'_> {}

/// Where a pod belongs among the heirs of a slot: the lower, the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The time of its visit; behind all times of others if it does not take the slot.
    time: u64,
    hash: u64,
    place: u16,
}

/// What ranks the heirs of one slot.
struct Ranking<'a> {
    parts: &'a Parts,
    owner_zone: u16,
    /// By how much pods would go on in the race if the owner's zone were lost: of M, the part that
    /// twice the lost slots leave. A pod takes a slot if its visit, scaled down by this, is within
    /// its reach now. Measured, and continuous: after a small loss the pods that take a slot are
    /// those that would take it now, after a large one everybody has room.
    share_without_zone: u32,
    /// The same if the owner alone were lost.
    share_without_owner: u32,
}

impl<'a> Ranking<'a> {
    fn new(parts: &'a Parts, slot: u32, owner: PodIndex) -> Self {
        debug_assert!(slot < parts.view.parameters().slots());
        let share = |lost: u32| parts.view.parameters().slots().saturating_sub(2 * lost);
        let owner_zone = parts.zones[owner.as_usize()];
        Self {
            parts,
            owner_zone,
            share_without_zone: share(parts.zone_counts[usize::from(owner_zone)]),
            share_without_owner: share(parts.counts[owner.as_usize()]),
        }
    }

    fn contender(&self, place: u16) -> &'a Contender {
        &self.parts.contenders[usize::from(place)]
    }

    fn pod(&self, place: u16) -> u16 {
        self.contender(place).pod.get()
    }

    fn zone(&self, place: u16) -> u16 {
        self.parts.zones[usize::from(self.pod(place))]
    }

    /// Whether a pod would take the slot that it sees in this visit.
    #[inline]
    fn takes(&self, place: u16, visit: u32) -> bool {
        let beside_owner = self.zone(place) == self.owner_zone;
        let share = if beside_owner { self.share_without_owner } else { self.share_without_zone };
        // No factor exceeds 2^24.
        let reach = u64::from(self.parts.reaches[usize::from(place)]);
        u64::from(visit) * u64::from(share) < reach * self.parts.logarithm.times().slots()
    }

    fn rank(&self, place: u16, visit: u32) -> Rank {
        let pod = self.contender(place);
        // Times stay below 2^63.
        let behind = u64::from(!self.takes(place, visit)) << 63;
        let time = pod.time(self.parts.logarithm.times(), visit) | behind;
        Rank { time, hash: pod.hash, place }
    }
}

/// The search for the first pods after the owner.
struct Successors<'a> {
    ranking: Ranking<'a>,
    owner: PodIndex,
    /// The best pod of each zone but the owner's.
    of_zones: Best,
    /// The best pods, whatever their zones: needed where zones are few.
    of_all: Best,
    /// How many there can be of either.
    wanted: (usize, usize),
    example: Option<u16>,
    bound: u32,
}

impl<'a> Successors<'a> {
    fn of(parts: &'a Parts, slot: u32, owners: &[u16]) -> [u16; KEPT] {
        let owner = PodIndex::new(owners[slot as usize]);
        let zones = KEPT.min(parts.zones_in_use - 1);
        let pods = if zones < KEPT { KEPT.min(parts.contenders.len() - 1) } else { 0 };
        let mut search = Self {
            ranking: Ranking::new(parts, slot, owner),
            owner,
            of_zones: Best::default(),
            of_all: Best::default(),
            wanted: (zones, pods),
            example: None,
            bound: u32::MAX,
        };
        // At most places nobody would take the slot, which is cheaper to see than its time is.
        parts.visitors.search(slot, &mut search);
        if !search.is_complete() {
            for (place, pod) in (0..=u16::MAX).zip(&parts.contenders) {
                search.offer(place, pod.permutation.visit(slot));
            }
        }
        search.heirs()
    }

    fn is_complete(&self) -> bool {
        (self.of_zones.count, self.of_all.count) == self.wanted
    }

    fn offer(&mut self, place: u16, visit: u32) {
        let zone = self.ranking.zone(place);
        if self.ranking.pod(place) == self.owner.get() {
            return;
        }
        let rank = self.ranking.rank(place, visit);
        if zone != self.ranking.owner_zone {
            self.of_zones.offer(Entry { rank, zone, visit });
        }
        if self.wanted.1 > 0 {
            self.of_all.offer(Entry { rank, zone: place, visit });
        }
    }

    /// The last of those that were found, if there is no place behind it.
    fn last(&self) -> Option<Entry> {
        let last = |best: &Best| best.entries[..best.count].last().copied();
        let found = last(&self.of_zones).into_iter().chain(last(&self.of_all));
        if self.is_complete() { found.max_by_key(|entry| entry.rank) } else { None }
    }

    /// The visit from which on no contender of the weight of the example comes before the last.
    fn bound(&self) -> u32 {
        let times = self.ranking.parts.logarithm.times();
        let (Some(example), Some(last)) = (self.example, self.last()) else { return u32::MAX };
        let example = self.ranking.contender(example);
        if example.weight == self.ranking.contender(last.rank.place).weight
            && example.is_told_by_visits(times)
        {
            return last.visit + 2;
        }
        times.blocks_not_after(|tau| example.paced(tau) <= last.rank.time)
    }

    fn heirs(&self) -> [u16; KEPT] {
        let of_zones = self.of_zones.entries[..self.of_zones.count].iter();
        let of_all = self.of_all.entries[..self.of_all.count].iter();
        let is_new =
            |entry: &&Entry| !of_zones.clone().any(|known| known.rank.place == entry.rank.place);
        let places = of_zones.clone().chain(of_all.filter(is_new)).map(|entry| entry.rank.place);
        let mut heirs = [NOBODY; KEPT];
        for (heir, place) in heirs.iter_mut().zip(places) {
            *heir = self.ranking.pod(place);
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
        if self.ranking.takes(place, visit) {
            let times = self.ranking.parts.logarithm.times();
            let earliest = self.ranking.contender(place).time_around(times, visit).0;
            if self.last().is_none_or(|last| earliest <= last.rank.time) {
                self.offer(place, visit);
                self.bound = self.bound();
            }
        }
        self.bound
    }
}

/// The best pod of each zone, best first.
#[derive(Default)]
struct Best {
    /// Only the first `count` mean anything.
    entries: [Entry; KEPT],
    count: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    zone: u16,
    visit: u32,
}

impl Default for Entry {
    fn default() -> Self {
        Self { rank: Rank { time: u64::MAX, hash: u64::MAX, place: NOBODY }, zone: 0, visit: 0 }
    }
}

impl Best {
    /// A zone that was pushed out may come back with a better pod.
    fn offer(&mut self, entry: Entry) {
        let known = self.entries[..self.count].iter().position(|held| held.zone == entry.zone);
        let mut hole = match known {
            Some(hole) => hole,
            None if self.count < KEPT => {
                self.count += 1;
                self.entries[self.count - 1] = Entry::default();
                self.count - 1
            }
            None => KEPT - 1,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::pod::PodState;
    use crate::view::{Parameters, View, pod};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn ring(zones: &[Option<&str>]) -> Ring {
        ring_with(zones, 0.05)
    }

    fn ring_with(zones: &[Option<&str>], epsilon: f64) -> Ring {
        let pods = zones
            .iter()
            .enumerate()
            .map(|(number, zone)| {
                let mut pod = pod(&std::format!("pod-{number:02}"), 1.0);
                pod.zone = zone.map(Into::into);
                pod
            })
            .collect();
        let parameters = Parameters::new(256, epsilon, 0).unwrap();
        Ring::build(View::new(Epoch::new(1), parameters, pods).unwrap()).unwrap()
    }

    #[test]
    fn the_list_begins_with_the_owner_and_one_pod_of_each_zone() {
        let zones = ["a", "a", "b", "b", "c", "a", "b", "c", "d", "e"].map(Some);
        let ring = ring(&zones);
        for slot in (0..256).map(Slot::new) {
            let list: Vec<PodIndex> = ring.preference(slot).collect();
            assert_eq!(list[0], ring.owner(slot));
            let first: HashSet<_> = list[..5].iter().map(|pod| zones[pod.as_usize()]).collect();
            assert_eq!(first.len(), 5);
        }
    }

    #[test]
    fn pods_without_a_zone_never_stand_in_for_each_other() {
        let ring = ring(&[None, None, None, Some("a"), Some("a")]);
        for slot in (0..256).map(Slot::new) {
            let list: Vec<u16> = ring.preference(slot).map(PodIndex::get).collect();
            let twins = list.iter().filter(|pod| **pod >= 3).count();
            assert_eq!(twins, 2);
            assert!(list[4] >= 3, "the second pod of the shared zone comes last: {list:?}");
        }
    }

    #[test]
    fn a_pod_that_owns_no_slots_is_on_no_list() {
        let ring = ring(&[None; 4]);
        let drained = ring.view().with_state("pod-02", PodState::Draining).unwrap();
        let ring = Ring::build(drained).unwrap();
        for slot in (0..256).map(Slot::new) {
            assert!(ring.preference(slot).all(|pod| pod != PodIndex::new(2)));
            assert_eq!(ring.preference(slot).len(), 3);
        }
    }

    /// The rule in full, from nothing but the table.
    fn takes(ring: &Ring, zones: &[Option<&str>], pod: &Contender, slot: u32) -> bool {
        let owner = ring.owner(Slot::new(slot)).as_usize();
        let shared = |one: usize, other: usize| {
            one == other || zones[one].is_some() && zones[one] == zones[other]
        };
        let gone = |one: u16| match shared(owner, pod.pod.as_usize()) {
            true => usize::from(one) == owner,
            false => shared(usize::from(one), owner),
        };
        let owned = |slot: &u32| ring.owners()[*slot as usize] == pod.pod.get();
        let count: u32 = (0..256).filter(owned).map(|_| 1).sum();
        let full = count == ring.capacities()[pod.pod.as_usize()];
        let latest = (0..256).filter(owned).map(|slot| pod.permutation.visit(slot)).max();
        let reach = if full { latest.unwrap_or(0) } else { 256 };
        let lost: u32 = ring.owners().iter().filter(|one| gone(**one)).map(|_| 1).sum();
        pod.permutation.visit(slot) * 256_u32.saturating_sub(2 * lost) < reach * 256
    }

    proptest! {
        /// The list, computed the slow way: take the best pod left, new zones before known ones.
        #[test]
        fn the_list_is_the_one_picked_pod_by_pod(
            zones in proptest::collection::vec(proptest::option::of(0_u8..6), 1..24),
            slot in 0_u32..256,
            epsilon in prop_oneof![Just(0.0), Just(0.05), Just(1.0)],
        ) {
            let names: Vec<Option<std::string::String>> =
                zones.iter().map(|zone| zone.map(|zone| std::format!("zone-{zone}"))).collect();
            let names: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();
            let ring = ring_with(&names, epsilon);
            let parts = ring.parts();
            let mut left: Vec<&Contender> = parts.contenders.iter().collect();
            let mut expected: Vec<PodIndex> = Vec::new();
            while !left.is_empty() {
                let known = |pod: &Contender| {
                    names[pod.pod.as_usize()].is_some()
                        && expected.iter().any(|one| names[one.as_usize()] == names[pod.pod.as_usize()])
                };
                let owner = ring.owner(Slot::new(slot));
                let next = (0..left.len()).min_by_key(|place| {
                    let pod = left[*place];
                    let order = pod.visit(slot).order(parts.logarithm.times());
                    (pod.pod != owner, known(pod), !takes(&ring, &names, pod, slot), order)
                });
                expected.push(left.remove(next.unwrap()).pod);
            }
            let list: Vec<PodIndex> = ring.preference(Slot::new(slot)).collect();
            prop_assert_eq!(list, expected);
        }
    }

    /// Some slots for the first time, some again, in many threads: all get the same lists.
    #[test]
    fn threads_that_ask_together_get_the_same_lists() {
        let zones: Vec<Option<&str>> =
            (0..40).map(|pod| [None, Some("a"), Some("b")][pod % 3]).collect();
        let ring = ring(&zones);
        let lists = |ring: &Ring| -> Vec<Vec<PodIndex>> {
            (0..256).map(|slot| ring.preference(Slot::new(slot)).take(6).collect()).collect()
        };
        let expected = lists(&Ring::build(ring.view().clone()).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(lists(&ring), expected);
                    }
                });
            }
        });
    }
}
