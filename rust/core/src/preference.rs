//! The preference list of a slot: its owner, then who would inherit it.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::iter::FusedIterator;

use crate::contender::Contender;
use crate::id::{PodIndex, Slot};
use crate::ring::Ring;

/// How many pods after the owner are found without allocating.
const EARLY: usize = 3;

/// The pods of a slot in the order in which they would inherit it: see [`Ring::preference`].
///
/// The owner costs nothing, the next three one pass over the pods, the rest a sorted list.
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    ring: &'a Ring,
    slot: u32,
    given: usize,
    order: Order,
}

#[derive(Clone, Debug)]
enum Order {
    /// Only the owner has been asked for.
    Owner,
    /// The places in the contenders of the next pods, each of a new zone.
    Early([u16; EARLY], usize),
    /// The places of all that are left.
    Rest(vec::IntoIter<u16>),
}

impl Ring {
    /// Every pod that may own slots, once: the owner of `slot` first; then one pod of each zone
    /// that the list has not named yet; then the rest. A pod without zone counts as a zone of its
    /// own. Among these, pods that would take the slot if the owner's zone were lost come first
    /// (in the owner's own zone: if the owner alone were), then the pod that visits the slot
    /// earlier in the race.
    ///
    /// A slot is taken modulo the number of slots.
    #[must_use]
    pub fn preference(&self, slot: Slot) -> Preference<'_> {
        let slot = slot.get() & (self.view().parameters().slots() - 1);
        Preference { ring: self, slot, given: 0, order: Order::Owner }
    }
}

impl Preference<'_> {
    /// The owner's successors of new zones, as far as there is space.
    fn early(&self) -> Order {
        let parts = self.ring.parts();
        let lost = self.lost();
        let times = parts.logarithm.times();
        let mut best = Best::new();
        // At most places nobody would take the slot, which is cheaper to see than its time is.
        parts.visitors.each_within(self.slot, &parts.reaches, lost.zone, |place, visit| {
            let (earliest, _) = parts.contenders[place].time_around(times, visit);
            if best.count < EARLY || earliest <= best.entries[EARLY - 1].rank {
                self.offer(&mut best, place, self.rank(&lost, place, visit));
            }
        });
        if best.count < EARLY {
            best = Best::new();
            for (place, pod) in parts.contenders.iter().enumerate() {
                let visit = pod.permutation.visit(self.slot);
                self.offer(&mut best, place, self.rank(&lost, place, visit));
            }
        }
        Order::Early(best.entries.map(|entry| entry.place), best.count)
    }

    fn offer(&self, best: &mut Best, place: usize, rank: u64) {
        let zone = self.zone(place);
        if zone != self.ring.parts().zones[self.owner().as_usize()]
            && let Ok(place) = u16::try_from(place)
        {
            best.offer(Entry { rank, place, zone });
        }
    }

    fn zone(&self, place: usize) -> u16 {
        let parts = self.ring.parts();
        parts.zones[parts.contenders[place].pod.as_usize()]
    }

    /// See [`Lost`].
    fn lost(&self) -> Lost {
        let parts = self.ring.parts();
        let slots = parts.view.parameters().slots();
        let owner = self.owner().as_usize();
        let after = |count: u32| slots.saturating_sub(2 * count);
        let zone = after(parts.zone_counts[usize::from(parts.zones[owner])]);
        Lost { zone, owner: after(parts.counts[owner]) }
    }

    /// Where a pod belongs among the others: lower is earlier, places break ties.
    fn rank(&self, lost: &Lost, place: usize, visit: u32) -> u64 {
        let parts = self.ring.parts();
        let pod = &parts.contenders[place];
        let beside_owner = self.zone(place) == parts.zones[self.owner().as_usize()];
        let share = if beside_owner { lost.owner } else { lost.zone };
        let takes = parts.visitors.is_within(visit, parts.reaches[place], share);
        // Times stay below 2^63.
        pod.time(parts.logarithm.times(), visit) | (u64::from(!takes) << 63)
    }

    /// All that has not been given yet.
    fn rest(&self) -> Order {
        let parts = self.ring.parts();
        let owner = self.owner();
        let lost = self.lost();
        let mut visits: Vec<(bool, u64, u16)> = (0..=u16::MAX)
            .zip(&parts.contenders)
            .map(|(place, pod)| {
                let visit = pod.permutation.visit(self.slot);
                (pod.pod != owner, self.rank(&lost, usize::from(place), visit), place)
            })
            .collect();
        visits.sort_unstable();

        let mut seen = BTreeSet::new();
        let (mut order, repeated): (Vec<u16>, Vec<u16>) =
            visits.into_iter().map(|visit| visit.2).partition(|place| {
                seen.insert(parts.zones[parts.contenders[usize::from(*place)].pod.as_usize()])
            });
        order.extend(repeated);
        order.drain(..self.given);
        Order::Rest(order.into_iter())
    }

    fn owner(&self) -> PodIndex {
        self.ring.owner(Slot::new(self.slot))
    }

    fn contenders(&self) -> &[Contender] {
        &self.ring.parts().contenders
    }
}

/// By how much pods would go on in the race if the owner's zone were lost, or the owner alone: of
/// M, the part that twice the lost slots leave. A pod takes a slot if the visit, scaled down by
/// this, is within its reach now. Measured, and continuous: after a small loss the pods that take
/// a slot are those that would take it now, after a large one everybody has room.
struct Lost {
    zone: u32,
    owner: u32,
}

/// The best pod of each zone, best first.
struct Best {
    /// Only the first `count` mean anything.
    entries: [Entry; EARLY],
    count: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    rank: u64,
    place: u16,
    zone: u16,
}

impl Best {
    fn new() -> Self {
        Self { entries: [Entry { rank: u64::MAX, place: 0, zone: 0 }; EARLY], count: 0 }
    }

    /// Places must be offered in their order. A zone that was pushed out may come back with a
    /// better pod, never with the one that was pushed out.
    fn offer(&mut self, entry: Entry) {
        let known = self.entries[..self.count].iter().position(|held| held.zone == entry.zone);
        let mut hole = match known {
            Some(hole) => hole,
            None if self.count < EARLY => {
                self.count += 1;
                self.entries[self.count - 1].rank = u64::MAX;
                self.count - 1
            }
            None => EARLY - 1,
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

impl Iterator for Preference<'_> {
    type Item = PodIndex;

    fn next(&mut self) -> Option<PodIndex> {
        if self.given == 0 {
            self.given = 1;
            return Some(self.owner());
        }
        if self.given == self.contenders().len() {
            return None;
        }
        match &self.order {
            Order::Owner => self.order = self.early(),
            Order::Early(..) | Order::Rest(_) => {}
        }
        if let Order::Early(_, count) = self.order
            && self.given > count
        {
            self.order = self.rest();
        }
        let place = match &mut self.order {
            Order::Owner => None,
            Order::Early(places, _) => places.get(self.given - 1).copied(),
            Order::Rest(places) => places.next(),
        }?;
        self.given += 1;
        self.contenders().get(usize::from(place)).map(|pod| pod.pod)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.contenders().len() - self.given;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Preference<'_> {}
impl FusedIterator for Preference<'_> {}

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
                    let time = pod.time_of_slot(parts.logarithm.times(), slot);
                    (pod.pod != owner, known(pod), !takes(&ring, &names, pod, slot), time, *place)
                });
                expected.push(left.remove(next.unwrap()).pod);
            }
            let list: Vec<PodIndex> = ring.preference(Slot::new(slot)).collect();
            prop_assert_eq!(list, expected);
        }
    }
}
