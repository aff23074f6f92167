//! The load bound (P3): how much of the requests in flight one pod may have.

use thiserror::Error;

const MILLION: u128 = 1_000_000;
/// Beyond this factor a bound says nothing.
const C_MAX: f64 = 1_000.0;

/// A pod may have `max(floor, ceil(c x its fair share x the requests in flight))` requests in
/// flight, the arriving one included. Fair shares are by weight, among the pods that are up.
///
/// The floor keeps a quiet fleet from spilling: with one request in flight the fair share of each
/// of ten pods is a tenth of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBound {
    /// In millionths; `None` for no bound.
    c: Option<u32>,
    floor: u32,
}

/// A factor that cannot bound a load.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "the load bound c must be a number from 1 (no pod above its fair share) up, not {0}: write for example 1.25"
)]
pub struct LoadBoundError(f64);

impl LoadBound {
    /// No pod is ever too busy.
    pub const UNBOUNDED: Self = Self { c: None, floor: 0 };

    /// A bound of `c` times the fair share (in millionths, rounded), at least `floor`.
    ///
    /// An infinite `c`, or one above a thousand, bounds nothing.
    ///
    /// # Errors
    ///
    /// [`LoadBoundError`] if `c` is below 1, where the bounds would add up to less than the load,
    /// or not a number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 10^6 and 10^9 by then"
    )]
    pub fn new(c: f64, floor: u32) -> Result<Self, LoadBoundError> {
        if c.is_nan() || c < 1.0 {
            return Err(LoadBoundError(c));
        }
        let c = (c <= C_MAX).then(|| (c * 1e6).round() as u32);
        Ok(Self { c, floor })
    }

    /// Whether a pod with `in_flight` requests may have one more, when `total` are in flight with
    /// it and its fair share is `share` of `shares`.
    ///
    /// `n + 1 <= ceil(x)` is `n < x`, so no division is needed. No shares mean no bound.
    pub(super) fn admits(self, in_flight: u64, total: u64, share: u64, shares: u64) -> bool {
        let Some(c) = self.c else { return true };
        if in_flight < u64::from(self.floor) || shares == 0 {
            return true;
        }
        let fair = u128::from(c).saturating_mul(u128::from(total)).saturating_mul(share.into());
        let load = u128::from(in_flight).saturating_mul(shares.into()).saturating_mul(MILLION);
        load < fair
    }
}

/// c = 1.25 with a floor of 16: a quarter above fair is little enough to keep the tail short and
/// enough to keep nearly all keys at home; 16 requests are a ramp-up, not a load.
impl Default for LoadBound {
    fn default() -> Self {
        Self { c: Some(1_250_000), floor: 16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_factor_below_one_is_refused_and_an_infinite_one_bounds_nothing() {
        for c in [0.99, 0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(LoadBound::new(c, 16).is_err(), "{c}");
        }
        assert!(LoadBound::new(f64::INFINITY, 0).unwrap().admits(u64::MAX, 1, 1, 2));
        assert!(!LoadBound::new(1.0, 0).unwrap().admits(1, 1, 1, 1));
    }

    proptest! {
        #[test]
        fn the_bound_is_the_ceiling_of_the_fair_part_or_the_floor(
            c in 1_u32..5, floor in 0_u32..20, in_flight in 0_u64..200, total in 1_u64..1000,
            share in 1_u64..10, others in 0_u64..30,
        ) {
            let shares = share + others;
            let fair = (u64::from(c) * total * share).div_ceil(shares);
            let cap = fair.max(u64::from(floor));
            let bound = LoadBound::new(f64::from(c), floor).unwrap();
            prop_assert_eq!(bound.admits(in_flight, total, share, shares), in_flight < cap);
        }

        #[test]
        fn the_bounds_of_all_pods_hold_more_than_what_is_in_flight(
            loads in prop::collection::vec((0_u64..50, 1_u64..10), 1..8), c in 1.0..3.0, floor in 0_u32..5,
        ) {
            let bound = LoadBound::new(c, floor).unwrap();
            let total = loads.iter().map(|(in_flight, _)| in_flight).sum::<u64>() + 1;
            let shares = loads.iter().map(|(_, share)| share).sum();
            let takes = |(in_flight, share): &(u64, u64)| bound.admits(*in_flight, total, *share, shares);
            prop_assert!(loads.iter().any(takes));
        }
    }
}
