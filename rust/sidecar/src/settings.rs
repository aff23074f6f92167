//! What a sidecar is told: one JSON document, made by the Python configuration, checked here once.
mod writes;

pub use writes::{Door, GuardSettings, Untagged, WriteSettings};

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use hashroute_core::{Ring, View, ViewError};
use hashroute_dataplane::fleet::{FleetPolicy, LoadBound};
use hashroute_dataplane::health::Policy;
use hashroute_dataplane::retry::ATTEMPTS_MAX;
use hashroute_dataplane::route::{OnMissing, RouteTable, Writes};
use hashroute_dataplane::write::GroupName;
use hashroute_quorum::NodeSettings;
use serde::{Deserialize, Deserializer, Serialize};

/// All settings of a sidecar. Every field must be given, but for those of the quorum; an unknown
/// one is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The view to route by, until the quorum's record gives another.
    pub view: View,
    /// Where to listen. Fixed for the life of a sidecar.
    pub listen: ListenSettings,
    /// Rules for gRPC methods; the first that matches counts.
    pub routes: RouteTable,
    /// Rules for ZeroMQ requests.
    pub zmq: ZmqSettings,
    /// How pods are probed.
    pub health: HealthSettings,
    /// How much more than its share a pod may have in flight.
    pub load: LoadSettings,
    /// When and how often a request is tried again.
    pub retry: RetrySettings,
    /// The bounds on what clients may use.
    pub limits: LimitSettings,
    /// This process's part in the quorum; none: the view is that of the settings, and what has one
    /// writer is routed like everything else. Fixed for the life of a sidecar.
    #[serde(default)]
    pub quorum: Option<NodeSettings>,
    /// The guard in front of the own pod's service. Fixed for the life of a sidecar.
    #[serde(default)]
    pub guard: Option<GuardSettings>,
    /// How long a write looks for a pod.
    #[serde(default)]
    pub writes: WriteSettings,
}

/// Addresses to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenSettings {
    /// `host:port` for gRPC, or none.
    pub grpc: Option<String>,
    /// `tcp://host:port` for ZeroMQ, or none.
    pub zmq: Option<String>,
}

/// Rules for ZeroMQ requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZmqSettings {
    /// Which frame after the envelope is the key, from 0.
    pub key_frame: usize,
    /// Whether a request that may have reached a pod may be sent again.
    pub idempotent: bool,
    /// How the envelope ends.
    pub envelope: Envelope,
    /// How long a request may take before it is answered with `DEADLINE_EXCEEDED`.
    #[serde(rename = "request_timeout_ms", deserialize_with = "millis")]
    pub request_timeout: Duration,
    /// The largest message, all frames together.
    pub message_bytes_max: usize,
    /// What a message without the key frame gets.
    pub on_missing: OnMissing,
    /// Whether every request writes the slot of its key.
    #[serde(default)]
    pub write: bool,
    /// The group that every request writes.
    #[serde(default)]
    pub group: Option<GroupName>,
}

impl ZmqSettings {
    /// What every request writes.
    #[must_use]
    pub fn writes(&self) -> Option<Writes> {
        let group = self.group.clone().map(Writes::Group);
        group.or_else(|| self.write.then_some(Writes::Slot))
    }
}

/// How a ZeroMQ envelope ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// With the first empty frame, as REQ sends it.
    Delimited,
}

/// How pods are probed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSettings {
    /// Time between two probes of a pod.
    #[serde(rename = "interval_ms", deserialize_with = "millis")]
    pub interval: Duration,
    /// Time after which a probe without an answer counts as failed.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
    /// What a probe does.
    pub probe: Probe,
    /// The service named in a `grpc.health.v1` check; empty: the server as a whole.
    pub service: String,
}

/// What a probe does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Asks `grpc.health.v1.Health/Check`; `UNIMPLEMENTED` counts as alive.
    Grpc,
    /// Opens a connection.
    Connect,
}

/// How much more than its fair share of the requests in flight a pod may have.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSettings {
    /// The factor on the fair share, at least 1.
    pub c: f64,
    /// A pod may always have this many.
    pub floor: u32,
}

/// When and how often a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySettings {
    /// Attempts a request may take, the first included.
    pub attempts_max: u32,
    /// Retries earned by each request.
    pub budget_ratio: f64,
    /// Retries that may be saved up, and that a fresh sidecar has.
    pub budget_reserve: u32,
    /// How much of a request is kept to be sent again.
    pub buffer_bytes: usize,
}

/// The bounds on what clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Client connections of one transport.
    pub connections_max: u32,
    /// Requests of one transport being worked on.
    pub requests_max: u32,
    /// The largest list of headers of a request.
    pub header_list_bytes: u32,
    /// Time for a new connection to show that it speaks the protocol.
    #[serde(rename = "handshake_timeout_ms", deserialize_with = "millis")]
    pub handshake_timeout: Duration,
    /// Silence after which a peer is asked whether it is there; it has as long again to answer.
    #[serde(rename = "keepalive_ms", deserialize_with = "millis")]
    pub keepalive: Duration,
    /// How much of one stream may wait in the sidecar in each direction.
    pub stream_window_bytes: u32,
}

