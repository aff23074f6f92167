//! The shell of hashroute: sockets, event loops, clocks, probes and metrics around what the data
//! plane decides.
//!
//! A [`Sidecar`] listens for gRPC and ZeroMQ requests, finds the key of each, and relays it to the
//! pod that the ring names. No rule about requests lives here: `hashroute_dataplane` decides, this
//! crate acts.
mod address;
mod clock;
mod error;
mod grpc;
mod metrics;
mod probe;
mod prober;
mod router;
mod routing;
mod settings;
mod shared;
mod sidecar;
mod snapshot;
mod threads;
mod zmq;

pub use error::{ApplyError, StartError};

pub use metrics::LatencySnapshot;
pub use router::{NoWriter, Request, Route, Router, RouterSettings, Turn, WriteRequest, Written};
pub use settings::{
    Envelope, HealthSettings, LimitSettings, ListenSettings, LoadSettings, Probe, RetrySettings,
    Settings, SettingsError, ZmqSettings,
};
pub use sidecar::Sidecar;
pub use snapshot::{AddressesSnapshot, Ended, PodSnapshot, Snapshot, StatusCount, Totals};
