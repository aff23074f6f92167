//! The shell of hashroute: sockets, event loops, clocks, probes and metrics around what the data
//! plane decides.
//!
//! A [`Sidecar`] listens for gRPC and ZeroMQ requests, finds the key of each, and relays it to the
//! pod that the ring names. With a [`Quorum`] it follows the record, sends writes to their owner,
//! and guards the service of its own pod. No rule about requests lives here: `hashroute_dataplane`
//! decides, and `hashroute_coordination` who may write; this crate acts.
mod address;
mod clock;
mod error;
mod following;
mod grpc;
mod metrics;
mod probe;
mod prober;
mod quorum;
mod router;
mod routing;
mod settings;
mod shared;
mod sidecar;
mod snapshot;
mod threads;
mod writing;
mod zmq;

pub use error::{ApplyError, StartError};

pub use metrics::LatencySnapshot;
pub use quorum::{Admitted, Quorum, WriteGuard, explain, resource};
pub use router::{NoWriter, Request, Route, Router, RouterSettings, Turn, WriteRequest};
pub use settings::{
    Door, Envelope, GuardSettings, HealthSettings, LimitSettings, ListenSettings, LoadSettings,
    Probe, RetrySettings, Settings, SettingsError, Untagged, WriteSettings, ZmqSettings,
};
pub use sidecar::{Addresses, Sidecar};
pub use snapshot::{
    AddressesSnapshot, Ended, GuardSnapshot, PodSnapshot, Snapshot, StatusCount, Totals,
    WritesSnapshot,
};
pub use writing::Goal;
