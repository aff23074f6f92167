//! What operators do from outside: found a cluster, look at it, change its record.
use std::time::Duration;

use hashroute_coordination::{LeaseParameters, Record};
use hashroute_core::{Epoch, PodId, View};
use serde::Deserialize;

use crate::error::{CallError, ChangeFailed, StartError};
use crate::settings::{SettingsError, TlsSettings, millis};

/// Whom to call, and how. As a JSON document every field must be given, and an unknown one is
/// refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSettings {
    /// The name of the cluster.
    pub cluster: String,
    /// `host:port` of its processes.
    pub voters: Vec<String>,
    /// Certificates; none for connections in the clear.
    pub tls: Option<TlsSettings>,
    /// How long one call may take.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
}

impl OperatorSettings {
    /// Reads the JSON document.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Malformed`], saying which field is wrong.
    pub fn from_json(document: &str) -> Result<Self, SettingsError> {
        serde_json::from_str(document)
            .map_err(|error| SettingsError::Malformed { reason: error.to_string() })
    }
}

/// Calls the processes of a cluster. Every method waits for its answers.
#[derive(Debug)]
pub struct Operator {}

/// What a process says of itself.
#[derive(Clone, Debug)]
pub struct Description {
    /// Whom was asked.
    pub address: String,
    /// The name of its cluster.
    pub cluster: String,
    /// The id of its voter, 32 hexadecimal digits; empty if it does not vote.
    pub voter_id: String,
    /// Its record.
    pub record: Option<Record>,
    /// Its figures, as JSON.
    pub snapshot: String,
}

impl Operator {
    /// Makes an operator. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`StartError::Settings`], [`StartError::Tls`], or [`StartError::Thread`] if the operating
    /// system gives no event queue to wait on.
    pub fn new(settings: OperatorSettings) -> Result<Self, StartError> {
        let _ = settings;
        todo!()
    }

    /// Asks every process who it is; in the order of the settings.
    #[must_use]
    pub fn describe(&self) -> Vec<Result<Description, CallError>> {
        todo!()
    }

    /// Founds the cluster: learns the voters' ids, makes the first record of them, and tells all.
    /// Repeating it after a part of it failed finishes it.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`]: a voter cannot be reached, or has a record of another founding.
    pub fn found(
        &self,
        view: &View,
        lease: LeaseParameters,
        groups: &[(String, Vec<PodId>)],
    ) -> Result<Record, ChangeFailed> {
        let _ = (view, lease, groups);
        todo!()
    }

    /// Makes a change, given as JSON with one key: `{"drain": {"pod": …}}`, `{"remove": {"pod": …}}`,
    /// `{"reweight": {"pod": …, "weight": …}}`, `{"lead": {"group": …, "leader": … or null}}`,
    /// `{"add_group": {"name": …, "candidates": […]}}`, `{"replace_voter": {"old": id or address,
    /// "new": address}}`.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`].
    pub fn change(&self, change: &str) -> Result<Epoch, ChangeFailed> {
        let _ = change;
        todo!()
    }
}
