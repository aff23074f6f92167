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
            *number = ((visit >> self.dropped_bits) & 0xFFFF) as u16;
        }
    }

    /// The least that the number of the owner's visit can be.
    #[inline]
    pub(crate) fn least(&self, slot: u32) -> u32 {
        let number = self.numbers.get(slot as usize).copied().unwrap_or_default();
        u32::from(number).wrapping_shl(self.dropped_bits)
    }

    /// By how much the number can exceed the least.
    #[inline]
    pub(crate) fn doubt(&self) -> u32 {
        1_u32.wrapping_shl(self.dropped_bits).wrapping_sub(1)
    }
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
                let least = held.least(slots - 1);
                assert!((least..=least + held.doubt()).contains(&visit));
                assert_eq!(held.doubt() + 1, width);
            }
        }
    }
}
