//! Why a sidecar cannot start, or cannot take new settings.
use std::io;

use crate::settings::SettingsError;

/// Why a sidecar did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An address cannot be listened on.
    #[error("{key} = {address:?} cannot be listened on: {source}; {advice}")]
    Listen {
        /// The setting, such as `listen.grpc`.
        key: &'static str,
        /// Its value.
        address: String,
        /// What the operating system said.
        source: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// The operating system gave no thread.
    #[error("the thread {name} cannot be started: {source}; raise the limit on threads or memory")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// This process's part in the quorum did not start.
    #[error(transparent)]
    Quorum(#[from] hashroute_quorum::StartError),
}

impl StartError {
    /// A stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.code(),
            Self::Quorum(error) => error.code(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "address_in_use"
            }
            Self::Listen { .. } => "address_not_usable",
            Self::Thread { .. } => "thread_not_started",
        }
    }

    pub(crate) fn listen(key: &'static str, address: &str, source: io::Error) -> Self {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "the kinds that have advice of their own"
        )]
        let advice = match source.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
            io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
            io::ErrorKind::PermissionDenied => "choose a port above 1023, or grant the right",
            _ => "expected host:port with an address of this machine",
        };
        Self::Listen { key, address: address.to_owned(), source, advice }
    }
}

/// Why new settings were refused. The old ones stay in force, untouched.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A setting changed that is fixed for the life of a sidecar.
    #[error(
        "{key} cannot change while the sidecar runs (was {was}, now {now}); \
         restart it, or set it back"
    )]
    Fixed {
        /// The setting, such as `listen.grpc`.
        key: &'static str,
        /// The value in force.
        was: String,
        /// The value asked for.
        now: String,
    },
    /// The view is older than the one in force, or another one under the same epoch.
    #[error(
        "view.epoch is {got}, but epoch {current} is in force: a view that differs needs a higher \
         epoch"
    )]
    StaleEpoch {
        /// The epoch in force.
        current: u64,
        /// The epoch asked for.
        got: u64,
    },
}

impl ApplyError {
    /// A stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.code(),
            Self::Fixed { .. } => "setting_fixed",
            Self::StaleEpoch { .. } => "stale_epoch",
        }
    }
}
