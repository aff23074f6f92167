//! A pod as it takes part in the race for slots: its own order of all slots, and its pace.

use alloc::vec::Vec;

use crate::hash::hash_pod_id;
use crate::id::PodIndex;
use crate::logarithm::Times;
use crate::view::View;

/// What the race needs to know about one pod that may own slots. All of it follows from the
/// pod's id, its weight, and the seed and number of slots of the view.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) pod: PodIndex,
    pub(crate) hash: u64,
    pub(crate) weight: u64,
    /// 2^64 / weight: what turns the times of weight one into this pod's.
    pace: u64,
    pub(crate) permutation: Permutation,
    /// Where between two visits' times each visit lies: `phase + k * step`, the top 20 bits.
    step: u32,
    phase: u32,
    /// A fraction of 2^32: which way the pod's capacity is rounded.
    pub(crate) dither: u32,
}

impl Contender {
    fn new(pod: PodIndex, hash: u64, weight: u64, slots: u32) -> Self {
        let mut state = hash;
        let mut draw = || {
            state = mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15));
            halves(state)
        };
        let ((m1, m2), (m3, c), (step, phase), (_, dither)) = (draw(), draw(), draw(), draw());
        Self {
            pod,
            hash,
            weight,
            pace: u64::MAX / weight,
            permutation: Permutation::new(slots, [m1 | 1, m2 | 1, m3 | 1], c),
            step: step | 1,
            phase,
            dither,
        }
    }

    /// When this pod makes its visit `visit`, counted from 0. Never falls as `visit` rises.
    #[inline]
    pub(crate) fn time(&self, times: Times<'_>, visit: u32) -> u64 {
        let (tau, gap) = times.tau_and_gap(visit);
        let between = self.phase.wrapping_add(visit.wrapping_mul(self.step)) >> 12;
        // Both parts stay below 2^63: tau ends below 18 * 2^58, and the second is less than gap.
        let unweighted = tau + (gap >> 20) * u64::from(between);
        self.paced(unweighted)
    }

    /// Two times that [`Contender::time`] lies between or equals, at less cost.
    #[inline]
    pub(crate) fn time_around(&self, times: Times<'_>, visit: u32) -> (u64, u64) {
        let (before, after) = times.around(visit);
        (self.paced(before), self.paced(after))
    }

    /// A time of a pod of weight one as a time of this pod.
    #[inline]
    pub(crate) fn paced(&self, unweighted: u64) -> u64 {
        ((u128::from(unweighted) * u128::from(self.pace)) >> 64) as u64
    }

    /// When this pod visits `slot`: the score of the pair, the same seen from either side.
    #[inline]
    pub(crate) fn time_of_slot(&self, times: Times<'_>, slot: u32) -> u64 {
        self.time(times, self.permutation.visit(slot))
    }
}

/// The pods of a view that may own slots, in the order that breaks ties: by hash, then by id.
pub(crate) fn contenders(view: &View) -> Vec<Contender> {
    let parameters = view.parameters();
    let mut contenders: Vec<Contender> = (0..=u16::MAX)
        .zip(view.pods())
        .filter(|(_, pod)| pod.state.owns_slots())
        .map(|(place, pod)| {
            let hash = hash_pod_id(pod.id.as_str(), parameters.seed());
            Contender::new(PodIndex::new(place), hash, pod.weight.millionths(), parameters.slots())
        })
        .collect();
    // Pods of a view are sorted by id, so their places break ties of the hash as their ids would.
    contenders.sort_unstable_by_key(|contender| (contender.hash, contender.pod));
    contenders
}

/// A bijection of 0..M, for M a power of two: which slot a pod visits when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    mask: u32,
    half: u32,
    factors: [u32; 3],
    inverses: [u32; 3],
    offset: u32,
}

impl Permutation {
    /// `factors` must be odd, or the map is no bijection.
    fn new(slots: u32, factors: [u32; 3], offset: u32) -> Self {
        Self {
            mask: slots - 1,
            half: slots.trailing_zeros().div_ceil(2),
            factors,
            inverses: factors.map(inverse_of_odd),
            offset,
        }
    }

    /// What undoes the three factors, in their order.
    pub(crate) fn inverses(self) -> [u32; 3] {
        self.inverses
    }

    pub(crate) fn offset(self) -> u32 {
        self.offset
    }

    /// The slot of visit `visit`.
    #[inline]
    pub(crate) fn slot(self, visit: u32) -> u32 {
        let [m1, m2, m3] = self.factors;
        let x = visit.wrapping_mul(m1).wrapping_add(self.offset) & self.mask;
        let x = (x ^ x.wrapping_shr(self.half)).wrapping_mul(m2) & self.mask;
        let x = (x ^ x.wrapping_shr(self.half)).wrapping_mul(m3) & self.mask;
        x ^ x.wrapping_shr(self.half)
    }

    /// The visit in which `slot` is seen: the way back. A shift by at least half of the bits is
    /// its own inverse.
    #[inline]
    pub(crate) fn visit(self, slot: u32) -> u32 {
        let [m1, m2, m3] = self.inverses;
        let x = (slot ^ slot.wrapping_shr(self.half)).wrapping_mul(m3) & self.mask;
        let x = (x ^ x.wrapping_shr(self.half)).wrapping_mul(m2) & self.mask;
        (x ^ x.wrapping_shr(self.half)).wrapping_sub(self.offset).wrapping_mul(m1) & self.mask
    }
}

/// The inverse of an odd number modulo 2^32, by Newton: every round doubles the right bits.
fn inverse_of_odd(number: u32) -> u32 {
    // An odd number is its own inverse modulo 8, so three bits are right to begin with.
    let mut inverse = number;
    for _ in 0..4 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(number.wrapping_mul(inverse)));
    }
    inverse
}

/// The finaliser of SplitMix64: spreads every bit of `z` over all bits of the result.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The low and the high half.
fn halves(word: u64) -> (u32, u32) {
    ((word & 0xFFFF_FFFF) as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_odd_number_has_its_inverse() {
        for number in [1, 3, 5, 0x9E37_79B9, u32::MAX] {
            assert_eq!(number.wrapping_mul(inverse_of_odd(number)), 1);
        }
    }

    #[test]
    fn a_pod_visits_every_slot_once_and_knows_the_way_back() {
        for bits in 1..=13_u32 {
            let slots = 1_u32 << bits;
            let contender = Contender::new(PodIndex::new(0), u64::from(bits) * 77, 1, slots);
            let mut seen = alloc::vec![false; slots as usize];
            for visit in 0..slots {
                let slot = contender.permutation.slot(visit);
                assert!(!core::mem::replace(&mut seen[slot as usize], true));
                assert_eq!(contender.permutation.visit(slot), visit);
            }
        }
    }
}
