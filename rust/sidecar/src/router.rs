//! A router without sockets: chooses pods for a program that sends its requests itself.
mod follow;
mod writes;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashroute_coordination::Record;
use hashroute_core::{Epoch, Pod, PodId, PodIndex, Ring, hash_key};
use hashroute_dataplane::error::Outcome;
use hashroute_dataplane::fleet::{
    Fleet, FleetPolicy, LoadBound, NoPod, Permit, Reason, Transport, Tried,
};
use hashroute_dataplane::health::{Event, Health, Policy, Transition};
use hashroute_dataplane::retry::{ATTEMPTS_MAX, Attempts, Failure, Progress, RetryBudget, Verdict};
use hashroute_dataplane::write::Target;
use hashroute_quorum::Records;

use crate::clock::{Clock, Heartbeat};
use crate::error::{ApplyError, StartError};
use crate::prober::{self, ProbeSubject, Prober};
use crate::routing::{self, Terms};
use crate::settings::{HOUR_MS, HealthSettings, RetrySettings, SettingsError, range};

use follow::Follower;
pub use writes::{NoWriter, Turn, WriteRequest};

/// The pods of a changing view, chosen by key, health and load. All methods may be called from any
/// thread; those on the way of a request take no lock.
#[derive(Debug)]
pub struct Router {
    state: Arc<State>,
    prober: Mutex<Option<Prober>>,
    follower: Mutex<Option<Follower>>,
}

/// How a [`Router`] works, for its whole life.
#[derive(Clone, Debug)]
pub struct RouterSettings {
    /// Over which transport the program talks to the pods.
    pub transport: Transport,
    /// How much more than its share a pod may have in flight.
    pub load: LoadBound,
    /// How pods are probed; `None` if nobody does, or the program itself.
    pub probes: Option<HealthSettings>,
    /// When and how often a request is tried again.
    pub retry: RetrySettings,
}

#[derive(Debug)]
struct State {
    present: ArcSwap<Present>,
    settings: RouterSettings,
    budget: RetryBudget,
    clock: Clock,
    changes: Changes,
    // Held while a ring is put in force, so that two calls cannot both follow the same one.
    change: Mutex<()>,
}

/// What is in force between two changes of the view.
#[derive(Debug)]
struct Present {
    fleet: Arc<Fleet>,
    terms: Terms,
    /// What a quorum agreed on, if this router follows one. Its ring is that of the fleet, unless no
    /// pod owns slots by it: then the fleet stays as it was, for reads.
    record: Option<Record>,
}

impl Router {
    /// Starts to route by `ring`, and to probe its pods if the settings say so.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a setting is out of range or the operating system gives no thread.
    pub fn start(ring: Ring, settings: RouterSettings) -> Result<Self, StartError> {
        settings.check()?;
        let state = Arc::new(State {
            present: ArcSwap::from_pointee(Present {
                terms: Terms::first(&ring),
                fleet: Arc::new(Fleet::new(ring, settings.transport, settings.policy())),
                record: None,
            }),
            budget: routing::budget(settings.retry),
            settings,
            clock: Clock::start(),
            changes: Changes::default(),
            change: Mutex::default(),
        });
        let prober = state
            .settings
            .probes
            .clone()
            .map(|probes| {
                let subject = Probed { state: Arc::clone(&state), probes };
                Prober::spawn(Arc::new(subject), state.clock, Arc::<Heartbeat>::default())
            })
            .transpose()
            .map_err(|source| StartError::Thread { name: prober::THREAD, source })?;
        Ok(Self { state, prober: Mutex::new(prober), follower: Mutex::default() })
    }

    /// Puts the newest of `records` in force, and from now on each that follows it, until
    /// [`Router::stop`]: a thread waits for them.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the operating system gives no thread; then nothing is followed.
    pub fn follow(&self, records: Records) -> Result<(), StartError> {
        let follower = Follower::spawn(Arc::clone(&self.state), records)
            .map_err(|source| StartError::Thread { name: follow::THREAD, source })?;
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
        Ok(())
    }

    /// Chooses a pod for one request that is not sent twice; `key` of `None` is any slot. The
    /// request counts as in flight at the pod as long as the permit lives.
    ///
    /// # Errors
    ///
    /// [`NoPod`] if no pod serves the transport.
    pub fn choose(&self, key: Option<&[u8]>) -> Result<(Route, Permit), NoPod> {
        self.state.choose(key.map(hash_key), &Tried::none())
    }

