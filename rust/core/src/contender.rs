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

/// One visit of a contender.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) by: &'a Contender,
    pub(crate) number: u32,
}

impl Visit<'_> {
    /// Whether this visit is before another one, to the same slot by another contender.
    ///
    /// The slot's order of its visitors: by time, then by the hash of the pod, then by its id.
    #[inline]
    pub(crate) fn is_before(self, other: Self, times: Times<'_>) -> bool {
        let (one, two) = (self.by, other.by);
        if one.weight == two.weight
            && self.number.abs_diff(other.number) > 1
            && one.is_told_by_visits(times)
        {
            return self.number < other.number;
        }
        self.is_ranked_before(other, times)
    }

    /// The same, by the times alone. Seldom needed, so it is kept out of the way of what is.
    #[inline(never)]
    fn is_ranked_before(self, other: Self, times: Times<'_>) -> bool {
        self.order(times) < other.order(times)
    }

    /// Whether this visit to `slot` is before that of another contender.
    #[inline(never)]
    pub(crate) fn is_before_that_of(self, other: &Contender, slot: u32, times: Times<'_>) -> bool {
        self.is_before(other.visit(slot), times)
    }

    /// What ranks the visitors of a slot.
    pub(crate) fn order(self, times: Times<'_>) -> (u64, u64, PodIndex) {
        (self.by.time(times, self.number), self.by.hash, self.by.pod)
    }
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

    /// Whether of two visits by pods of this weight the one of the lower number is earlier,
    /// unless their numbers are the same or neighbours.
    ///
    /// The times of weight one of such visits are 2^58 / M apart or more, so these are 2 apart.
    #[inline]
    pub(crate) fn is_told_by_visits(&self, times: Times<'_>) -> bool {
        self.pace >= 256 * times.slots()
    }

    /// This pod's visit to `slot`.
    #[inline]
    pub(crate) fn visit(&self, slot: u32) -> Visit<'_> {
        Visit { by: self, number: self.permutation.visit(slot) }
    }
}

/// The pods of a view that may own slots, in the order of the view.
pub(crate) fn contenders(view: &View) -> Vec<Contender> {
    let parameters = view.parameters();
    let owners = (0..=u16::MAX).zip(view.pods()).filter(|(_, pod)| pod.state.owns_slots());
    owners
        .map(|(place, pod)| {
            let hash = hash_pod_id(pod.id.as_str(), parameters.seed());
            Contender::new(PodIndex::new(place), hash, pod.weight.millionths(), parameters.slots())
        })
        .collect()
}

/// The same for a view of the parameters of another, whose contenders are `old`: what is known of a
/// pod is not computed again. Beside it, by contender, the place in `old` of the one of its id.
pub(crate) fn contenders_after(
    view: &View,
    before: &View,
    old: &[Contender],
) -> (Vec<Contender>, Vec<Option<u16>>) {
    let parameters = view.parameters();
    // Both lists are sorted by id.
    let mut known = (0..=u16::MAX)
        .zip(old)
        .filter_map(|(place, pod)| Some((&before.pod(pod.pod)?.id, place, pod)))
        .peekable();
    let owners = (0..=u16::MAX).zip(view.pods()).filter(|(_, pod)| pod.state.owns_slots());
    owners
        .map(|(place, pod)| {
            let (place, weight) = (PodIndex::new(place), pod.weight.millionths());
            while known.next_if(|(id, ..)| **id < pod.id).is_some() {}
            match known.next_if(|(id, ..)| **id == pod.id) {
                Some((_, origin, same)) => {
                    let pace = if same.weight == weight { same.pace } else { u64::MAX / weight };
                    (Contender { pod: place, weight, pace, ..same.clone() }, Some(origin))
                }
                None => {
                    let hash = hash_pod_id(pod.id.as_str(), parameters.seed());
                    (Contender::new(place, hash, weight, parameters.slots()), None)
                }
            }
        })
        .unzip()
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

    /// The slot of visit `visit`.
    #[inline]
    pub(crate) fn slot(self, visit: u32) -> u32 {
        let [m1, m2, m3] = self.factors;
        let x = visit.wrapping_mul(m1).wrapping_add(self.offset) & self.mask;
        let x = (x ^ x.wrapping_shr(self.half)).wrapping_mul(m2) & self.mask;
        let x = (x ^ x.wrapping_shr(self.half)).wrapping_mul(m3) & self.mask;
        x ^ x.wrapping_shr(self.half)
    }

    /// The slots of the visits from `first` on.
    #[inline]
    pub(crate) fn slots<const N: usize>(self, first: u32) -> [u32; N] {
        // Up to 2^16 slots all arithmetic may be modulo 2^16, of which the processor does eight
        // at a time.
        if self.mask <= u32::from(u16::MAX) {
            self.slots_in::<u16, N>(first)
        } else {
            self.slots_in::<u32, N>(first)
        }
    }

    #[inline]
    fn slots_in<W: Word, const N: usize>(self, first: u32) -> [u32; N] {
        let (mask, half) = (W::low(self.mask), self.half);
        let [m1, m2, m3] = self.factors.map(W::low);
        let start = W::low(first.wrapping_mul(self.factors[0]).wrapping_add(self.offset));
        let mut slots = [0; N];
        for (lane, slot) in (0..).zip(&mut slots) {
            let x = start.add(m1.mul(W::low(lane))).and(mask);
            let x = x.xor(x.shift(half)).mul(m2).and(mask);
            let x = x.xor(x.shift(half)).mul(m3).and(mask);
            *slot = x.xor(x.shift(half)).into();
        }
        slots
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

    /// The three inverses and the offset: what [`Permutation::visit`] needs of this pod.
    pub(crate) fn way_back(self) -> [u32; 4] {
        let [m1, m2, m3] = self.inverses;
        [m1, m2, m3, self.offset]
    }
}

/// An unsigned number as wide as needed: the narrower, the more of them in one instruction.
/// Nothing here overflows, it wraps.
pub(crate) trait Word: Copy + Ord + Into<u32> {
    /// 0.
    const ZERO: Self;
    /// All bits set.
    const MAX: Self;

    /// The low bits of a number.
    fn low(number: u32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// To the right.
    fn shift(self, bits: u32) -> Self;
}

macro_rules! word {
    ($width:ty) => {
        impl Word for $width {
            const ZERO: Self = 0;
            const MAX: Self = Self::MAX;

            #[inline]
            #[allow(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
            fn low(number: u32) -> Self {
                number as Self
            }

            #[inline]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            #[inline]
            fn and(self, other: Self) -> Self {
                self & other
            }

            #[inline]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }

            #[inline]
            fn shift(self, bits: u32) -> Self {
                self.wrapping_shr(bits)
            }
        }
    };
}

word!(u16);
word!(u32);

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
                assert_eq!(contender.permutation.slots::<4>(visit)[0], slot);
            }
        }
    }
}
