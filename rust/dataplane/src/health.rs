//! Whether a pod takes requests, judged from what probes and requests met there.
//!
//! One [`PodHealth`] judges one pod over one transport: `(now, event) -> transition`. The rules:
//!
//! | event | effect |
//! |---|---|
//! | connection refused or lost, probe failed, pod says `NOT_SERVING` | down at once |
//! | probe timed out | down at once, unless the prober itself was late: then it proves nothing |
//! | probe succeeded | up; after [`FLAPS_MAX`] falls within [`Policy::flap_window`] only after [`Policy::proofs_after_flaps`] successes in a row |
//! | [`Policy::deadlines_max`] deadlines in a row passed | suspect: used when no pod is up |
//! | request succeeded | not suspect any more |
//!
//! A pod is up until something speaks against it, so that a fleet works from its first moment.

use core::fmt;
use core::time::Duration;

/// How many falls, within [`Policy::flap_window`], make a pod prove itself before it is up again.
pub const FLAPS_MAX: usize = 3;

/// What the fleet does with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Health {
    /// Takes its requests.
    Up = 0,
    /// Answers probes but not requests: takes requests if no pod is up.
    Suspect = 1,
    /// Takes a request only if there is nothing better than to try.
    Down = 2,
}

impl Health {
    /// The word in the status, in the metrics and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that a probe or a request met at the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The pod answered a probe, or accepted a connection where that is the probe.
    ProbeSucceeded,
    /// A probe learned that the pod does not take requests.
    ProbeFailed(ProbeFailure),
    /// A probe had no answer within the timeout.
    ProbeTimedOut {
        /// How much later than it meant to the prober looked: a process that was itself stopped
        /// for a while sees timeouts everywhere, and they say nothing about the pods.
        prober_late: Duration,
    },
    /// Nobody accepts connections at the pod's address, for a request.
    ConnectionRefused,
    /// A connection ended without a farewell. (One that ended by `GOAWAY` and ran empty is no
    /// event: servers close old connections as a habit.)
    ConnectionLost,
    /// The pod answered a request, with whatever status.
    RequestSucceeded,
    /// A request's deadline passed before the pod answered.
    DeadlineExceeded,
}

/// What a failed probe met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFailure {
    /// The connection was refused.
    Refused,
    /// The connection ended before the answer.
    Lost,
    /// The pod answers that it does not serve.
    NotServing,
    /// The answer makes no sense.
    Malformed,
}

/// Why a pod's health changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nobody accepts connections.
    Refused,
    /// A connection ended without a farewell.
    ConnectionLost,
    /// A probe had no answer in time.
    ProbeTimedOut,
    /// A probe had an answer that makes no sense.
    ProbeMalformed,
    /// The pod says that it does not serve.
    NotServing,
    /// Deadlines passed, one after the other.
    DeadlinesExceeded,
    /// It answers again.
    Recovered,
}

