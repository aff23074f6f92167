//! What the loops of one sidecar share.
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashroute_dataplane::fleet::Fleet;
use hashroute_dataplane::health::{Health, Transition};
use tokio::sync::watch;

use crate::clock::{Clock, Heartbeat};
use crate::metrics::Metrics;
use crate::prober::ProbeSubject;
use crate::routing::Routing;
use crate::settings::{HealthSettings, LimitSettings};

/// The state that the loops of one sidecar share: read by all, without locks on the path of a
/// request.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The present routing state. Load it once a request.
    pub(crate) routing: ArcSwap<Routing>,
    /// All counters.
    pub(crate) metrics: Metrics,
    /// The clock whose `now` the data plane is told.
    pub(crate) clock: Clock,
    /// The bounds on what clients may use. Fixed for the life of a sidecar.
    pub(crate) limits: LimitSettings,
    /// The beat of each loop.
    pub(crate) heartbeats: Heartbeats,
    changes: watch::Sender<Changes>,
}

/// The beat of each loop that runs.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    /// `hr-grpc`
    pub(crate) grpc: Arc<Heartbeat>,
    /// `hr-zmq`
    pub(crate) zmq: Arc<Heartbeat>,
    /// `hr-probe`
    pub(crate) probe: Arc<Heartbeat>,
}

/// How often what a loop has to act on has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Settings were applied.
    pub(crate) applied: u64,
    /// A pod was found down, over one of the transports.
    pub(crate) downs: u64,
}

impl Shared {
    pub(crate) fn new(routing: Routing, limits: LimitSettings) -> Self {
        Self {
            routing: ArcSwap::from_pointee(routing),
            metrics: Metrics::default(),
            clock: Clock::start(),
            limits,
            heartbeats: Heartbeats::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Puts a new routing state in force and tells the loops.
    pub(crate) fn apply(&self, routing: Routing) {
        self.routing.store(Arc::new(routing));
        self.changes.send_modify(|changes| changes.applied += 1);
    }

    /// Tells the loops if what was just observed of a pod took it down: requests that wait there
    /// may go elsewhere.
    pub(crate) fn note(&self, transition: Option<Transition>) {
        if transition.is_some_and(|transition| transition.to == Health::Down) {
            self.changes.send_modify(|changes| changes.downs += 1);
        }
    }

    /// Tells a loop that settings were applied or a pod was found down.
    #[must_use]
    pub(crate) fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }
}

impl ProbeSubject for Shared {
    fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.routing.load().grpc_side.fleet)
    }

    fn settings(&self) -> HealthSettings {
        self.routing.load().health.clone()
    }

    fn note(&self, transition: Option<Transition>) {
        Self::note(self, transition);
    }
}
