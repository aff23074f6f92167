//! What a node is told: one JSON document, made by the Python configuration, checked here once.
use std::path::PathBuf;
use std::time::Duration;

use hashroute_coordination::{LeaseError, LeaseParameters};
use hashroute_core::{View, ViewError};
use serde::{Deserialize, Deserializer};

use crate::wire::check_view;

/// All settings of a node. Every field must be given; an unknown one is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// The name of the cluster: a process of another one is refused.
    pub cluster: String,
    /// What holds the record and the leases.
    pub engine: Engine,
    /// `host:port` of the quorum services to learn the cluster from: those of its first voters, or
    /// of later ones. Whom to ask after that is in the record. With etcd: of the voters that grant
    /// leases; none if those lie in etcd, too.
    pub voters: Vec<String>,
    /// `host:port` to serve voters' part on; none for a process that does not vote.
    pub listen: Option<String>,
    /// `host:port` by which others reach `listen`; none if that is the same.
    pub advertise: Option<String>,
    /// The directory of the voter's disk; none for a process that does not vote.
    pub data: Option<PathBuf>,
    /// The id of the pod that this process is the member of, out of `view`; none for a witness and
    /// for a router.
    pub pod: Option<String>,
    /// The view that the file describes: what the member says of its pod when it joins, and what a
    /// cluster is founded with. Once there is a record, its view is what counts.
    pub view: View,
    /// The numbers of the lease that a cluster is founded with. Those of the record count: a member
    /// that is told others takes part by the record's, and warns.
    pub lease: LeaseSettings,
    /// Certificates; none for connections in the clear.
    pub tls: Option<TlsSettings>,
    /// The priority to ask for on the thread that keeps the lease.
    pub priority: Priority,
    /// A router that hears from no majority of voters for so long marks its answers stale.
    #[serde(rename = "stale_after_ms", deserialize_with = "millis")]
    pub stale_after: Duration,
    /// For how long stalls of the machine are measured at the start, before the process joins.
    #[serde(rename = "stall_check_ms", deserialize_with = "millis")]
    pub stall_check: Duration,
    /// Whether to start although the measured stalls are too long for the lease.
    pub force: bool,
}

/// What holds the record and the leases.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Engine {
    /// Our voters.
    Embedded,
    /// An etcd cluster.
    Etcd {
        /// `host:port` of its members.
        endpoints: Vec<String>,
        /// What comes before every key.
        prefix: String,
    },
}

impl Engine {
    /// Its name, as the configuration has it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Etcd { .. } => "etcd",
        }
    }
}

/// The numbers of a lease, in microseconds, as they travel in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSettings {
    /// L.
    pub ttl_us: u64,
    /// h.
    pub renewal_interval_us: u64,
    /// rho, in millionths.
    pub drift_ppm: u32,
    /// eps.
    pub margin_us: u64,
}

/// Certificates and the key of this process, as paths of PEM files. Both sides show theirs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Who signs the certificates of this cluster.
    pub ca: PathBuf,
    /// The certificate of this process.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The name that the certificates of voters are made out to; none: the host of the address.
    pub server_name: Option<String>,
}

/// The priority of the thread that keeps the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Real-time (`SCHED_FIFO`) if the system allows it, else what every thread has, with a warning.
    Realtime,
    /// What every thread has.
    Ordinary,
}

/// What is wrong with the settings of a node.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not the document that is expected.
    #[error("the settings are not what is expected: {reason}")]
    Malformed {
        /// What the parser said.
        reason: String,
    },
    /// The view is not valid.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The numbers of the lease break an inequality.
    #[error("quorum.lease: {0}")]
    Lease(#[from] LeaseError),
    /// A setting that does not go with the others.
    #[error("{key}: {reason}")]
    Conflict {
        /// The setting, as TOML writes it.
        key: &'static str,
        /// What is wrong, and what to write.
        reason: String,
    },
}

impl SettingsError {
    /// The stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::View(error) => error.code(),
            Self::Lease(_) => "lease_unsafe",
            Self::Malformed { .. } | Self::Conflict { .. } => "setting",
        }
    }
}

impl NodeSettings {
    /// Reads the JSON document.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Malformed`], saying which field is wrong.
    pub fn from_json(document: &str) -> Result<Self, SettingsError> {
        serde_json::from_str(document)
            .map_err(|error| SettingsError::Malformed { reason: error.to_string() })
    }

