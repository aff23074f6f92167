//! In which of its visits each contender sees a given slot, for all contenders at once.

use alloc::vec::Vec;
use core::ops::Range;

use crate::contender::Contender;

/// How many contenders are asked together.
const BLOCK: usize = 64;

/// The way back through each contender's order of slots, laid out so that the processor can take
/// several contenders in one instruction.
#[derive(Clone, Debug)]
pub(crate) struct Visitors {
    mask: u32,
    half: u32,
    inverses: [Vec<u32>; 3],
    offsets: Vec<u32>,
}

impl Visitors {
    pub(crate) fn new(slots: u32, contenders: &[Contender]) -> Self {
        let inverse = |number: usize| -> Vec<u32> {
            contenders.iter().map(|pod| pod.permutation.inverses()[number]).collect()
        };
        Self {
            mask: slots - 1,
            half: slots.trailing_zeros().div_ceil(2),
            inverses: [inverse(0), inverse(1), inverse(2)],
            offsets: contenders.iter().map(|pod| pod.permutation.offset()).collect(),
        }
    }

    /// Calls `look` with the place of each contender and its visit to `slot`, in the order of
    /// places, where `visit * share < reach * M`; so with a share of M, where the visit is before
    /// the contender's own of `reaches`.
    #[inline]
    pub(crate) fn each_within(
        &self,
        slot: u32,
        reaches: &[u32],
        share: u32,
        mut look: impl FnMut(usize, u32),
    ) {
        let mut visits = [0; BLOCK];
        for start in (0..reaches.len()).step_by(BLOCK) {
            let places = start..(start + BLOCK).min(reaches.len());
            let visits = &mut visits[..places.len()];
            self.visits(slot, places.clone(), visits);
            for ((place, visit), reach) in (start..).zip(&*visits).zip(&reaches[places]) {
                if self.is_within(*visit, *reach, share) {
                    look(place, *visit);
                }
            }
        }
    }

    /// Whether `visit * share < reach * M`.
    #[inline]
    pub(crate) fn is_within(&self, visit: u32, reach: u32, share: u32) -> bool {
        // No factor exceeds 2^24.
        u64::from(visit) * u64::from(share) < u64::from(reach) * (u64::from(self.mask) + 1)
    }

    #[inline]
    fn visits(&self, slot: u32, places: Range<usize>, visits: &mut [u32]) {
        let first = slot ^ slot.wrapping_shr(self.half);
        let [m1, m2, m3] = self.inverses.each_ref().map(|inverses| &inverses[places.clone()]);
        let factors = m1.iter().zip(m2).zip(m3).zip(&self.offsets[places]);
        for (visit, (((m1, m2), m3), offset)) in visits.iter_mut().zip(factors) {
            let x = first.wrapping_mul(*m3) & self.mask;
            let x = (x ^ x.wrapping_shr(self.half)).wrapping_mul(*m2) & self.mask;
            let x = (x ^ x.wrapping_shr(self.half)).wrapping_sub(*offset);
            *visit = x.wrapping_mul(*m1) & self.mask;
        }
    }
}
