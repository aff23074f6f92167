//! In which order the heirs of one slot come.

use alloc::vec;
use alloc::vec::Vec;

use crate::contender::Contender;
use crate::id::PodIndex;
use crate::ring::Parts;

/// Where a pod belongs among the heirs of a slot: the lower, the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// The time of its visit; [`BEHIND`] all times of others if it does not take the slot.
    time: u64,
    hash: u64,
    pub(crate) place: u16,
}

/// Times stay below 2^63.
const BEHIND: u64 = 1 << 63;

impl Rank {
    /// Behind all others.
    pub(crate) const LAST: Self = Self { time: u64::MAX, hash: u64::MAX, place: u16::MAX };

    /// The time of the visit.
    #[inline]
    pub(crate) fn time(self) -> u64 {
        self.time & !BEHIND
    }
}

/// What ranks the heirs of one slot.
pub(crate) struct Ranking<'a> {
    pub(crate) parts: &'a Parts,
    slot: u32,
    owner: PodIndex,
    pub(crate) owner_zone: u16,
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
            slot,
            owner,
            owner_zone,
            share_without_zone: share(parts.zone_counts[usize::from(owner_zone)]),
            share_without_owner: share(parts.counts[owner.as_usize()]),
        }
    }

    #[inline]
    pub(crate) fn contender(&self, place: u16) -> &'a Contender {
        &self.parts.contenders[usize::from(place)]
    }

    #[inline]
    pub(crate) fn pod(&self, place: u16) -> u16 {
        self.contender(place).pod.get()
    }

    #[inline]
    pub(crate) fn zone(&self, place: u16) -> u16 {
        self.parts.zones[usize::from(self.pod(place))]
    }

    #[inline]
    pub(crate) fn is_owner(&self, place: u16) -> bool {
        self.contender(place).pod == self.owner
    }

    /// Whether a pod would take the slot that it sees in this visit.
    #[inline]
    pub(crate) fn takes(&self, place: u16, visit: u32) -> bool {
        let beside_owner = self.zone(place) == self.owner_zone;
        let share = if beside_owner { self.share_without_owner } else { self.share_without_zone };
        // No factor exceeds 2^24.
        let reach = u64::from(self.parts.reaches[usize::from(place)]);
        u64::from(visit) * u64::from(share) < reach * self.parts.logarithm.times().slots()
    }

    #[inline]
    pub(crate) fn rank(&self, place: u16, visit: u32, takes: bool) -> Rank {
        let pod = self.contender(place);
        let time = pod.time(self.parts.logarithm.times(), visit);
        Rank { time: if takes { time } else { time | BEHIND }, hash: pod.hash, place }
    }

    /// All pods but the owner, in the order of the list.
    pub(crate) fn heirs(&self) -> Vec<u16> {
        let mut ranks: Vec<Rank> = (0..=u16::MAX)
            .zip(&self.parts.contenders)
            .filter(|(_, pod)| pod.pod != self.owner)
            .map(|(place, pod)| {
                let visit = pod.permutation.visit(self.slot);
                self.rank(place, visit, self.takes(place, visit))
            })
            .collect();
        ranks.sort_unstable();

        let mut seen = vec![false; self.parts.zones.len()];
        seen[usize::from(self.owner_zone)] = true;
        let is_first = |rank: &&Rank| {
            let seen = &mut seen[usize::from(self.zone(rank.place))];
            !core::mem::replace(seen, true)
        };
        let (mut order, others): (Vec<&Rank>, Vec<&Rank>) = ranks.iter().partition(is_first);
        order.extend(others);
        order.into_iter().map(|rank| self.pod(rank.place)).collect()
    }
}
