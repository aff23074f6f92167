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
    /// The first pod of the next row, or of the rest.
    #[inline(never)]
    fn next_of_next_row(&mut self) -> Option<u16> {
        let kept = self.ring.parts().heirs.get(self.slot, self.next_row);
        self.row = match kept {
            Some(row) => row,
            None if self.ring.parts().heirs.has(self.next_row) => self.find_row()?,
            None => return self.next_of_rest(),
        };
        self.next_row += 1;
        self.row.next()
    }

    /// The next row of heirs, which are kept from now on.
    #[cold]
    #[inline(never)]
    fn find_row(&self) -> Option<Row> {
        let heirs = &self.ring.parts().heirs;
        let count = heirs.count_for(self.next_row);
        heirs.keep(self.slot, self.ranking().first(count).get(..count)?, self.next_row)
    }

    #[cold]
    #[inline(never)]
    fn next_of_rest(&mut self) -> Option<u16> {
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
    use crate::id::Epoch;
    use crate::pod::PodState;
    use crate::view::{Parameters, View, pod};
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::vec::Vec;

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
