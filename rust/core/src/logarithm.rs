//! The natural logarithm in integers, as the times of a race need it.
//!
//! The k-th visit of a pod of weight one happens at about -ln(1 - k/M). `f64::ln` differs between
//! platforms, so these times are sums of integer series: `D(n)` approximates ln(n / (n - 1)) with
//! 58 bits after the point, and the sums `P(n) = D(1) + ... + D(n)` give the time of visit k as
//! `tau(k) = P(M) - P(M - k)`. `P` does not depend on M, so one table serves every ring.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// Up to this number of slots the sums are a constant of the program.
const FIXED_SLOTS: usize = 1 << 16;

#[allow(long_running_const_eval, reason = "65,536 short series take the compiler a moment")]
static FIXED_SUMS: [u64; FIXED_SLOTS + 1] = fixed_sums();

/// The times of a pod of weight one in a ring of M slots, with 58 bits after the point.
#[derive(Clone, Debug)]
pub(crate) struct Logarithm {
    slots: usize,
    grown: Option<Arc<[u64]>>,
    /// tau at the beginning of each block of visits, and at the end: small enough to stay in the
    /// first cache, and enough to tell most visits apart.
    coarse: Arc<[u64]>,
}

/// The most blocks of the coarse table, a power of two.
const BLOCKS_MAX: usize = 512;

impl Logarithm {
    pub(crate) fn new(slots: u32) -> Self {
        let slots = slots as usize;
        let grown = (slots > FIXED_SLOTS).then(|| grown_sums(slots));
        let sums = grown.as_deref().unwrap_or(&FIXED_SUMS);
        let coarse = sums[..=slots].iter().rev().step_by(block(slots)).map(|sum| sums[slots] - sum);
        let coarse = coarse.collect();
        Self { slots, grown, coarse }
    }

    /// M.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.slots).unwrap_or(u32::MAX)
    }

    /// The table of tau for quick reading.
    pub(crate) fn times(&self) -> Times<'_> {
        let sums = self.grown.as_deref().unwrap_or(&FIXED_SUMS);
        let sums = &sums[..=self.slots];
        let block_bits = block(self.slots).trailing_zeros();
        Times { last: sums[self.slots], sums, coarse: &self.coarse, block_bits }
    }
}

/// How many visits a block has.
fn block(slots: usize) -> usize {
    (slots / BLOCKS_MAX).max(1)
}

/// See [`Logarithm::times`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times<'a> {
    sums: &'a [u64],
    last: u64,
    coarse: &'a [u64],
    block_bits: u32,
}

impl Times<'_> {
    /// M.
    #[inline]
    pub(crate) fn slots(self) -> u64 {
        self.sums.len() as u64 - 1
    }

    /// A time that tau(k) is not before, and one that tau(k + 1) is not after.
    #[inline]
    pub(crate) fn around(self, visit: u32) -> (u64, u64) {
        let block = visit.wrapping_shr(self.block_bits) as usize;
        (self.coarse[block], self.coarse[block + 1])
    }

    /// The first visit after the block of `visit`.
    pub(crate) fn block_end(self, visit: u32) -> u32 {
        (visit.wrapping_shr(self.block_bits) + 1) << self.block_bits
    }

    /// The first visit of the first block that does not end at a tau for which `is_before` holds.
    pub(crate) fn blocks_before(self, is_before: impl Fn(u64) -> bool) -> u32 {
        self.first_of_block(self.coarse.partition_point(|tau| is_before(*tau)).saturating_sub(1))
    }

    /// The first visit of the first block that begins at a tau for which `is_not_after` fails.
    pub(crate) fn blocks_not_after(self, is_not_after: impl Fn(u64) -> bool) -> u32 {
        self.first_of_block(self.coarse.partition_point(|tau| is_not_after(*tau)))
    }

    fn first_of_block(self, block: usize) -> u32 {
        u32::try_from(block << self.block_bits).unwrap_or(u32::MAX)
    }

    /// tau(k) and tau(k + 1) - tau(k), for k below M.
    #[inline]
    pub(crate) fn tau_and_gap(self, visit: u32) -> (u64, u64) {
        let place = self.sums.len() - 1 - visit as usize;
        (self.last - self.sums[place], self.sums[place] - self.sums[place - 1])
    }

    /// How many visits of a pod of weight one are over by `time`: the k with tau(k + 1) <= time.
    pub(crate) fn visits_until(self, time: u64) -> u32 {
        let slots = self.sums.len() - 1;
        // tau(k + 1) <= time means that P(M - k - 1) is at least what is left of the last time.
        let left = self.last.saturating_sub(time);
        let visits = slots - self.sums[..slots].partition_point(|sum| *sum < left);
        u32::try_from(visits).unwrap_or(u32::MAX)
    }
}

