//! In which order the heirs of one slot come.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::contender::Contender;
use crate::id::PodIndex;
use crate::logarithm::Times;
use crate::ring::Parts;
use crate::visitors::Search;

/// Where a pod belongs among the heirs of a slot.
#[derive(Clone, Copy)]
struct Rank {
    /// The time of its visit; [`BEHIND`] all times of others if it does not take the slot.
    time: u64,
    place: u16,
}

/// Times stay below 2^63.
const BEHIND: u64 = 1 << 63;

/// How many visitors of the slot are ranked, for each heir that is wanted: some do not take it, and
/// some are of a zone that is there already.
const VISITORS_AN_HEIR: usize = 5;
/// How many times as many are ranked if these were too few.
const GROWTH: usize = 8;

/// 1, as the times have it: a pod of weight w visits the part w * t of all slots by an early time t.
const UNIT: u64 = 1 << 58;

/// What ranks the heirs of one slot.
pub(crate) struct Ranking<'a> {
    parts: &'a Parts,
    times: Times<'a>,
    slot: u32,
    owner: PodIndex,
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
    pub(crate) fn new(parts: &'a Parts, slot: u32, owner: PodIndex) -> Self {
        debug_assert!(slot < parts.view.parameters().slots());
        let share = |lost: u32| parts.view.parameters().slots().saturating_sub(2 * lost);
        let owner_zone = parts.zones[owner.as_usize()];
        Self {
            parts,
            times: parts.logarithm.times(),
            slot,
            owner,
            owner_zone,
            share_without_zone: share(parts.zone_counts[usize::from(owner_zone)]),
            share_without_owner: share(parts.counts[owner.as_usize()]),
        }
    }

    /// The first `count` heirs or more, in the order of the list: all if there are fewer.
    pub(crate) fn first(&self, count: usize) -> Vec<u16> {
        let pods = self.parts.contenders.len();
        let zones = count.min(self.parts.zones_in_use - 1);
        let mut visitors = count * VISITORS_AN_HEIR;
        while visitors < pods {
            // By this time, so many pods of these weights visit the average slot.
            let end = UNIT / self.parts.weights * visitors as u64;
            let heirs = self.until(end, visitors);
            if heirs.pods.len() >= count && heirs.zones >= zones {
                return heirs.pods;
            }
            visitors *= GROWTH;
        }
        self.all()
    }

    /// All heirs, in the order of the list.
    pub(crate) fn all(&self) -> Vec<u16> {
        self.until(u64::MAX, self.parts.contenders.len()).pods
    }

    /// The heirs that take the slot and visit it by `end`, about so many; all if there is no end.
    fn until(&self, end: u64, about: usize) -> Order {
        let ranks = Vec::with_capacity(about);
        let mut early = Early { ranking: self, end, bound: u32::MAX, ranks };
        self.parts.visitors.search(self.slot, &mut early);
        let mut ranks = early.ranks;
        ranks.sort_unstable_by_key(|rank| rank.time);
        for tied in ranks.chunk_by_mut(|one, other| one.time == other.time) {
            tied.sort_unstable_by_key(|rank| (self.contender(rank.place).hash, rank.place));
        }
        self.diverse(ranks)
    }

    /// The first pod of each zone but the owner's, then the others.
    fn diverse(&self, mut ranks: Vec<Rank>) -> Order {
        let mut seen = vec![false; self.parts.zones.len()];
        seen[usize::from(self.owner_zone)] = true;
        let mut pods = Vec::with_capacity(ranks.len());
        let pod = |rank: &Rank| self.contender(rank.place).pod;
        ranks.retain(|rank| {
            let zone = self.parts.zones[pod(rank).as_usize()];
            let is_seen = mem::replace(&mut seen[usize::from(zone)], true);
            if !is_seen {
                pods.push(pod(rank).get());
            }
            is_seen
        });
        let zones = pods.len();
        pods.extend(ranks.iter().map(|rank| pod(rank).get()));
        Order { pods, zones }
    }

    #[inline]
    fn contender(&self, place: u16) -> &'a Contender {
        &self.parts.contenders[usize::from(place)]
    }

    /// Whether a pod would take the slot that it sees in this visit.
    #[inline]
    fn takes(&self, place: u16, pod: PodIndex, visit: u32) -> bool {
        let beside_owner = self.parts.zones[pod.as_usize()] == self.owner_zone;
        let share = if beside_owner { self.share_without_owner } else { self.share_without_zone };
        // No factor exceeds 2^24.
        let reach = u64::from(self.parts.reaches[usize::from(place)]);
        u64::from(visit) * u64::from(share) < reach * self.times.slots()
    }
}

/// Some first heirs of a slot, of which so many are the first of their zones.
struct Order {
    pods: Vec<u16>,
    zones: usize,
}

/// The pods that come by `end`.
struct Early<'a> {
    ranking: &'a Ranking<'a>,
    end: u64,
    bound: u32,
    ranks: Vec<Rank>,
}

impl Search for Early<'_> {
    #[inline]
    fn begin(&mut self, example: Option<usize>) -> u32 {
        let example = example.and_then(|place| self.ranking.parts.contenders.get(place));
        self.bound = example.map_or(u32::MAX, |pod| {
            self.ranking.times.blocks_not_after(|tau| pod.paced(tau) <= self.end)
        });
        self.bound
    }

    #[inline]
    fn look(&mut self, place: usize, visit: u32) -> u32 {
        let Ok(place) = u16::try_from(place) else { return self.bound };
        let pod = self.ranking.contender(place);
        let takes = self.ranking.takes(place, pod.pod, visit);
        let behind = if takes { 0 } else { BEHIND };
        let time = pod.time(self.ranking.times, visit) | behind;
        if time <= self.end && pod.pod != self.ranking.owner {
            self.ranks.push(Rank { time, place });
        }
        self.bound
    }
}
