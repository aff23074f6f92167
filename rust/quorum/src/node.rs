//! One process's part in a cluster.
use std::time::Duration;

use hashroute_coordination::{Change, Record};
use hashroute_core::Epoch;
use tokio::sync::watch;

use crate::error::{ChangeFailed, StartError};
use crate::guard::PodGuard;
use crate::settings::NodeSettings;
use crate::snapshot::NodeSnapshot;

/// One process's part in a cluster: a voter, a member, both, or a router that follows. Dropping it
/// ends it at once, as a crash would; [`Node::stop`] does it in good order. All methods may be
/// called from any thread.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Starts the thread `hr-quorum` and what it needs. Returns when the address is listened on and
    /// the disk is read; the cluster need not be reachable.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub fn start(settings: NodeSettings) -> Result<Self, StartError> {
        let _ = settings;
        todo!()
    }

    /// The address really listened on: a port of 0 in the settings is one of the system's choice.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        todo!()
    }

    /// The newest record that this process knows to be chosen.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        todo!()
    }

    /// The same, told whenever another one counts.
    #[must_use]
    pub fn records(&self) -> watch::Receiver<Option<Record>> {
        todo!()
    }

    /// Whether no majority of the record's voters was heard for longer than `stale_after`: what is
    /// routed by the record may be old.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        todo!()
    }

    /// The guard of the pod that this process is the member of.
    #[must_use]
    pub fn guard(&self) -> Option<PodGuard> {
        todo!()
    }

    /// Makes one change of the record, through the own member or a voter, and waits until it is
    /// made.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`].
    pub fn change(&self, change: Change, patience: Duration) -> Result<Epoch, ChangeFailed> {
        let _ = (change, patience);
        todo!()
    }

    /// Gives up in good order what the own pod owns: no write is refused for longer than a round.
    /// The process stays a member and owns nothing until it starts again.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`].
    pub fn drain(&self, patience: Duration) -> Result<Epoch, ChangeFailed> {
        let _ = patience;
        todo!()
    }

    /// All figures of this moment.
    #[must_use]
    pub fn snapshot(&self) -> NodeSnapshot {
        todo!()
    }

    /// Ends in good order: admits nothing more, waits for the writes under way for at most `grace`,
    /// renounces, and stops. Returns whether all of them ended in time; if not, nothing is
    /// renounced, and the lease runs out.
    #[must_use]
    pub fn stop(self, grace: Duration) -> bool {
        let _ = grace;
        todo!()
    }
}
