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
    /// own. Among these, the pod that visits the slot earlier in the race comes first.
    ///
    /// A slot is taken modulo the number of slots.
    #[must_use]
    pub fn preference(&self, slot: Slot) -> Preference<'_> {
        let slot = slot.get() & (self.view().parameters().slots() - 1);
        Preference { ring: self, slot, given: 0, order: Order::Owner }
    }
}

impl Preference<'_> {
    /// The owner's successors of new zones, earliest visit first, as far as there is space.
    fn early(&self) -> Order {
        let parts = self.ring.parts();
        let times = parts.logarithm.times();
        let owner = self.owner();
        // The best pod of each zone, best zone first. A zone that was pushed out may come back
        // with an earlier pod, never with the one that was pushed out.
        let mut best = [(u64::MAX, 0_u16, u16::MAX); EARLY];
        let mut count = 0;
        for (place, pod) in (0..=u16::MAX).zip(&parts.contenders) {
            let zone = parts.zones[pod.pod.as_usize()];
            if zone == parts.zones[owner.as_usize()] {
                continue;
            }
            let time = pod.time_of_slot(times, self.slot);
            let held = best[..count].iter().position(|entry| entry.2 == zone);
            let mut hole = match held {
                Some(hole) => hole,
                None if count < EARLY => {
                    count += 1;
                    count - 1
                }
                None => EARLY - 1,
            };
            if best[hole].2 != u16::MAX && best[hole].0 <= time {
                continue;
            }
            while hole > 0 && best[hole - 1].0 > time {
                best[hole] = best[hole - 1];
                hole -= 1;
            }
            best[hole] = (time, place, zone);
        }
        Order::Early(best.map(|entry| entry.1), count)
    }

    /// All that has not been given yet.
    fn rest(&self) -> Order {
        let parts = self.ring.parts();
        let times = parts.logarithm.times();
        let owner = self.owner();
        let mut visits: Vec<(bool, u64, u16)> = (0..=u16::MAX)
            .zip(&parts.contenders)
            .map(|(place, pod)| (pod.pod != owner, pod.time_of_slot(times, self.slot), place))
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
        let pods = zones
            .iter()
            .enumerate()
            .map(|(number, zone)| {
                let mut pod = pod(&std::format!("pod-{number:02}"), 1.0);
                pod.zone = zone.map(Into::into);
                pod
            })
            .collect();
        let parameters = Parameters::new(256, 0.05, 0).unwrap();
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

    proptest! {
        /// The list, computed the slow way: take the best pod left, new zones before known ones.
        #[test]
        fn the_list_is_the_one_picked_pod_by_pod(
            zones in proptest::collection::vec(proptest::option::of(0_u8..6), 1..24),
            slot in 0_u32..256,
        ) {
            let names: Vec<Option<std::string::String>> =
                zones.iter().map(|zone| zone.map(|zone| std::format!("zone-{zone}"))).collect();
            let names: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();
            let ring = ring(&names);
            let parts = ring.parts();
            let mut left: Vec<&Contender> = parts.contenders.iter().collect();
            let mut expected: Vec<PodIndex> = Vec::new();
            while !left.is_empty() {
                let known = |pod: &Contender| {
                    names[pod.pod.as_usize()].is_some()
                        && expected.iter().any(|one| names[one.as_usize()] == names[pod.pod.as_usize()])
                };
                let next = (0..left.len()).min_by_key(|place| {
                    let pod = left[*place];
                    let is_owner = pod.pod == ring.owner(Slot::new(slot));
                    let time = pod.time_of_slot(parts.logarithm.times(), slot);
                    (!is_owner, known(pod), time, *place)
                });
                expected.push(left.remove(next.unwrap()).pod);
            }
            let list: Vec<PodIndex> = ring.preference(Slot::new(slot)).collect();
            prop_assert_eq!(list, expected);
        }
    }
}
