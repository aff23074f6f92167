//! The preference list of a slot: its owner, then who would inherit it.

use alloc::vec;
use alloc::vec::Vec;

use crate::id::{PodIndex, Slot};
use crate::ring::Ring;

/// The pods of a slot in the order in which they would inherit it: see [`Ring::preference`].
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    ring: &'a Ring,
    order: vec::IntoIter<PodIndex>,
}

impl Ring {
    /// Every pod that may own slots, once: the owner of `slot` first; then pods of zones that the
    /// list has not named yet, each zone's first to visit the slot; then the rest. Among equals
    /// the earlier visit of the race comes first, which is who would inherit the slot.
    #[must_use]
    pub fn preference(&self, slot: Slot) -> Preference<'_> {
        let parts = self.parts();
        let times = parts.logarithm.times();
        let number = slot.get() & (parts.view.parameters().slots() - 1);
        let owner = self.owner(slot);
        let mut order: Vec<(u64, u64, PodIndex)> = parts
            .contenders
            .iter()
            .map(|pod| (pod.time_of_slot(times, number), pod.hash, pod.pod))
            .collect();
        order.sort_unstable_by_key(|entry| (entry.2 != owner, *entry));
        let order: Vec<PodIndex> = order.into_iter().map(|entry| entry.2).collect();
        Preference { ring: self, order: order.into_iter() }
    }
}

impl Iterator for Preference<'_> {
    type Item = PodIndex;

    fn next(&mut self) -> Option<PodIndex> {
        let _ = self.ring;
        self.order.next()
    }
}
