//! The shell of the single writer: the transport between voters, members and routers, the voter's
//! disk, the clock, the thread at real-time priority, around what `hashroute_coordination` decides.
//!
//! A [`Node`] is one process's part in a cluster: a voter, a member, both, or a router that only
//! follows the record. A [`PodGuard`] admits writes where they arrive. An [`Operator`] founds a
//! cluster, looks at it and changes its record. No rule of the protocol lives here.
#![deny(unsafe_code)]

mod answer_counts;
mod attendees;
mod calls;
mod clock;
mod dice;
mod disk;
mod disk_thread;
mod drift;
mod error;
mod etcd;
mod figures;
mod followers;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::expect_used, clippy::panic, reason = "a fuzz body reports by panicking")]
pub mod fuzzing;
mod guard;
mod incoming;
mod link;
mod links;
mod node;
mod operator;
mod outbox;
mod priority;
mod record_json;
mod records;
mod server;
mod settings;
mod shared;
mod shell;
mod snapshot;
mod stalls;
#[cfg(test)]
mod testing;
mod transport;
mod window;
mod wire;

/// The wire contract, as `proto/hashroute/v1` has it.
#[allow(warnings, clippy::all, clippy::pedantic, reason = "made by build.rs")]
pub(crate) mod proto {
    tonic::include_proto!("hashroute.v1");
}

pub use error::{CallError, ChangeFailed, StartError};
pub use guard::{Admission, PodGuard};
pub use node::Node;
pub use operator::{Description, EtcdSettings, Operator, OperatorSettings};
pub use record_json::record_json;
pub use records::Records;
pub use settings::{Engine, LeaseSettings, NodeSettings, Priority, SettingsError, TlsSettings};
pub use snapshot::{
    InstalledRecord, MemberSnapshot, NodeSnapshot, StallSnapshot, VoterLink, VoterSnapshot,
};
