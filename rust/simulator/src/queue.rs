//! What is going to happen, in the order in which it does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::time::Duration;

/// What is going to happen, the earliest first, and of two at one time the one that was put in first.
///
/// The heap moves small keys about; the events themselves, which are large, stay where they are.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<u128>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    pushed: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), pushed: 0 }
    }
}

impl<E> Queue<E> {
    pub(crate) fn push(&mut self, at: Duration, event: E) {
        self.pushed += 1;
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(Some(event));
        } else {
            self.events[place] = Some(event);
        }
        assert!(self.pushed < 1 << NUMBER_BITS && place < 1 << PLACE_BITS, "a key has room for it");
        let number = (self.pushed << PLACE_BITS) | place as u64;
        self.heap.push(Reverse((u128::from(packed(at)) << u64::BITS) | u128::from(number)));
    }

    /// How many were ever put in.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// The next event and its time, if it is not later than `end`.
    pub(crate) fn pop(&mut self, end: Duration) -> Option<(Duration, E)> {
        let end = (u128::from(packed(end)) << u64::BITS) | u128::from(u64::MAX);
        let next = self.heap.peek_mut().filter(|next| next.0 <= end)?;
        let Reverse(key) = PeekMut::pop(next);
        let place = usize::try_from(key & ((1 << PLACE_BITS) - 1)).unwrap_or_default();
        let at = unpacked(u64::try_from(key >> u64::BITS).unwrap_or(u64::MAX));
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
    }
}

/// The time as one number that is larger for a later one, without a multiplication.
fn packed(at: Duration) -> u64 {
    (at.as_secs() << NANOS_BITS) | u64::from(at.subsec_nanos())
}

fn unpacked(packed: u64) -> Duration {
    let nanos = packed & ((1 << NANOS_BITS) - 1);
    Duration::new(packed >> NANOS_BITS, u32::try_from(nanos).unwrap_or_default())
}

/// A billion is less than this power of two.
const NANOS_BITS: u32 = 30;

/// A key is the time, then the number of the event, then its place in the list: one
/// number, for keys are compared more often than anything else here.
const PLACE_BITS: u32 = 24;
const NUMBER_BITS: u32 = u64::BITS - PLACE_BITS;
