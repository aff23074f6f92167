//! Why a node does not start, a call is not answered, or a change is not made.
use std::io;
use std::path::PathBuf;

use std::time::Duration;

use hashroute_coordination::{ChangeError, LeaseParameters};

use crate::settings::SettingsError;
use crate::stalls::STALLS_IN_A_LEASE;

/// Why a node did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The address cannot be listened on.
    #[error("quorum.listen = {address:?} cannot be listened on: {source}")]
    Listen {
        /// Its value.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The voter's state cannot be read or written.
    #[error(
        "the voter's state {path} cannot be used: {source}; check the directory and its rights"
    )]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The voter's state is there and not whole. It is never reset.
    #[error(
        "the voter's state {path} is damaged: {reason}. Nothing was changed. A voter that forgot its \
         votes must not vote: keep the file for inspection, move the directory away, start this \
         process again (it gets a new id), and let it take the old one's place with \
         `hashroute quorum replace-voter`"
    )]
    DiskDamaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The voter's state is whole and was written by a release with another format, or with other
    /// rules for where keys lie.
    #[error(
        "the voter's state {path} is whole, and this release cannot use it: {reason}. Nothing was \
         changed: start the release that wrote it"
    )]
    DiskOtherRelease {
        /// The directory.
        path: PathBuf,
        /// What is not understood.
        reason: String,
    },
    /// The voter's state is of another cluster.
    #[error(
        "the voter's state {path} is of cluster {found:?}, and quorum.cluster is {expected:?}: \
         point quorum.data at this cluster's directory"
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster of the settings.
        expected: String,
    },
    /// The voter's state is that of a voter of the embedded engine.
    #[error(
        "the voter's state {path} holds a record and votes of the embedded engine: nothing was changed. \
         With engine = \"etcd\" the record and what is voted for lie in etcd, and a voter keeps its id \
         alone: point quorum.data at an empty directory"
    )]
    DiskOfOtherEngine {
        /// The directory.
        path: PathBuf,
    },
    /// Another process uses the voter's state.
    #[error("the voter's state {path} is in use by another process: stop that one first")]
    DiskInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A certificate or key cannot be used.
    #[error("quorum.tls: {path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine stalls for longer than the lease allows.
    #[error(
        "the longest stall measured here was {worst_ms} ms, and a lease of {ttl_ms} ms is safe from \
         false ends only above {needed_ms} ms (four times the stall): raise quorum.lease.ttl, give \
         the process real-time priority, or set quorum.force"
    )]
    StallsTooLong {
        /// The longest stall.
        worst_ms: u64,
        /// The lease.
        ttl_ms: u64,
        /// Four times the stall.
        needed_ms: u64,
    },
    /// The operating system gives no random numbers: nobody could be told apart.
    #[error("the operating system gives no random numbers: {reason}")]
    NoRandomness {
        /// What it said.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("the thread {name} cannot be started: {source}; raise the limit on threads or memory")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn stalls_too_long(lease: LeaseParameters, worst: Duration) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let needed_ms = millis(worst * STALLS_IN_A_LEASE);
        Self::StallsTooLong { worst_ms: millis(worst), ttl_ms: millis(lease.ttl), needed_ms }
    }

    /// The stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.code(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "address_in_use"
            }
            Self::Listen { .. } => "address_not_usable",
            Self::Disk { .. } => "disk",
            Self::DiskDamaged { .. } => "disk_damaged",
            Self::DiskOtherRelease { .. } => "disk_other_release",
            Self::OtherCluster { .. } => "other_cluster",
            Self::DiskOfOtherEngine { .. } => "disk_of_other_engine",
            Self::DiskInUse { .. } => "disk_in_use",
            Self::Tls { .. } => "tls",
            Self::StallsTooLong { .. } => "stalls_too_long",
            Self::NoRandomness { .. } => "no_randomness",
            Self::Thread { .. } => "thread_not_started",
        }
    }
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeFailed {
    /// It leads to no valid record, or was not agreed on.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// A voter or member that was asked says no, in words.
    #[error("{message}")]
    Told {
        /// The stable name of the situation.
        code: String,
        /// Why.
        message: String,
    },
    /// No answer in time: it may yet be made.
    #[error("no answer within {patience_ms} ms: whether the change is made is not known yet")]
    Unknown {
        /// How long was waited.
        patience_ms: u64,
    },
    /// Nobody who could make it can be reached.
    #[error("no process that can change the record can be reached: {reason}")]
    Unreachable {
        /// What was tried.
        reason: String,
    },
}

impl ChangeFailed {
    /// The stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Told { code, .. } => code,
            Self::Unknown { .. } => "change_unknown",
            Self::Unreachable { .. } => "quorum_unreachable",
        }
    }
}

/// Why a call to another process brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct CallError {
    /// Whom was asked.
    pub address: String,
    /// What came of it.
    pub reason: String,
}