/// A setting that cannot be used, said so that it can be put right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The document is not JSON of the expected shape.
    #[error("settings: {reason}")]
    Malformed {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// One value is outside what it may be.
    #[error("settings: {key} is {got}, expected {expected}")]
    OutOfRange {
        /// The path of the value, such as `health.interval_ms`.
        key: String,
        /// The value.
        got: String,
        /// What it may be.
        expected: String,
    },
    /// The view cannot be routed by.
    #[error("settings: view: {0}")]
    View(#[from] ViewError),
    /// A setting that does not go with the others.
    #[error("settings: {key}: {reason}")]
    Conflict {
        /// The path of the setting.
        key: String,
        /// What is wrong, and what to write.
        reason: &'static str,
    },
}

impl SettingsError {
    /// A stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "settings_malformed",
            Self::OutOfRange { .. } => "setting_out_of_range",
            Self::Conflict { .. } => "setting",
            Self::View(error) => error.code(),
        }
    }
}

/// [`Settings`] that were checked, with what is built from them.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) settings: Settings,
    pub(crate) ring: Ring,
    pub(crate) policy: FleetPolicy,
}

impl Settings {
    /// Reads settings from JSON.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if the text is not JSON of this shape, or a value is out of range.
    pub fn from_json(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = serde_json::from_str(text)
            .map_err(|error| SettingsError::Malformed { reason: error.to_string() })?;
        settings.check_ranges()?;
        Ok(settings)
    }

    /// Checks everything and builds the ring.
    pub(crate) fn check(self) -> Result<Checked, SettingsError> {
        self.check_with(Ring::build)
    }

    /// The same, with the ring made from the one before: quicker where little changes.
    pub(crate) fn check_after(self, before: &Ring) -> Result<Checked, SettingsError> {
        self.check_with(|view| before.follow(view))
    }

    fn check_with(
        self,
        ring: impl FnOnce(View) -> Result<Ring, ViewError>,
    ) -> Result<Checked, SettingsError> {
        self.check_ranges()?;
        let load = LoadBound::new(self.load.c, self.load.floor)
            .map_err(|_| out_of_range("load.c", &self.load.c, "a number from 1 up"))?;
        let policy = FleetPolicy { load, health: Policy::for_probe_timeout(self.health.timeout) };
        let ring = ring(self.view.clone())?;
        Ok(Checked { ring, policy, settings: self })
    }

    fn check_ranges(&self) -> Result<(), SettingsError> {
        let limits = &self.limits;
        range("health.interval_ms", self.health.interval.as_millis(), 1..=HOUR_MS)?;
        range("health.timeout_ms", self.health.timeout.as_millis(), 1..=HOUR_MS)?;
        range("zmq.request_timeout_ms", self.zmq.request_timeout.as_millis(), 1..=24 * HOUR_MS)?;
        range("zmq.message_bytes_max", self.zmq.message_bytes_max, 1..=1 << 31)?;
        range("zmq.key_frame", self.zmq.key_frame, 0..=255)?;
        range("retry.attempts_max", self.retry.attempts_max, 1..=ATTEMPTS_MAX)?;
        range("retry.budget_ratio", self.retry.budget_ratio, 0.0..=1.0)?;
        range("retry.budget_reserve", self.retry.budget_reserve, 0..=1_000_000)?;
        range("retry.buffer_bytes", self.retry.buffer_bytes, 0..=1 << 26)?;
        range("limits.connections_max", limits.connections_max, 1..=1 << 20)?;
        range("limits.requests_max", limits.requests_max, 1..=1 << 20)?;
        range("limits.header_list_bytes", limits.header_list_bytes, 1 << 10..=1 << 24)?;
        range("limits.handshake_timeout_ms", limits.handshake_timeout.as_millis(), 1..=HOUR_MS)?;
        range("limits.keepalive_ms", limits.keepalive.as_millis(), 1..=HOUR_MS)?;
        range("limits.stream_window_bytes", limits.stream_window_bytes, 1 << 10..=1 << 24)?;
        range("writes.patience_ms", self.writes.patience.as_millis(), 0..=HOUR_MS)?;
        self.check_writes()
    }
}

pub(crate) const HOUR_MS: u128 = 3_600_000;

#[allow(clippy::needless_pass_by_value, reason = "bounds are written at the call, and small")]
pub(crate) fn range<T: PartialOrd + Display>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), SettingsError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", allowed.start(), allowed.end());
    Err(out_of_range(key, &value, &expected))
}