    /// Begins a request that may be sent more than once.
    #[must_use]
    pub fn request(&self, key: Option<&[u8]>, idempotent: bool) -> Request {
        self.state.budget.deposit();
        Request {
            state: Arc::clone(&self.state),
            hash: key.map(hash_key),
            attempts: Attempts::new(idempotent, self.state.settings.retry.attempts_max),
            tried: Vec::new(),
        }
    }

    /// Puts another ring in force. Pods that stay keep their health and what they have in flight,
    /// slots that stay with their pod keep their term; routes given out stay valid.
    ///
    /// # Errors
    ///
    /// [`ApplyError::StaleEpoch`] if the ring is older than the one in force.
    pub fn apply(&self, ring: Ring) -> Result<(), ApplyError> {
        let _one_at_a_time = self.state.change.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.state.present.load_full();
        let before = present.fleet.ring();
        let (current, got) = (before.view().epoch().get(), ring.view().epoch().get());
        if got < current {
            return Err(ApplyError::StaleEpoch { current, got });
        }
        self.state.put_in_force(Present {
            terms: present.terms.follow(before, &ring),
            fleet: Arc::new(present.fleet.follow(ring, self.state.settings.policy())),
            record: present.record.clone(),
        });
        Ok(())
    }

    /// Tells what the program itself met at a pod; one that the view does not have is nobody's
    /// concern.
    pub fn observe(&self, pod: &str, event: Event) {
        let fleet = self.fleet();
        if let Some(pod) = fleet.ring().view().index_of(pod) {
            self.state.observe(&fleet, pod, event);
        }
    }

    /// Waits until more than `seen` changes were counted, for at most `patience`; returns how many
    /// were. A change is a pod that was found down, or another ring or record in force. Who waits
    /// for an answer, or for an owner, may then ask another pod.
    #[must_use]
    pub fn wait_for_change(&self, seen: u64, patience: Duration) -> u64 {
        self.state.changes.wait(seen, patience)
    }

    /// Counts a change, so that whoever waits for one looks again.
    pub fn nudge(&self) {
        self.state.changes.count();
    }

    /// The record in force; `None` if this router follows no quorum.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.state.present.load().record.clone()
    }

    /// The pods at this moment: their health, their counters, what each has in flight.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.state.present.load().fleet)
    }

    /// The time on the clock of this router, by which its pods are judged.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.state.clock.now()
    }

    /// How this router works.
    #[must_use]
    pub fn settings(&self) -> &RouterSettings {
        &self.state.settings
    }

    /// Stops probing and following. Routing goes on with what is known.
    pub fn stop(&self) {
        drop(self.follower.lock().unwrap_or_else(PoisonError::into_inner).take());
        let prober = self.prober.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(prober) = prober {
            prober.stop();
        }
    }
}

/// One request, over all its attempts.
#[derive(Debug)]
pub struct Request {
    state: Arc<State>,
    hash: Option<u64>,
    attempts: Attempts,
    // Ids, since the view may change between two attempts, and with it what an index means.
    tried: Vec<PodId>,
}

impl Request {
    /// Chooses the pod for the next attempt, one that was not tried; the permit counts as for
    /// [`Router::choose`].
    ///
    /// # Errors
    ///
    /// [`NoPod`] if every pod that serves was tried, or none serves.
    pub fn attempt(&mut self) -> Result<(Route, Permit), NoPod> {
        let fleet = Arc::clone(&self.state.present.load().fleet);
        let mut tried = Tried::none();
        for id in &self.tried {
            if let Some(pod) = fleet.ring().view().index_of(id.as_str()) {
                tried.insert(pod);
            }
        }
        let chosen = self.state.choose(self.hash, &tried)?;
        self.tried.push(chosen.1.pod_id().clone());
        Ok(chosen)
    }

    /// Decides what a failure of the present attempt means. Which pods are judged by it is told
    /// apart, with [`Route::observe`].
    pub fn failed(&mut self, failure: Failure, progress: Progress) -> Verdict {
        self.attempts.failed(failure, progress, &self.state.budget)
    }

    /// What is known of the effect of this request if it ends now; `sent` says whether the present
    /// attempt may have reached its pod.
    #[must_use]
    pub fn outcome(&self, sent: bool) -> Outcome {
        self.attempts.outcome(sent)
    }
}

