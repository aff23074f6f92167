//! What the loops of one sidecar share.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use hashroute_coordination::Record;
use hashroute_core::Ring;
use hashroute_dataplane::fleet::Fleet;
use hashroute_dataplane::health::{Health, Transition};
use mio::Waker;
use tokio::sync::watch;

use crate::clock::{Clock, Heartbeat};
use crate::error::ApplyError;
use crate::metrics::Metrics;
use crate::prober::ProbeSubject;
use crate::quorum::Quorum;
use crate::routing::Routing;
use crate::settings::{Checked, HealthSettings, LimitSettings};

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
    /// Whose record counts, if this sidecar takes part in a quorum.
    pub(crate) quorum: Option<Arc<dyn Quorum>>,
    /// What the quorum said when it was last asked, so that a request pays one load for it.
    is_stale: AtomicBool,
    changes: watch::Sender<Changes>,
    /// What wakes the loops that wait on event queues of their own.
    wakers: Mutex<Vec<Arc<Waker>>>,
    /// Held while a routing state is put in force, so that no two follow the same one.
    succession: Mutex<()>,
}

/// The beat of each loop that runs.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    /// `hr-grpc`
    pub(crate) grpc: Arc<Heartbeat>,
    /// `hr-zmq`
    pub(crate) zmq: Arc<Heartbeat>,
    /// `hr-guard-grpc`
    pub(crate) guard_grpc: Arc<Heartbeat>,
    /// `hr-guard-zmq`
    pub(crate) guard_zmq: Arc<Heartbeat>,
    /// `hr-probe`
    pub(crate) probe: Arc<Heartbeat>,
    /// `hr-record`
    pub(crate) record: Arc<Heartbeat>,
}

/// How often what a loop has to act on has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Settings were applied, or the quorum agreed on another record.
    pub(crate) applied: u64,
    /// A pod was found down, over one of the transports.
    pub(crate) downs: u64,
}

impl Shared {
    pub(crate) fn new(
        routing: Routing,
        limits: LimitSettings,
        quorum: Option<Arc<dyn Quorum>>,
    ) -> Self {
        Self {
            routing: ArcSwap::from_pointee(routing),
            metrics: Metrics::default(),
            clock: Clock::start(),
            limits,
            heartbeats: Heartbeats::default(),
            quorum,
            is_stale: AtomicBool::new(false),
            changes: watch::Sender::default(),
            wakers: Mutex::default(),
            succession: Mutex::default(),
        }
    }

    /// Puts new rules in force, and with them their view, unless whose view counts is the quorum's.
    ///
    /// # Errors
    ///
    /// [`ApplyError::StaleEpoch`] if the view is older than the one in force, or another one under
    /// the same epoch. Then nothing changes.
    pub(crate) fn apply(
        &self,
        check: impl FnOnce(&Ring) -> Result<Checked, ApplyError>,
    ) -> Result<(), ApplyError> {
        let _one_at_a_time = lock(&self.succession);
        let current = self.routing.load();
        let checked = check(&current.ring)?;
        if self.quorum.is_some() {
            self.put(current.follow_rules(checked));
            return Ok(());
        }
        let (view, next) = (current.ring.view(), checked.ring.view());
        let (epoch, got) = (view.epoch(), next.epoch());
        if got < epoch || (got == epoch && view != next) {
            return Err(ApplyError::StaleEpoch { current: epoch.get(), got: got.get() });
        }
        self.put(current.follow(checked));
        Ok(())
    }

    /// Routes by another record of the quorum from now on, if it is a newer one.
    pub(crate) fn install(&self, record: Record) {
        let _one_at_a_time = lock(&self.succession);
        let current = self.routing.load();
        if current.record().is_none_or(|known| known.epoch() < record.epoch()) {
            self.put(current.follow_record(record));
        }
    }

    fn put(&self, routing: Routing) {
        self.routing.store(Arc::new(routing));
        self.changes.send_modify(|changes| changes.applied += 1);
        for waker in lock(&self.wakers).iter() {
            // A loop whose event queue is gone has ended.
            let _ended = waker.wake();
        }
    }

    /// Has `waker` woken whenever another routing state is in force.
    pub(crate) fn wake(&self, waker: Arc<Waker>) {
        lock(&self.wakers).push(waker);
    }

    /// Whether what is routed by may be old. One load; as fresh as [`Shared::ask_quorum`].
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Asks the quorum whether what is routed by may be old.
    pub(crate) fn ask_quorum(&self) {
        let is_stale = self.quorum.as_ref().is_some_and(|quorum| quorum.is_stale());
        self.is_stale.store(is_stale, Ordering::Relaxed);
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
        self.routing.load().rules.health.clone()
    }

    fn note(&self, transition: Option<Transition>) {
        Self::note(self, transition);
    }
}

/// What these locks hold is whole between any two statements, also after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
