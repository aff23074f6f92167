//! What is shared between threads, and between the fleets of one view after the other.

use super::Reason;
use crate::health::{Event, Fall, Health, PodHealth, Policy, Transition};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use hashroute_core::{PodId, PodIndex};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all pods of a fleet, and the fleets that follow it, have in common.
#[derive(Debug, Default)]
pub(super) struct Common {
    in_flight: AtomicU64,
    /// How many times the health of any pod has changed.
    health_changes: AtomicU32,
    turns: AtomicU64,
}

impl Common {
    /// Counts a request; returns how many are in flight with it.
    pub(super) fn arrive(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Takes back one [`Common::arrive`].
    pub(super) fn depart(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whoever has seen a number here sees the health of all pods as it was then, or later.
    pub(super) fn health_changes(&self) -> u32 {
        self.health_changes.load(Ordering::Acquire)
    }

    pub(super) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

/// What is known of one pod.
#[derive(Debug)]
pub(super) struct LivePod {
    id: PodId,
    common: Arc<Common>,
    in_flight: AtomicU64,
    /// A copy of what `judge` says, for readers that take no lock.
    health: AtomicU8,
    /// Whether the success of a request would tell `judge` nothing new.
    is_settled: AtomicBool,
    judge: Mutex<PodHealth>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    ok: AtomicU64,
    errors: AtomicU64,
    retries: AtomicU64,
    spills: AtomicU64,
    failovers: AtomicU64,
}

impl LivePod {
    pub(super) fn new(id: PodId, policy: Policy, common: Arc<Common>) -> Self {
        Self {
            id,
            common,
            in_flight: AtomicU64::new(0),
            health: AtomicU8::new(Health::Up as u8),
            is_settled: AtomicBool::new(true),
            judge: Mutex::new(PodHealth::new(policy)),
            counters: Counters::default(),
        }
    }

    pub(super) const fn id(&self) -> &PodId {
        &self.id
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Up,
            1 => Health::Suspect,
            _ => Health::Down,
        }
    }

    /// Counts a request here if `may` says so of the count before it.
    pub(super) fn enter_if(&self, may: impl Fn(u64) -> bool) -> bool {
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            may(count).then(|| count.saturating_add(1))
        });
        entered.is_ok()
    }

    /// Counts a request here.
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_choice(&self, reason: Reason, is_retry: bool) {
        if is_retry {
            increment(&self.counters.retries);
        }
        match reason {
            Reason::Owner => {}
            Reason::Spill => increment(&self.counters.spills),
            Reason::Failover | Reason::LastResort => increment(&self.counters.failovers),
        }
    }

    pub(super) fn set_policy(&self, policy: Policy) {
        self.judge().set_policy(policy);
    }

    pub(super) fn observe(&self, now: Duration, event: Event) -> Option<Transition> {
        if event == Event::RequestSucceeded && self.is_settled.load(Ordering::Relaxed) {
            return None;
        }
        let mut judge = self.judge();
        let transition = judge.handle(now, event);
        self.is_settled.store(judge.is_settled(), Ordering::Relaxed);
        if transition.is_some() {
            // Still under the lock: the copy changes in the order of the judgements.
            self.health.store(judge.health() as u8, Ordering::Relaxed);
            self.common.health_changes.fetch_add(1, Ordering::Release);
        }
        transition
    }

    pub(super) fn status(&self) -> PodStatus {
        let (health, since, last_fall) = {
            let judge = self.judge();
            (judge.health(), judge.since(), judge.last_fall())
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PodStatus {
            health,
            since,
            last_fall,
            in_flight: self.in_flight(),
            requests_ok: read(&self.counters.ok),
            requests_error: read(&self.counters.errors),
            retries: read(&self.counters.retries),
            spills: read(&self.counters.spills),
            failovers: read(&self.counters.failovers),
        }
    }

    /// A judgement is whole between any two statements, so a thread that panicked elsewhere while
    /// it held the lock left nothing half done.
    fn judge(&self) -> MutexGuard<'_, PodHealth> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pod in numbers, at one moment. The counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodStatus {
    /// The judgement.
    pub health: Health,
    /// Since when it stands; zero if it never changed.
    pub since: Duration,
    /// When and why the pod last went down; `None` if it never did.
    pub last_fall: Option<Fall>,
    /// Requests that it has and has not answered.
    pub in_flight: u64,
    /// Requests that it answered well.
    pub requests_ok: u64,
    /// Requests that it answered with an error, or not at all.
    pub requests_error: u64,
    /// Requests that came here after another pod was tried.
    pub retries: u64,
    /// Requests that came here because a better pod was busy.
    pub spills: u64,
    /// Requests that came here because the better pods were not up, tried, or all pods were down.
    pub failovers: u64,
}

/// How a request at a pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With an answer that is no error.
    Ok,
    /// With an error, the pod's or the transport's.
    Error,
}

/// The right to have one request in flight at one pod. Dropping it ends the request.
#[derive(Debug)]
#[must_use = "the request counts as in flight only as long as its permit lives"]
pub struct Permit {
    live: Arc<LivePod>,
    pod: PodIndex,
    reason: Reason,
}

impl Permit {
    /// For a request that has been counted at `live` and in what is common.
    pub(super) const fn new(live: Arc<LivePod>, pod: PodIndex, reason: Reason) -> Self {
        Self { live, pod, reason }
    }

    /// The pod, as an index of the view of the fleet that gave the permit.
    #[must_use]
    pub const fn pod(&self) -> PodIndex {
        self.pod
    }

    /// The id of the pod, which means the same in every view.
    #[must_use]
    pub fn pod_id(&self) -> &PodId {
        self.live.id()
    }

    /// Why this pod.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Tells what the request met at the pod, as [`Fleet::observe`](super::Fleet::observe) does;
    /// right also if the view has changed since.
    pub fn observe(&self, now: Duration, event: Event) -> Option<Transition> {
        self.live.observe(now, event)
    }

    /// The health of the pod now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.live.health()
    }

    /// Ends the request and counts how. (A request whose caller went away is dropped instead: it
    /// counts as neither.)
    pub fn finish(self, answer: Answer) {
        increment(match answer {
            Answer::Ok => &self.live.counters.ok,
            Answer::Error => &self.live.counters.errors,
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.live.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.live.common.depart();
    }
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