pub(crate) fn out_of_range(key: &str, got: &impl Display, expected: &str) -> SettingsError {
    SettingsError::OutOfRange {
        key: key.to_owned(),
        got: got.to_string(),
        expected: expected.to_owned(),
    }
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn document() -> Value {
        json!({
            "view": {
                "version": 1, "epoch": 1, "slots": 64, "epsilon": 0.05, "seed": 0,
                "pods": [{
                    "id": "a", "weight": 1.0, "zone": null, "state": "active",
                    "addresses": {"grpc": "127.0.0.1:1", "zmq": null},
                }],
            },
            "listen": {"grpc": "127.0.0.1:0", "zmq": null},
            "routes": [],
            "zmq": {
                "key_frame": 0, "idempotent": true, "envelope": "delimited",
                "request_timeout_ms": 30000, "message_bytes_max": 1000, "on_missing": "any",
            },
            "health": {"interval_ms": 50, "timeout_ms": 150, "probe": "grpc", "service": ""},
            "load": {"c": 1.25, "floor": 16},
            "retry": {
                "attempts_max": 3, "budget_ratio": 0.2, "budget_reserve": 256,
                "buffer_bytes": 65536,
            },
            "limits": {
                "connections_max": 4096, "requests_max": 16384, "header_list_bytes": 65536,
                "handshake_timeout_ms": 10000, "keepalive_ms": 10000,
                "stream_window_bytes": 65536,
            },
        })
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> SettingsError {
        let mut document = document();
        change(&mut document);
        let settings = Settings::from_json(&document.to_string());
        settings.and_then(Settings::check).map(|_| ()).expect_err("bad settings")
    }

    #[test]
    fn a_good_document_is_read_with_its_units() {
        let settings = Settings::from_json(&document().to_string()).expect("good settings");
        assert_eq!(settings.health.timeout, Duration::from_millis(150));
        assert_eq!(settings.limits.requests_max, 16_384);
        assert_eq!(settings.check().expect("good settings").ring.owners().len(), 64);
    }

    #[test]
    fn a_field_too_many_or_too_few_is_named() {
        let unknown = refusal(|document| document["retry"]["attempts"] = json!(3));
        assert_eq!(unknown.code(), "settings_malformed");
        assert!(unknown.to_string().contains("`attempts`"), "{unknown}");
        let missing = refusal(|document| {
            document["limits"].as_object_mut().expect("an object").remove("keepalive_ms");
        });
        assert!(missing.to_string().contains("`keepalive_ms`"), "{missing}");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_it_may_be() {
        for (section, key, value, range) in [
            ("health", "interval_ms", json!(0), "1 to 3600000"),
            ("retry", "attempts_max", json!(9), "1 to 8"),
            ("retry", "budget_ratio", json!(1.5), "0 to 1"),
            ("load", "c", json!(0.9), "a number from 1 up"),
            ("limits", "stream_window_bytes", json!(1), "1024 to 16777216"),
            ("writes", "patience_ms", json!(3_600_001), "0 to 3600000"),
        ] {
            let error = refusal(|document| document[section][key] = value.clone());
            let text = format!("settings: {section}.{key} is {value}, expected {range}");
            assert_eq!(error.to_string(), text);
            assert_eq!(error.code(), "setting_out_of_range");
        }
    }

    #[test]
    fn what_belongs_to_the_quorum_may_be_left_out() {
        let settings = Settings::from_json(&document().to_string()).expect("good settings");
        assert!(settings.quorum.is_none() && settings.guard.is_none());
        assert_eq!(settings.writes.patience, Duration::from_secs(2));
        assert_eq!(settings.zmq.writes(), None);
        let mut document = document();
        document["zmq"]["write"] = json!(true);
        document["zmq"]["on_missing"] = json!("reject");
        document["writes"] = json!({"patience_ms": 0});
        document["guard"] = json!({
            "grpc": null, "untagged": "own",
            "zmq": {"listen": "tcp://127.0.0.1:0", "service": "tcp://127.0.0.1:1"},
        });
        let settings = Settings::from_json(&document.to_string()).expect("good settings");
        assert_eq!(settings.zmq.writes(), Some(Writes::Slot));
        assert_eq!(settings.writes.patience, Duration::ZERO);
        assert_eq!(settings.guard.expect("a guard").untagged, Untagged::Own);
    }

    #[test]
    fn a_write_that_can_have_no_owner_is_refused() {
        let route = json!({
            "match": "/*", "key": ["path"], "on_missing": "any", "idempotent": false,
            "write": true, "group": null,
        });
        let error = refusal(|document| document["routes"] = json!([route]));
        assert!(error.to_string().contains("routes[0].on_missing"), "{error}");
        let error = refusal(|document| document["zmq"]["write"] = json!(true));
        assert!(error.to_string().contains("zmq.on_missing"), "{error}");
        let mut document = document();
        document["zmq"]["group"] = json!("desk");
        Settings::from_json(&document.to_string()).expect("a group needs no key");
    }

    #[test]
    fn a_view_that_cannot_be_routed_by_keeps_its_own_code() {
        let error = refusal(|document| document["view"]["pods"][0]["state"] = json!("draining"));
        assert_eq!(error, SettingsError::View(ViewError::NoEligiblePod { pods: 1 }));
        assert_eq!(error.code(), ViewError::NoEligiblePod { pods: 1 }.code());
    }
}
