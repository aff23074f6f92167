//! Which code and which data of a native error its Python class gets.

use hashroute_core::{PlanError, ViewError};

use crate::failure::Failure;

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            ViewError::DuplicatePod { id } | ViewError::UnknownPod { id } => {
                failure.with("pod", id)
            }
            ViewError::BadId { bytes } => failure.with("length_bytes", bytes),
            ViewError::WeightNotFinite { weight }
            | ViewError::WeightNotPositive { weight }
            | ViewError::WeightOutOfRange { weight } => failure.with("weight", weight),
            ViewError::SlotsNotPowerOfTwo { .. } | ViewError::SlotsOutOfRange { .. } => {
                failure.with("parameter", "slots")
            }
            ViewError::EpsilonNotFinite { .. } | ViewError::EpsilonOutOfRange { .. } => {
                failure.with("parameter", "epsilon")
            }
            ViewError::EpochExhausted => failure.with("parameter", "epoch"),
            ViewError::TooManyPods { pods, pods_max } => {
                failure.with("pods", pods).with("pods_max", pods_max)
            }
            ViewError::MorePodsThanSlots { pods, slots } => {
                failure.with("pods", pods).with("pods_max", u64::from(slots))
            }
            ViewError::MissingField { path, .. }
            | ViewError::UnknownField { path, .. }
            | ViewError::WrongValue { path, .. } => failure.with("path", path),
            // The rest says all there is in its text; so does what core may add.
            ViewError::Empty
            | ViewError::NoEligiblePod { .. }
            | ViewError::NotJson { .. }
            | ViewError::UnsupportedVersion { .. }
            | _ => failure,
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
