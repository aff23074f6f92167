//! Weights and other fractions, kept as integer millionths so that no platform's floating point
//! can decide where a key lives.

use crate::error::ViewError;

/// How much of the slots a pod gets, relative to the other pods of its view.
///
/// Kept in millionths: `0.1` is 100,000. From 0.000001 to 1,100,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u64);

impl Weight {
    /// The weight of a pod that names none.
    pub const ONE: Self = Self(1_000_000);
    /// The smallest weight, in millionths.
    pub const MILLIONTHS_MIN: u64 = 1;
    /// The largest weight, in millionths. With 65,535 such pods all sums stay inside 64 bits.
    pub const MILLIONTHS_MAX: u64 = 1_100_000_000_000;

    /// Rounds `weight` to millionths, halves to even.
    ///
    /// # Errors
    ///
    /// [`ViewError::WeightNotFinite`], [`ViewError::WeightNotPositive`], and
    /// [`ViewError::WeightOutOfRange`] if the rounded weight is outside the range.
    pub fn new(weight: f64) -> Result<Self, ViewError> {
        if !weight.is_finite() {
            return Err(ViewError::WeightNotFinite { weight });
        }
        if weight <= 0.0 {
            return Err(ViewError::WeightNotPositive { weight });
        }
        let millionths = to_millionths(weight).ok_or(ViewError::WeightOutOfRange { weight })?;
        if !(Self::MILLIONTHS_MIN..=Self::MILLIONTHS_MAX).contains(&millionths) {
            return Err(ViewError::WeightOutOfRange { weight });
        }
        Ok(Self(millionths))
    }

    /// The weight as the number a user would write.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        from_millionths(self.0)
    }

    /// The weight in millionths.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

/// Rounds a number that is not negative to millionths, halves to even; `None` from 2^52 up.
///
/// One multiplication and one rounding, both exactly defined by IEEE 754, so every platform and
/// language agrees on the result.
pub(crate) fn to_millionths(number: f64) -> Option<u64> {
    // Above 2^52 a double has no fraction, so adding it rounds to an integer, halves to even.
    const ROUNDER: f64 = 4_503_599_627_370_496.0;
    let scaled = number * 1e6;
    if !(0.0..ROUNDER).contains(&scaled) {
        return None;
    }
    let rounded = (scaled + ROUNDER) - ROUNDER;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an integer from 0 to 2^52, as was just checked"
    )]
    Some(rounded as u64)
}

/// The double nearest to `millionths` / 10^6; [`to_millionths`] gives `millionths` back.
pub(crate) fn from_millionths(millionths: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "millionths stay below 2^52")]
    let exact = millionths as f64;
    exact / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_in_millionths() {
        assert_eq!(Weight::new(0.1).unwrap().millionths(), 100_000);
        assert_eq!(Weight::new(1.0).unwrap(), Weight::ONE);
        assert_eq!(Weight::new(2.5).unwrap().millionths(), 2_500_000);
        assert_eq!(Weight::new(1.1e6).unwrap().millionths(), Weight::MILLIONTHS_MAX);
    }

    #[test]
    fn halves_round_to_even() {
        // Both products are exact halves in binary: 2.5 and 3.5 millionths.
        assert_eq!(to_millionths(2.5e-6), Some(2));
        assert_eq!(to_millionths(3.5e-6), Some(4));
        assert_eq!(to_millionths(0.4e-6), Some(0));
    }

    #[test]
    fn a_weight_that_means_nothing_is_refused() {
        for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(Weight::new(weight), Err(ViewError::WeightNotFinite { .. })));
        }
        for weight in [0.0, -0.0, -1.0] {
            assert!(matches!(Weight::new(weight), Err(ViewError::WeightNotPositive { .. })));
        }
        for weight in [1e-7, 1.2e6, 1e300] {
            assert!(matches!(Weight::new(weight), Err(ViewError::WeightOutOfRange { .. })));
        }
    }

    #[test]
    fn a_weight_survives_the_way_through_a_double() {
        for millionths in [1, 3, 100_000, 333_333, 999_999, 1_000_001, Weight::MILLIONTHS_MAX] {
            let weight = Weight::new(from_millionths(millionths)).unwrap();
            assert_eq!(weight.millionths(), millionths);
        }
    }
}
