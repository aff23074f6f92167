//! The preference list of a slot: its owner, then who would inherit it.

use alloc::vec;
use core::iter::FusedIterator;

use crate::heirs::Row;
use crate::id::{PodIndex, Slot};
use crate::ranking::Ranking;
use crate::ring::Ring;

/// The pods of a slot in the order in which they would inherit it: see [`Ring::preference`].
///
/// The owner is one load. The next fifteen are a few more (one with 16 pods, three with a
/// thousand), once somebody asked the same of this ring or a clone of it; the first time they are
/// one pass over the pods. The rest is a sorted list of all pods, made anew for each who asks.
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    ring: &'a Ring,
    slot: u32,
    given: usize,
    /// Those that come next, and the number of the row of heirs after them.
    row: Row,
    next_row: usize,
    /// All that come after the rows, if somebody asked.
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
        let row = Row::of_one(self.owner(slot).get());
        Preference { ring: self, slot: slot.get() & mask, given: 0, row, next_row: 0, rest: None }
    }
}

impl Preference<'_> {
    /// The first pod of the next row, or of what comes after the rows.
    #[inline(never)]
    fn next_of_next_row(&mut self) -> Option<u16> {
        let Some(row) = self.ring.parts().heirs.get(self.slot, self.next_row) else {
            return self.next_of_unknown();
        };
        self.row = row;
        self.next_row += 1;
        self.row.next()
    }

    /// The first pod of a row that is not kept, from now on it is; or of what comes after the rows.
    #[cold]
    #[inline(never)]
    fn next_of_unknown(&mut self) -> Option<u16> {
        let heirs = &self.ring.parts().heirs;
        if heirs.has(self.next_row) {
            let count = heirs.count_for(self.next_row);
            let first = self.ranking().first(count);
            self.row = heirs.keep(self.slot, first.get(..count)?, self.next_row)?;
            self.next_row += 1;
            return self.row.next();
        }
        if self.given == self.ring.parts().contenders.len() {
            return None;
        }
        if self.rest.is_none() {
            let mut heirs = self.ranking().all();
            heirs.drain(..self.given - 1);
            self.rest = Some(heirs.into_iter());
        }
        self.rest.as_mut()?.next()
    }

    fn ranking(&self) -> Ranking<'_> {
        Ranking::new(self.ring.parts(), self.slot, self.ring.owner(Slot::new(self.slot)))
    }
}

