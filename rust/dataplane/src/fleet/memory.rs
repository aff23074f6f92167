//! Where the slots whose owners are full last found room.

use core::sync::atomic::{AtomicU64, Ordering};
use hashroute_core::{PodIndex, Slot};

/// How many slots are remembered. Few slots are hot: of real symbols a hundred make up most of the
/// traffic. Two slots of one place displace each other, which costs a walk and nothing more.
const PLACES: usize = 1 << 10;

/// How often a remembered pod is used before the preference list is walked from its start again, to
/// see whether a better pod has room by now. More often than this saves next to nothing.
pub(super) const USES_MAX: u64 = 16;

const USES_BITS: u32 = 8;
const POD_BITS: u32 = 16;

/// For some slots, a pod that had room for a request spilled from the owner.
///
/// It is a hint: whoever takes it must ask the pod. Each place is one word, so threads that write
/// at once lose a hint or a count, never mix two.
#[derive(Debug)]
pub(super) struct Memory {
    /// Each a slot, a pod, and how many uses are left, from the high bits down; 0 says nothing.
    places: Box<[AtomicU64]>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Remembers that `pod` had room for a request of `slot`.
    pub(super) fn keep(&self, slot: Slot, pod: PodIndex) {
        if let Some(place) = self.place(slot) {
            let known = (u64::from(slot.get()) << POD_BITS) | u64::from(pod.get());
            place.store((known << USES_BITS) | USES_MAX, Ordering::Relaxed);
        }
    }

    /// Takes one use of what is remembered of `slot`, if there is one.
    pub(super) fn take(&self, slot: Slot) -> Option<PodIndex> {
        let place = self.place(slot)?;
        let word = place.load(Ordering::Relaxed);
        let [.., high, low, uses] = word.to_be_bytes();
        if uses == 0 || word >> (POD_BITS + USES_BITS) != u64::from(slot.get()) {
            return None;
        }
        place.store(word.saturating_sub(1), Ordering::Relaxed);
        Some(PodIndex::new(u16::from_be_bytes([high, low])))
    }

    fn place(&self, slot: Slot) -> Option<&AtomicU64> {
        self.places.get(slot.get() as usize % PLACES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER_SLOT_OF_THE_PLACE: u32 = 7 + (1 << 10);

    #[test]
    fn a_pod_is_remembered_for_its_slot_and_for_so_many_uses() {
        let memory = Memory::new();
        assert_eq!(memory.take(Slot::new(0)), None);
        memory.keep(Slot::new(7), PodIndex::new(u16::MAX));
        assert_eq!(memory.take(Slot::new(OTHER_SLOT_OF_THE_PLACE)), None);
        for _ in 0..USES_MAX {
            assert_eq!(memory.take(Slot::new(7)), Some(PodIndex::new(u16::MAX)));
        }
        assert_eq!(memory.take(Slot::new(7)), None);
    }

    #[test]
    fn the_slot_that_was_kept_last_has_the_place() {
        let memory = Memory::new();
        let last = Slot::new((1 << 24) - 1);
        let before = Slot::new(last.get() % (1 << 10));
        memory.keep(before, PodIndex::new(1));
        memory.keep(last, PodIndex::new(2));
        assert_eq!((memory.take(before), memory.take(last)), (None, Some(PodIndex::new(2))));
    }
}
