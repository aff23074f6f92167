//! In which of its visits the owner of each slot sees it.

use alloc::vec;
use alloc::vec::Vec;

/// By slot: the number of its owner's visit, without the bits of that number beyond 16. It can be
/// computed from the owner, which takes four times as long as to read it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    dropped_bits: u32,
    numbers: Vec<u16>,
}

impl Held {
    /// Room for this many slots, nothing known of any.
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            dropped_bits: slots.trailing_zeros().saturating_sub(u16::BITS),
            numbers: vec![0; slots as usize],
        }
    }

    /// Notes that the owner of `slot` sees it in `visit`.
    #[inline]
    pub(crate) fn set(&mut self, slot: u32, visit: u32) {
        if let Some(number) = self.numbers.get_mut(slot as usize) {
            *number = ((visit >> self.dropped_bits) & u32::from(u16::MAX)) as u16;
        }
    }

    /// The first and the last that the number of the owner's visit can be.
    #[inline]
    pub(crate) fn between(&self, slot: u32) -> (u32, u32) {
        let number = u32::from(self.numbers[slot as usize]);
        (number << self.dropped_bits, ((number + 1) << self.dropped_bits) - 1)
    }
}

/// Whether a visit is before one of a pod of the same weight, whose number is between these; `None`
/// if only the times can tell.
#[inline]
pub(crate) fn told_by_visits(visit: u32, (first, last): (u32, u32)) -> Option<bool> {
    (visit + 1 < first || last + 1 < visit).then_some(visit < first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_as_exactly_as_there_is_space() {
        for (slots, width) in [(2, 1), (1 << 16, 1), (1 << 17, 2), (1 << 24, 1 << 8)] {
            let mut held = Held::new(slots);
            for visit in [0, slots / 3, slots - 1] {
                held.set(slots - 1, visit);
                let (first, last) = held.between(slots - 1);
                assert!((first..=last).contains(&visit));
                assert_eq!(last - first + 1, width);
            }
        }
    }
}