impl Cause {
    /// The stable word in the status, in the metrics and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectionLost => "connection_lost",
            Self::ProbeTimedOut => "probe_timed_out",
            Self::ProbeMalformed => "probe_malformed",
            Self::NotServing => "not_serving",
            Self::DeadlinesExceeded => "deadlines_exceeded",
            Self::Recovered => "recovered",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The patience of [`PodHealth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A probe's timeout counts if the prober was at most this late.
    pub prober_late_max: Duration,
    /// After this many deadlines in a row, without a success between them, a pod is suspect.
    pub deadlines_max: u32,
    /// A suspect pod that answers probes is tried again after this time.
    pub suspect_hold: Duration,
    /// How long a fall is remembered against a pod that falls again and again.
    pub flap_window: Duration,
    /// How many probes in a row a flapping pod must answer. With the interval between probes this
    /// bounds how long it is held down: 5 times 50 ms.
    pub proofs_after_flaps: u32,
}

impl Policy {
    /// The defaults, for probes that time out after `probe_timeout`.
    ///
    /// A third of the timeout is more than the scheduling noise of a busy machine, and leaves the
    /// pod two thirds of its time to answer.
    #[must_use]
    pub fn for_probe_timeout(probe_timeout: Duration) -> Self {
        Self {
            prober_late_max: probe_timeout.checked_div(3).unwrap_or_default(),
            deadlines_max: 5,
            suspect_hold: Duration::from_secs(1),
            flap_window: Duration::from_secs(10),
            proofs_after_flaps: 5,
        }
    }
}

/// For probes at the default timeout of 150 ms.
impl Default for Policy {
    fn default() -> Self {
        Self::for_probe_timeout(Duration::from_millis(150))
    }
}

/// A change of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The health before.
    pub from: Health,
    /// The health now.
    pub to: Health,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Duration,
}

/// The last time that a pod went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fall {
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Duration,
}

/// The health of one pod over one transport, and what is remembered to judge it.
#[derive(Debug, Clone)]
pub struct PodHealth {
    policy: Policy,
    health: Health,
    /// When `health` became what it is.
    since: Duration,
    /// Deadlines in a row, while up.
    deadlines: u32,
    /// Probes answered in a row, while down.
    proofs: u32,
    /// The latest falls, the newest last.
    falls: [Option<Fall>; FLAPS_MAX],
}

impl PodHealth {
    /// A pod of which nothing is known: up.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            health: Health::Up,
            since: Duration::ZERO,
            deadlines: 0,
            proofs: 0,
            falls: [None; FLAPS_MAX],
        }
    }

    /// Judges by another policy from now on; what is remembered stays.
    pub const fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Takes in what happened at `now`; returns the change of health, if it is one.
    ///
    /// `now` never runs backwards. (If it does, the time that passed counts as none.)
    pub fn handle(&mut self, now: Duration, event: Event) -> Option<Transition> {
        match event {
            Event::ProbeSucceeded => self.probe_succeeded(now),
            Event::ProbeFailed(failure) => self.fall(now, failure.cause()),
            Event::ProbeTimedOut { prober_late } if prober_late > self.policy.prober_late_max => {
                None
            }
            Event::ProbeTimedOut { .. } => self.fall(now, Cause::ProbeTimedOut),
            Event::ConnectionRefused => self.fall(now, Cause::Refused),
            Event::ConnectionLost => self.fall(now, Cause::ConnectionLost),
            Event::RequestSucceeded => self.request_succeeded(now),
            Event::DeadlineExceeded => self.deadline_exceeded(now),
        }
    }

    /// The judgement as it stands.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Since when the judgement stands; zero if it never changed.
    #[must_use]
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// When and why the pod last went down, also if it is up again; `None` if it never did.
    #[must_use]
    pub const fn last_fall(&self) -> Option<Fall> {
        let [.., newest] = self.falls;
        newest
    }

    /// Whether a success would tell nothing new, so that telling it can be saved.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self.health, Health::Up) && self.deadlines == 0
    }

    fn probe_succeeded(&mut self, now: Duration) -> Option<Transition> {
        match self.health {
            Health::Up => None,
            // Its requests hang although its probes do not, so a success is only worth another try
            // now and then.
            Health::Suspect => {
                let is_due = now.saturating_sub(self.since) >= self.policy.suspect_hold;
                if is_due { self.turn(now, Health::Up, Cause::Recovered) } else { None }
            }
            Health::Down => {
                self.proofs = self.proofs.saturating_add(1);
                let proofs_wanted =
                    if self.is_flapping(now) { self.policy.proofs_after_flaps } else { 1 };
                if self.proofs < proofs_wanted {
                    return None;
                }
                self.turn(now, Health::Up, Cause::Recovered)
            }
        }
    }

    fn request_succeeded(&mut self, now: Duration) -> Option<Transition> {
        self.deadlines = 0;
        match self.health {
            Health::Suspect => self.turn(now, Health::Up, Cause::Recovered),
            // An answer may have been on its way since before the fall, and a pod that says that it
            // does not serve still finishes what it has: only a probe brings a pod back.
            Health::Up | Health::Down => None,
        }
    }

    fn deadline_exceeded(&mut self, now: Duration) -> Option<Transition> {
        if self.health != Health::Up {
            return None;
        }
        self.deadlines = self.deadlines.saturating_add(1);
        if self.deadlines < self.policy.deadlines_max {
            return None;
        }
        self.turn(now, Health::Suspect, Cause::DeadlinesExceeded)
    }

    fn fall(&mut self, now: Duration, cause: Cause) -> Option<Transition> {
        self.proofs = 0;
        if self.health == Health::Down {
            return None;
        }
        self.falls.rotate_left(1);
        let [.., newest] = &mut self.falls;
        *newest = Some(Fall { cause, at: now });
        self.turn(now, Health::Down, cause)
    }

    fn turn(&mut self, now: Duration, to: Health, cause: Cause) -> Option<Transition> {
        let from = core::mem::replace(&mut self.health, to);
        self.since = now;
        self.deadlines = 0;
        self.proofs = 0;
        Some(Transition { from, to, cause, at: now })
    }

    fn is_flapping(&self, now: Duration) -> bool {
        let [oldest, ..] = self.falls;
        oldest.is_some_and(|fall| now.saturating_sub(fall.at) <= self.policy.flap_window)
    }
}

impl ProbeFailure {
    const fn cause(self) -> Cause {
        match self {
            Self::Refused => Cause::Refused,
            Self::Lost => Cause::ConnectionLost,
            Self::NotServing => Cause::NotServing,
            Self::Malformed => Cause::ProbeMalformed,
        }
    }
}

#[cfg(test)]
mod tests;