impl Iterator for Preference<'_> {
    type Item = PodIndex;

    #[inline]
    fn next(&mut self) -> Option<PodIndex> {
        let pod = match self.row.next() {
            Some(pod) => pod,
            None => self.next_of_next_row()?,
        };
        self.given += 1;
        Some(PodIndex::new(pod))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ring.parts().contenders.len() - self.given;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Preference<'_> {}
impl FusedIterator for Preference<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use crate::heirs::KEPT;
    use crate::id::Epoch;
    use crate::pod::{Pod, PodState};
    use crate::view::{Parameters, View, pod};
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    /// The most that a pod may weigh.
    const HEAVIEST: f64 = 1.1e6;

    fn ring(zones: &[Option<&str>]) -> Ring {
        let pods = zones.iter().enumerate().map(|(number, zone)| pod_in(number, 1.0, *zone));
        ring_of(256, 0.05, pods.collect())
    }

    fn pod_in(number: usize, weight: f64, zone: Option<&str>) -> Pod {
        let mut pod = pod(&std::format!("pod-{number:04}"), weight);
        pod.zone = zone.map(Into::into);
        pod
    }

    fn ring_of(slots: u64, epsilon: f64, pods: Vec<Pod>) -> Ring {
        let parameters = Parameters::new(slots, epsilon, 0).unwrap();
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
        let drained = ring.view().with_state("pod-0002", PodState::Draining).unwrap();
        let ring = Ring::build(drained).unwrap();
        for slot in (0..256).map(Slot::new) {
            assert!(ring.preference(slot).all(|pod| pod != PodIndex::new(2)));
            assert_eq!(ring.preference(slot).len(), 3);
        }
    }

    /// The rule in full, from nothing but the table.
    fn takes(ring: &Ring, pod: &Contender, slot: u32) -> bool {
        let zone = |one: usize| ring.view().pods()[one].zone.as_deref();
        let owner = ring.owner(Slot::new(slot)).as_usize();
        let shared = |one: usize, other: usize| {
            one == other || zone(one).is_some() && zone(one) == zone(other)
        };
        let gone = |one: u16| match shared(owner, pod.pod.as_usize()) {
            true => usize::from(one) == owner,
            false => shared(usize::from(one), owner),
        };
        let slots = ring.view().parameters().slots();
        let owned = |slot: &u32| ring.owners()[*slot as usize] == pod.pod.get();
        let count: u32 = (0..slots).filter(owned).map(|_| 1).sum();
        let full = count == ring.capacities()[pod.pod.as_usize()];
        let latest = (0..slots).filter(owned).map(|slot| pod.permutation.visit(slot)).max();
        let reach = if full { latest.unwrap_or(0) } else { slots };
        let lost: u32 = ring.owners().iter().filter(|one| gone(**one)).map(|_| 1).sum();
        let share = u64::from(slots.saturating_sub(2 * lost));
        u64::from(pod.permutation.visit(slot)) * share < u64::from(reach) * u64::from(slots)
    }

    /// The list, the slow way: take the best pod left, new zones before known ones.
    fn picked_pod_by_pod(ring: &Ring, slot: u32) -> Vec<PodIndex> {
        let parts = ring.parts();
        let owner = ring.owner(Slot::new(slot));
        let zone = |pod: PodIndex| ring.view().pods()[pod.as_usize()].zone.as_deref();
        let order = |pod: &Contender| pod.visit(slot).order(parts.logarithm.times());
        let rank = |pod: &Contender| (pod.pod != owner, !takes(ring, pod, slot), order(pod));
        let mut left: Vec<_> = parts.contenders.iter().map(|pod| (rank(pod), pod.pod)).collect();
        left.sort_unstable();
        let (mut list, mut zones) = (Vec::new(), HashSet::new());
        while !left.is_empty() {
            let is_new = |pod| zone(pod).is_none_or(|zone| !zones.contains(zone));
            let next = left.iter().position(|(_, pod)| is_new(*pod)).unwrap_or(0);
            let (_, pod) = left.remove(next);
            zones.extend(zone(pod));
            list.push(pod);
        }
        list
    }

    /// Pods of every kind, in so many zones or in none.
    fn pods() -> impl Strategy<Value = Vec<Pod>> {
        let weight = prop_oneof![
            6 => Just(1.0), 1 => Just(2.5), 1 => Just(1e-6), 1 => Just(HEAVIEST)
        ];
        let one = (weight, any::<proptest::sample::Index>(), prop::bool::weighted(0.1));
        let pods = proptest::collection::vec(one, 1..140);
        (0_usize..40, pods).prop_map(|(zones, pods)| {
            let mut pods: Vec<Pod> = pods
                .into_iter()
                .enumerate()
                .map(|(number, (weight, zone, drained))| {
                    // One of the zones is none.
                    let zone = zone.index(zones + 1).checked_sub(1);
                    let zone = zone.map(|zone| std::format!("zone-{zone}"));
                    let mut pod = pod_in(number, weight, zone.as_deref());
                    if drained {
                        pod.state = PodState::Draining;
                    }
                    pod
                })
                .collect();
            pods[0].state = PodState::Active;
            pods
        })
    }

    proptest! {
        /// However it is asked for: in pieces, from a copy of a list in use, for the first time or again.
        #[test]
        fn the_list_is_the_one_picked_pod_by_pod(
            pods in pods(),
            slot in 0_u32..256,
            epsilon in prop_oneof![Just(0.0), Just(0.05), Just(1.0)],
            pieces in proptest::collection::vec(0_usize..20, 0..6),
        ) {
            let ring = ring_of(256, epsilon, pods);
            let expected = picked_pod_by_pod(&ring, slot);
            let mut list = ring.preference(Slot::new(slot));
            let mut given = 0;
            for piece in pieces {
                let next: Vec<PodIndex> = list.by_ref().take(piece).collect();
                prop_assert_eq!(&next, &expected[given..][..next.len()]);
                given += next.len();
                prop_assert_eq!(given, expected.len().min(given - next.len() + piece));
                prop_assert_eq!(list.len(), expected.len() - given);
                let copy: Vec<PodIndex> = list.clone().take(piece).collect();
                prop_assert_eq!(&copy, &expected[given..][..copy.len()]);
            }
            let rest: Vec<PodIndex> = list.by_ref().collect();
            prop_assert_eq!(&rest, &expected[given..]);
            prop_assert_eq!((list.next(), list.len()), (None, 0));
            let again: Vec<PodIndex> = ring.preference(Slot::new(slot)).collect();
            prop_assert_eq!(again, expected);
        }
    }

    /// The heaviest pods make all their visits in little time, so many come at once.
    #[test]
    fn pods_that_come_at_the_same_time_are_told_apart_by_their_hash() {
        let ring = ring_of(2048, 1.0, (0..1000).map(|pod| pod_in(pod, HEAVIEST, None)).collect());
        let times = ring.parts().logarithm.times();
        let has_ties = |slot: &u32| {
            let time = |pod: &Contender| pod.visit(*slot).order(times).0;
            let different: HashSet<u64> = ring.parts().contenders.iter().map(time).collect();
            different.len() < 1000
        };
        let slots: Vec<u32> = (0..2048).filter(has_ties).take(3).collect();
        assert_eq!(slots.len(), 3);
        for slot in slots {
            let list: Vec<PodIndex> = ring.preference(Slot::new(slot)).collect();
            assert_eq!(list, picked_pod_by_pod(&ring, slot));
        }
    }

    /// The slots of one place, in turns.
    #[test]
    fn slots_that_share_a_place_keep_their_own_lists() {
        let zones = [None, Some("a"), Some("b")];
        let pods = (0..300).map(|number| pod_in(number, 1.0, zones[number % 3])).collect();
        let ring = ring_of(1 << 18, 0.05, pods);
        for count in [2, 2 + KEPT, 4, 20, 1 + KEPT] {
            for slot in (0..4).map(|part| (part << 16) + 77) {
                let list: Vec<PodIndex> = ring.preference(Slot::new(slot)).take(count).collect();
                let all = Ranking::new(ring.parts(), slot, list[0]).all();
                let expected: Vec<PodIndex> = all.into_iter().map(PodIndex::new).collect();
                assert_eq!(list[1..], expected[..count - 1]);
            }
        }
    }

    /// Some slots for the first time, some again, in many threads: all get the same lists.
    #[test]
    fn threads_that_ask_together_get_the_same_lists() {
        let zones: Vec<Option<&str>> =
            (0..40).map(|pod| [None, Some("a"), Some("b")][pod % 3]).collect();
        let ring = ring(&zones);
        let lists = |ring: &Ring| -> Vec<Vec<PodIndex>> {
            (0..256)
                .map(|slot| ring.preference(Slot::new(slot)).take(slot as usize % 20).collect())
                .collect()
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