const fn fixed_sums() -> [u64; FIXED_SLOTS + 1] {
    let mut sums = [0; FIXED_SLOTS + 1];
    let mut n = 1;
    while n <= FIXED_SLOTS {
        sums[n] = sums[n - 1] + gap(n as u64);
        n += 1;
    }
    sums
}

fn grown_sums(slots: usize) -> Arc<[u64]> {
    let mut sums = Vec::with_capacity(slots + 1);
    sums.extend_from_slice(&FIXED_SUMS);
    let mut sum = FIXED_SUMS[FIXED_SLOTS];
    for n in FIXED_SLOTS + 1..=slots {
        sum += gap(n as u64);
        sums.push(sum);
    }
    Arc::from(sums)
}

/// D(n): ln(n / (n - 1)) = 2 artanh(1 / (2n - 1)) by its series, every term rounded down.
/// D(1), which would be infinite, is 1: it ends the race for the last slot.
const fn gap(n: u64) -> u64 {
    if n == 1 {
        return 1 << 58;
    }
    let x = 2 * n - 1;
    let mut power = (1 << 59) / x;
    let mut sum = power;
    let mut odd = 3;
    loop {
        power /= x * x;
        if power == 0 {
            return sum;
        }
        sum += power / odd;
        odd += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tau(k), for k from 0 to M.
    fn tau(logarithm: &Logarithm, visit: u32) -> u64 {
        match visit.checked_sub(1) {
            None => 0,
            Some(before) => {
                let (tau, gap) = logarithm.times().tau_and_gap(before);
                tau + gap
            }
        }
    }

    #[test]
    fn the_times_of_65536_slots_are_pinned() {
        let logarithm = Logarithm::new(65_536);
        let tau = |visit| tau(&logarithm, visit);
        assert_eq!(tau(0), 0);
        assert_eq!(tau(1), 4_398_080_065_877);
        assert_eq!(tau(2), 8_796_227_242_666);
        assert_eq!(tau(32_768), 199_786_072_581_258_759);
        assert_eq!(tau(65_535), 3_196_577_161_300_597_428);
        assert_eq!(tau(65_536), 3_484_807_537_452_309_172);
    }

    #[test]
    fn the_coarse_times_are_around_the_fine_ones() {
        for slots in [2_u32, 64, 512, 1024, 65_536, 1 << 17] {
            let logarithm = Logarithm::new(slots);
            for visit in (0..slots).step_by(7).chain([slots - 1]) {
                let (tau, gap) = logarithm.times().tau_and_gap(visit);
                let (before, after) = logarithm.times().around(visit);
                assert!(before <= tau && tau + gap <= after, "slots {slots}, visit {visit}");
            }
        }
    }

    #[test]
    fn a_grown_table_goes_on_where_the_fixed_one_ends() {
        let grown = Logarithm::new(1 << 17);
        let fixed = Logarithm::new(1 << 16);
        let gap_of = |logarithm: &Logarithm, visit| logarithm.times().tau_and_gap(visit).1;
        assert_eq!(gap_of(&grown, 1 << 16), gap_of(&fixed, 0));
        assert_eq!(gap_of(&grown, (1 << 16) - 1), gap((1 << 16) + 1));
        assert_eq!(grown.times().tau_and_gap(77_778).0, tau(&grown, 77_778));
    }

    #[test]
    #[allow(clippy::cast_precision_loss, reason = "only compared up to a tolerance")]
    fn times_are_the_natural_logarithm() {
        for slots in [2_u32, 64, 65_536, 1 << 18] {
            let logarithm = Logarithm::new(slots);
            for visit in [0, 1, slots / 3, slots / 2, slots - 1] {
                let tau = tau(&logarithm, visit) as f64 / 2_f64.powi(58);
                let exact = -(1.0 - f64::from(visit) / f64::from(slots)).ln();
                assert!((tau - exact).abs() < 1e-12, "slots {slots}, visit {visit}");
            }
        }
    }
}