    /// Checks what no type does, and returns the numbers of the lease.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], naming the setting or the inequality.
    pub fn check(&self) -> Result<LeaseParameters, SettingsError> {
        let conflict = |key, reason: &str| SettingsError::Conflict { key, reason: reason.into() };
        if self.cluster.is_empty() || self.cluster.len() > 255 {
            return Err(conflict("quorum.cluster", "expected a name of 1 to 255 bytes"));
        }
        match (&self.engine, self.voters.len()) {
            (Engine::Embedded, 0) => {
                return Err(conflict(
                    "quorum.voters",
                    "expected the addresses of 1, 3 or 5 voters",
                ));
            }
            (Engine::Etcd { .. }, 0) if self.listen.is_some() || self.data.is_some() => {
                let reason = "with engine = \"etcd\" a process votes only if leases are granted by \
                              voters: name all 3 or 5 of them, or leave quorum.listen and quorum.data away";
                return Err(conflict("quorum.voters", reason));
            }
            (Engine::Embedded, _) | (Engine::Etcd { .. }, 0 | 3 | 5) => {}
            (Engine::Etcd { .. }, _) => {
                let reason = "with engine = \"etcd\", expected the addresses of the 3 or 5 voters that \
                              grant leases, or none: then leases lie in etcd, too";
                return Err(conflict("quorum.voters", reason));
            }
        }
        if self.data.is_some() != self.listen.is_some() {
            let reason = "a voter needs both an address to listen on and a directory for its disk";
            return Err(conflict("quorum.listen, quorum.data", reason));
        }
        self.check_addresses()?;
        if let Some(pod) = &self.pod
            && self.view.index_of(pod).is_none()
        {
            let reason = format!("there is no pod {pod:?}: add a table [pods.{pod}]");
            return Err(SettingsError::Conflict { key: "quorum.pod", reason });
        }
        check_view(&self.view).map_err(|error| {
            let reason = format!("not a view that voters can agree on: {error}");
            SettingsError::Conflict { key: "ring, pods", reason }
        })?;
        Ok(LeaseParameters::from(self.lease).check()?)
    }
}

impl NodeSettings {
    /// What others cannot reach, or could not hear often enough.
    fn check_addresses(&self) -> Result<(), SettingsError> {
        let conflict = |key, reason: &str| SettingsError::Conflict { key, reason: reason.into() };
        let listen = self.listen.as_deref().unwrap_or_default();
        let everywhere = ["0.0.0.0:", "[::]:"].iter().any(|it| listen.starts_with(it));
        if everywhere && self.advertise.is_none() {
            let reason = "listen is on every interface: say by which host:port others reach it";
            return Err(conflict("quorum.advertise", reason));
        }
        if self.stale_after < STALE_AFTER_LEAST {
            let reason = "expected at least 300ms: voters are heard ten times a second";
            return Err(conflict("quorum.stale_after", reason));
        }
        Ok(())
    }
}

/// Three beats of a voter.
const STALE_AFTER_LEAST: Duration = Duration::from_millis(300);

impl From<LeaseSettings> for LeaseParameters {
    fn from(settings: LeaseSettings) -> Self {
        Self {
            ttl: Duration::from_micros(settings.ttl_us),
            renewal_interval: Duration::from_micros(settings.renewal_interval_us),
            drift_ppm: settings.drift_ppm,
            margin: Duration::from_micros(settings.margin_us),
        }
    }
}

pub(crate) fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hashroute_core::{Epoch, Parameters, Pod, PodId};

    use super::*;

    fn check(slots: u64, zone: &str) -> Result<LeaseParameters, SettingsError> {
        let document = r#"{"cluster": "desk-7", "engine": "embedded", "voters": ["a:1"],
            "listen": null, "advertise": null, "data": null, "pod": "pod-a",
            "view": {"version": 1, "pods": [{"id": "pod-a"}]},
            "lease": {"ttl_us": 300000, "renewal_interval_us": 50000, "drift_ppm": 1000,
                "margin_us": 10000},
            "tls": null, "priority": "ordinary", "stale_after_ms": 1000, "stall_check_ms": 0,
            "force": false}"#;
        let settings = NodeSettings::from_json(document).unwrap();
        let zone = Some(Arc::from(zone));
        let pods = vec![Pod { zone, ..Pod::new(PodId::new("pod-a").unwrap()) }];
        let parameters = Parameters::new(slots, 0.05, 0).unwrap();
        let view = View::new(Epoch::new(1), parameters, pods).unwrap();
        NodeSettings { view, ..settings }.check()
    }

    #[test]
    fn a_view_that_no_record_may_have_is_refused_before_anything_starts() {
        assert!(check(1 << 20, &"z".repeat(255)).is_ok());
        let fine = check(1 << 21, "z").unwrap_err();
        assert_eq!(fine.code(), "setting");
        assert!(fine.to_string().contains("at most 1048576"), "{fine}");
        let long = check(8, &"z".repeat(256)).unwrap_err();
        assert!(long.to_string().contains("pods.zone has 256 bytes"), "{long}");
    }
}
