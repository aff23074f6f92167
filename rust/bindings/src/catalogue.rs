//! Which code and which data of a native error its Python class gets.

use hashroute_core::{PlanError, ViewError};
use hashroute_dataplane::fleet::NoPod;
use hashroute_sidecar::{ApplyError, SettingsError, StartError};

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

impl From<NoPod> for Failure {
    fn from(error: NoPod) -> Self {
        Self::new("no_pod", error.to_string())
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            SettingsError::View(error) => Self::from(error).about("settings: view"),
            SettingsError::OutOfRange { key, .. } | SettingsError::Conflict { key, .. } => {
                failure.with("setting", key)
            }
            SettingsError::Malformed { .. } => failure,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            StartError::Settings(error) => error.into(),
            StartError::Listen { address, .. } => failure.with("address", address),
            StartError::Thread { .. } | StartError::Quorum(_) => failure,
        }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            ApplyError::Settings(error) => error.into(),
            ApplyError::Fixed { key, .. } => failure.with("setting", key),
            ApplyError::StaleEpoch { .. } => failure.with("setting", "view.epoch"),
        }
    }
}