/// Where one attempt goes, and why.
#[derive(Clone, Debug)]
pub struct Route {
    fleet: Arc<Fleet>,
    state: Arc<State>,
    pod: PodIndex,
    reason: Reason,
    target: Target,
    epoch: Epoch,
    term: Epoch,
}

impl Route {
    /// The pod, as the view describes it. (A fleet chooses no pod that its view does not have.)
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        self.fleet.ring().view().pod(self.pod)
    }

    /// The pod's address over the router's transport; over any transport, the one that it has.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        let addresses = &self.pod()?.addresses;
        match self.fleet.transport() {
            Transport::Grpc => addresses.grpc.as_deref(),
            Transport::Zmq => addresses.zmq.as_deref(),
            Transport::Any => addresses.grpc.as_deref().or(addresses.zmq.as_deref()),
        }
    }

    /// The slot of the key, or the group that is written.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The epoch at which the present owner of the slot or group got it: by the record of the
    /// quorum that is followed, else in this router's own history.
    #[must_use]
    pub fn term(&self) -> Epoch {
        self.term
    }

    /// The epoch of the view or record that was in force.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why this pod.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Tells what the request met at the pod; right also if the view has changed since.
    pub fn observe(&self, event: Event) {
        self.state.observe(&self.fleet, self.pod, event);
    }
}

impl State {
    fn choose(
        self: &Arc<Self>,
        hash: Option<u64>,
        tried: &Tried,
    ) -> Result<(Route, Permit), NoPod> {
        let present = self.present.load();
        let fleet = &present.fleet;
        let slot = hash.map_or_else(|| fleet.any_slot(), |hash| fleet.ring().slot_of_hash(hash));
        let permit = fleet.choose(slot, tried)?;
        let route = Route {
            fleet: Arc::clone(fleet),
            state: Arc::clone(self),
            pod: permit.pod(),
            reason: permit.reason(),
            target: Target::Slot(slot),
            epoch: fleet.ring().view().epoch(),
            term: present.terms.of(slot),
        };
        Ok((route, permit))
    }

    /// To be called with the lock of changes.
    fn put_in_force(&self, present: Present) {
        self.present.store(Arc::new(present));
        self.changes.count();
    }

    fn observe(&self, fleet: &Fleet, pod: PodIndex, event: Event) {
        self.changes.note(fleet.observe(pod, self.clock.now(), event));
    }
}

/// What the prober sees of a router.
struct Probed {
    state: Arc<State>,
    probes: HealthSettings,
}

impl ProbeSubject for Probed {
    fn fleet(&self) -> Arc<Fleet> {
        Arc::clone(&self.state.present.load().fleet)
    }

    fn settings(&self) -> HealthSettings {
        self.probes.clone()
    }

    fn note(&self, transition: Option<Transition>) {
        self.state.changes.note(transition);
    }
}

/// How many changes there were, for those who wait for one.
#[derive(Debug, Default)]
struct Changes {
    counted: Mutex<u64>,
    another: Condvar,
}

impl Changes {
    fn note(&self, transition: Option<Transition>) {
        if transition.is_some_and(|transition| transition.to == Health::Down) {
            self.count();
        }
    }

    fn count(&self) {
        *self.lock() += 1;
        self.another.notify_all();
    }

    fn wait(&self, seen: u64, patience: Duration) -> u64 {
        let waited = self.another.wait_timeout_while(self.lock(), patience, |count| *count <= seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A count is whole, also if a thread panicked while it held the lock.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RouterSettings {
    fn check(&self) -> Result<(), SettingsError> {
        range("retry.attempts_max", self.retry.attempts_max, 1..=ATTEMPTS_MAX)?;
        range("retry.budget_ratio", self.retry.budget_ratio, 0.0..=1.0)?;
        let Some(probes) = &self.probes else { return Ok(()) };
        range("health.interval_ms", probes.interval.as_millis(), 1..=HOUR_MS)?;
        range("health.timeout_ms", probes.timeout.as_millis(), 1..=HOUR_MS)
    }

    fn policy(&self) -> FleetPolicy {
        let health = self
            .probes
            .as_ref()
            .map_or_else(Policy::default, |probes| Policy::for_probe_timeout(probes.timeout));
        FleetPolicy { load: self.load, health }
    }
}

#[cfg(test)]
mod tests;
