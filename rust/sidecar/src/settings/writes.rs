//! What is told about writes that have one writer, and about the guard in front of a service.
use std::time::Duration;

use hashroute_dataplane::route::{OnMissing, Writes};
use serde::{Deserialize, Deserializer};

use super::{Settings, SettingsError};

/// The guard in front of the own pod's service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardSettings {
    /// For gRPC, if there is one.
    pub grpc: Option<Door>,
    /// For ZeroMQ, if there is one.
    pub zmq: Option<Door>,
    /// What a write without a tag gets.
    pub untagged: Untagged,
}

/// Where a guard listens, and where it passes on what it admits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    /// `host:port` for gRPC, `tcp://host:port` for ZeroMQ.
    pub listen: String,
    /// The address of the service, in the same form.
    pub service: String,
}

/// What a write gets that does not say by which record it was routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Untagged {
    /// It is refused.
    Reject,
    /// It is judged by this pod's own record.
    Own,
}

/// How long a write looks for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteSettings {
    /// For how long a pod that accepts it is looked for; never past the caller's deadline.
    #[serde(rename = "patience_ms", deserialize_with = "millis")]
    pub patience: Duration,
}

/// Two seconds: four times what a new writer takes to be there at the default lease.
impl Default for WriteSettings {
    fn default() -> Self {
        Self { patience: Duration::from_secs(2) }
    }
}

impl Settings {
    /// Checks what has one writer against the rest.
    pub(super) fn check_writes(&self) -> Result<(), SettingsError> {
        let conflict = |key: String, reason| Err(SettingsError::Conflict { key, reason });
        for (route, place) in self.routes.routes().iter().zip(0..) {
            if route.writes == Some(Writes::Slot) && route.on_missing == OnMissing::Any {
                return conflict(format!("routes[{place}].on_missing"), NO_OWNER);
            }
        }
        if self.zmq.writes() == Some(Writes::Slot) && self.zmq.on_missing == OnMissing::Any {
            return conflict("zmq.on_missing".to_owned(), NO_OWNER);
        }
        Ok(())
    }
}

const NO_OWNER: &str = "a write without a key has no owner: expected reject, or a group";

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
