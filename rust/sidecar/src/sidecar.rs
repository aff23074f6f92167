//! A running sidecar: its threads, from start to stop.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{ApplyError, StartError};
use crate::prober::{ProbeSubject, Prober};
use crate::routing::Routing;
use crate::settings::{ListenSettings, Settings};
use crate::shared::Shared;
use crate::snapshot::{self, Snapshot};
use crate::threads::LoopThread;
use crate::{grpc, zmq};
use hashroute_dataplane::fleet::Transport;

/// A running sidecar. Dropping it ends its threads at once; [`Sidecar::stop`] does it with grace.
#[derive(Debug)]
pub struct Sidecar {
    shared: Arc<Shared>,
    asked: ListenSettings,
    bound: ListenSettings,
    loops: Vec<(Transport, LoopThread)>,
    // Held while settings are applied, so that two calls cannot both follow the same state.
    apply: Mutex<()>,
    prober: Prober,
}

impl Sidecar {
    /// Listens, and starts the threads. A pod that cannot be reached is not an error: it is retried
    /// for ever.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the settings cannot be used or an address cannot be listened on; nothing
    /// is left running.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let (asked, limits) = (settings.listen.clone(), settings.limits);
        let shared = Arc::new(Shared::new(Routing::new(settings.check()?), limits));
        let mut bound = ListenSettings::default();

        // Both sockets before any thread: what fails, fails before anything runs.
        let grpc = asked.grpc.as_deref().map(grpc::Listener::bind).transpose()?;
        let zmq = asked.zmq.as_deref().map(zmq::Listener::bind).transpose()?;

        let mut loops = Vec::new();
        if let Some(listener) = grpc {
            bound.grpc = Some(listener.address());
            let state = Arc::clone(&shared);
            let thread = LoopThread::spawn(
                GRPC_THREAD,
                shared.clock,
                Arc::clone(&shared.heartbeats.grpc),
                |drain| grpc::serve(listener, state, drain),
            );
            loops.push((Transport::Grpc, thread.map_err(thread_error(GRPC_THREAD))?));
        }
        if let Some(listener) = zmq {
            bound.zmq = Some(listener.address());
            let state = Arc::clone(&shared);
            let thread = LoopThread::spawn(
                ZMQ_THREAD,
                shared.clock,
                Arc::clone(&shared.heartbeats.zmq),
                |drain| zmq::serve(listener, state, drain),
            );
            loops.push((Transport::Zmq, thread.map_err(thread_error(ZMQ_THREAD))?));
        }
        let subject: Arc<dyn ProbeSubject> = Arc::clone(&shared) as _;
        let beat = Arc::clone(&shared.heartbeats.probe);
        let prober = Prober::spawn(subject, shared.clock, beat)
            .map_err(thread_error(crate::prober::THREAD))?;
        Ok(Self { shared, asked, bound, loops, apply: Mutex::default(), prober })
    }

    /// The addresses really listened on: a port of 0 in the settings is a port of the system's
    /// choice here.
    #[must_use]
    pub fn addresses(&self) -> &ListenSettings {
        &self.bound
    }

    /// Replaces view, routes, health, load and retry rules at once. Requests under way keep what
    /// they began with.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] if the settings cannot be used, or change what is fixed; then nothing
    /// changes.
    pub fn apply(&self, settings: Settings) -> Result<(), ApplyError> {
        fixed("listen.grpc", &self.asked.grpc, &settings.listen.grpc)?;
        fixed("listen.zmq", &self.asked.zmq, &settings.listen.zmq)?;
        fixed("limits", &self.shared.limits, &settings.limits)?;
        let checked = settings.check_after(&self.shared.routing.load().ring)?;

        let _one_at_a_time = self.apply.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.shared.routing.load();
        let (view, next) = (current.ring.view(), checked.ring.view());
        let (epoch, got) = (view.epoch(), next.epoch());
        if got < epoch || (got == epoch && view != next) {
            return Err(ApplyError::StaleEpoch { current: epoch.get(), got: got.get() });
        }
        self.shared.apply(current.follow(checked));
        Ok(())
    }

    /// Returns all figures of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (now, beats) = (self.shared.clock.now(), &self.shared.heartbeats);
        let mut ages = BTreeMap::from([("probe", beats.probe.age_ms(now))]);
        for (transport, _) in &self.loops {
            let beat = if *transport == Transport::Grpc { &beats.grpc } else { &beats.zmq };
            ages.insert(transport.as_str(), beat.age_ms(now));
        }
        snapshot::take(&self.shared, ages)
    }

    /// Takes nothing new, tells the clients so, finishes what is in flight, and ends. Returns
    /// whether all of it finished within `grace`; what did not is cut off.
    #[must_use]
    pub fn stop(self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        for (_, thread) in &self.loops {
            thread.drain();
        }
        let finished =
            self.loops.into_iter().fold(true, |all, (_, thread)| thread.join(deadline) && all);
        self.prober.stop();
        finished
    }
}

const GRPC_THREAD: &str = "hr-grpc";
const ZMQ_THREAD: &str = "hr-zmq";

fn thread_error(name: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Thread { name, source }
}

fn fixed<T: PartialEq + std::fmt::Debug>(
    key: &'static str,
    was: &T,
    now: &T,
) -> Result<(), ApplyError> {
    if was == now {
        return Ok(());
    }
    Err(ApplyError::Fixed { key, was: format!("{was:?}"), now: format!("{now:?}") })
}
