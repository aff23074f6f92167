//! Which code and which data of a native error its Python class gets.

use hashroute_coordination::ChangeError;
use hashroute_core::{PlanError, ViewError};
use hashroute_dataplane::fleet::NoPod;
use hashroute_quorum as quorum;
use hashroute_sidecar::{ApplyError, NoWriter, SettingsError, StartError};

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

impl From<NoWriter> for Failure {
    fn from(error: NoWriter) -> Self {
        let text = error.to_string();
        match error {
            NoWriter::NotFollowing => Self::new("parameter", text).with("parameter", "write"),
            NoWriter::NoOwner { .. } => Self::new("no_pod", text),
        }
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
            StartError::Quorum(error) => error.into(),
            StartError::Thread { .. } => failure,
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

impl From<quorum::SettingsError> for Failure {
    fn from(error: quorum::SettingsError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            quorum::SettingsError::View(error) => Self::from(error).about("settings: view"),
            quorum::SettingsError::Lease(_) => failure.with("setting", "quorum.lease"),
            quorum::SettingsError::Conflict { key, .. } => failure.with("setting", key),
            quorum::SettingsError::Malformed { .. } => failure,
        }
    }
}

impl From<quorum::StartError> for Failure {
    fn from(error: quorum::StartError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            quorum::StartError::Settings(error) => error.into(),
            quorum::StartError::Listen { address, .. } => failure.with("address", address),
            quorum::StartError::Disk { path, .. }
            | quorum::StartError::DiskDamaged { path, .. }
            | quorum::StartError::OtherCluster { path, .. }
            | quorum::StartError::DiskInUse { path } => {
                failure.with("path", path.to_string_lossy().into_owned())
            }
            quorum::StartError::Tls { .. } => failure.with("setting", "quorum.tls"),
            // The rest says all there is in its text; so does what the room may add.
            quorum::StartError::StallsTooLong { .. } | quorum::StartError::Thread { .. } | _ => {
                failure
            }
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::View(error) => error.into(),
            ChangeError::Voters { .. }
            | ChangeError::UnknownVoter { .. }
            | ChangeError::UnknownGroup { .. }
            | ChangeError::DuplicateGroup { .. }
            | ChangeError::NotACandidate { .. }
            | ChangeError::NotTheLeader { .. }
            | ChangeError::NoOtherCandidate { .. }
            | ChangeError::VotersUnheard { .. }
            | ChangeError::NoWriter { .. }
            | ChangeError::AlreadyWriter { .. }
            | ChangeError::Busy { .. }
            | ChangeError::NotAgreed { .. }
            | ChangeError::Malformed { .. }
            | _ => Self::new(error.code(), error.to_string()),
        }
    }
}

impl From<quorum::ChangeFailed> for Failure {
    fn from(error: quorum::ChangeFailed) -> Self {
        match error {
            quorum::ChangeFailed::Refused(error) => error.into(),
            quorum::ChangeFailed::Told { code, message } => {
                let known = TOLD.into_iter().find(|known| **known == *code);
                Self::new(known.unwrap_or("change_refused"), message)
            }
            quorum::ChangeFailed::Unknown { .. } => Self::new("change_unknown", error.to_string()),
            quorum::ChangeFailed::Unreachable { .. } | _ => {
                Self::new("quorum_unreachable", error.to_string())
            }
        }
    }
}

/// Codes that another process may answer a change with, and whose class needs no data. A code that
/// is not among them, such as one of a later release, is told as the general one.
const TOLD: [&str; 22] = [
    "no_other_candidate",
    "not_the_leader",
    "voters_unheard",
    "already_a_voter",
    "change_malformed",
    "found_refused",
    "founded_already",
    "no_record",
    "not_a_voter",
    "same_voter",
    "voters",
    "unknown_voter",
    "unknown_group",
    "duplicate_group",
    "not_a_candidate",
    "no_writer",
    "already_writer",
    "changes_waiting",
    "not_agreed",
    "record_malformed",
    "change_unknown",
    "quorum_unreachable",
];
