//! A write: what it writes, what travels with it, and what its refusals and failures mean.
//!
//! A write goes to the owner of its slot, or to the leader of its group, and to nobody else. A
//! [`Write`] is told what happened to it and says what to do: send it by the newest record, wait,
//! or end it. The rules are P4 and P5: a write that certainly was not applied is sent again, for as
//! long as there is patience; one that may have been applied is *unknown*, and sent again only if
//! its route says that this does no harm.

mod agree;
mod tag;

pub use agree::{Found, Untagged, agreed};
pub use tag::{
    GROUP_BYTES_MAX, GroupName, GroupNameError, TAG_BYTES_MAX, Tag, TagError, TagParts, Target,
    parse_number,
};

use crate::error::Outcome;
use crate::refusal::{Refusal, Refused, Remedy};
use crate::retry::{Failure, Progress, RetryBudget};
use core::time::Duration;
use hashroute_core::Epoch;

/// The first pause before a write is sent again by the same record.
pub const BACKOFF_MIN: Duration = Duration::from_millis(1);
/// The longest such pause: each is twice as long as the one before, up to this.
pub const BACKOFF_MAX: Duration = Duration::from_millis(32);

/// By which rules a write is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritePolicy {
    /// Whether it may be applied twice without harm.
    pub idempotent: bool,
    /// For how long a pod that accepts it is looked for.
    pub patience: Duration,
    /// How often it may be sent in all as long as each time it may have been applied; at least 1.
    pub attempts_max: u32,
}

/// Something that happened to a write.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// There is no record yet, or by the record of this epoch nobody may write the resource.
    NoOwner {
        /// The record's epoch.
        record: Option<Epoch>,
    },
    /// The owner by the record of this epoch does not answer its probes, or says that it does not
    /// serve: it was not sent.
    OwnerSilent {
        /// The record's epoch.
        record: Epoch,
    },
    /// It is being sent to the owner by the record of this epoch.
    Sending {
        /// The record's epoch.
        record: Epoch,
    },
    /// The pod's guard refused it.
    Refused {
        /// Why.
        refused: Refused,
        /// How far the request got.
        progress: Progress,
    },
    /// The attempt failed.
    Failed {
        /// How.
        failure: Failure,
        /// How far the request got.
        progress: Progress,
        /// Pays for an attempt that may repeat work.
        budget: &'a RetryBudget,
    },
    /// While it was at a pod, a record came by which the resource has another owner.
    Moved {
        /// How far the request got.
        progress: Progress,
        /// Pays for an attempt that may repeat work.
        budget: &'a RetryBudget,
    },
    /// A record of this epoch counts.
    Installed {
        /// The record's epoch.
        record: Epoch,
    },
    /// The time has come that the last step named.
    Waited,
}

/// What to do with the write now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Find the owner in the newest record and send it there, or tell why that cannot be.
    Send,
    /// It is at no pod: tell when a record of at least this epoch counts, and when it is `until`.
    Wait {
        /// When to say [`Event::Waited`].
        until: Duration,
        /// From which epoch on to say [`Event::Installed`].
        record: Epoch,
    },
    /// It is at a pod and stays there: tell what comes of it, and when it is `until`, if that is
    /// given.
    Stay {
        /// When to say [`Event::Waited`].
        until: Option<Duration>,
    },
    /// End it with an error.
    Fail(GaveUp),
}

/// The end of a write that no pod answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaveUp {
    /// Whether it may have been applied.
    pub outcome: Outcome,
    /// The last refusal, if the last thing that happened was one.
    pub refusal: Option<Refusal>,
    /// Why it is not sent again.
    pub why: Why,
}

/// Why a write is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No pod accepted it in time.
    PatienceOver,
    /// It would be refused again.
    Final,
    /// Not all of it is at hand any more.
    NotReplayable,
    /// It may have been applied.
    MayBeApplied,
    /// The resource went to another owner, and the pod that had the write did not answer since.
    OwnerReplaced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is at no pod. At the end of the wait it is sent again, if `sends_again`.
    Waiting { record: Epoch, until: Duration, sends_again: bool },
    /// It is at a pod, or about to be sent.
    AtPod,
    /// It is at a pod that does not own the resource any more.
    Superseded { until: Duration },
}

/// The attempts of one write. Told the time as a duration since a start of the caller's choice.
#[derive(Debug, Clone)]
pub struct Write {
    policy: WritePolicy,
    /// Until when a pod is looked for.
    search_ends: Duration,
    backoff: Duration,
    /// The record that the last attempt went by, or was to go by.
    routed: Option<Epoch>,
    /// Attempts left after one that may have been applied.
    left: u32,
    /// Whether an attempt before the present one may have been applied.
    reached: bool,
    refusal: Option<Refusal>,
    phase: Phase,
}

impl Write {
    /// A write about to be sent for the first time.
    #[must_use]
    pub fn new(now: Duration, policy: WritePolicy) -> Self {
        Self {
            policy,
            search_ends: now.saturating_add(policy.patience),
            backoff: BACKOFF_MIN,
            routed: None,
            left: policy.attempts_max.saturating_sub(1),
            reached: false,
            refusal: None,
            phase: Phase::AtPod,
        }
    }

    /// Takes an event; says what to do.
    pub fn handle(&mut self, now: Duration, event: Event<'_>) -> Step {
        match event {
            Event::Sending { record } => {
                self.routed = Some(record);
                self.phase = Phase::AtPod;
                Step::Stay { until: None }
            }
            Event::NoOwner { record } => {
                self.refusal = None;
                self.routed = record;
                self.wait_for_record(now, following(record))
            }
            Event::OwnerSilent { record } => {
                self.refusal = None;
                self.routed = Some(record);
                self.wait_a_moment(now)
            }
            Event::Refused { refused, progress } => self.refused(now, refused, progress),
            Event::Failed { failure, progress, budget } => {
                self.refusal = None;
                self.failed(now, failure, progress, budget)
            }
            Event::Moved { progress, budget } => self.moved(now, progress, budget),
            Event::Installed { record } => self.installed(record),
            Event::Waited => self.waited(now),
        }
    }

    /// The outcome of an error that ends the write now, for example at its deadline.
    ///
    /// `sent` says whether any byte of the present attempt was given to a connection.
    #[must_use]
    pub const fn outcome(&self, sent: bool) -> Outcome {
        if self.reached || sent { Outcome::Unknown } else { Outcome::NotApplied }
    }

    /// The last refusal, if the last thing that happened was one.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// By which rules it is repeated.
    #[must_use]
    pub const fn policy(&self) -> WritePolicy {
        self.policy
    }

    fn refused(&mut self, now: Duration, refused: Refused, progress: Progress) -> Step {
        self.refusal = Some(refused.refusal);
        if refused.refusal.remedy() == Remedy::None {
            return self.fail(Why::Final, self.outcome(false));
        }
        if progress.response_started || !progress.replayable {
            return self.fail(Why::NotReplayable, self.outcome(progress.response_started));
        }
        match refused.refusal.remedy() {
            Remedy::Moment => self.wait_a_moment(now),
            Remedy::NewerRecord | Remedy::None => {
                let newer = following(self.routed);
                self.wait_for_record(now, refused.epoch.map_or(newer, |seen| newer.max(seen)))
            }
        }
    }

    fn failed(
        &mut self,
        now: Duration,
        failure: Failure,
        progress: Progress,
        budget: &RetryBudget,
    ) -> Step {
        let may_be_applied = failure.may_have_reached() || progress.response_started;
        if !may_be_applied {
            if progress.replayable {
                return self.wait_a_moment(now);
            }
            return self.fail(Why::NotReplayable, self.outcome(false));
        }
        if self.may_repeat(progress, budget) {
            self.search_ends = now.saturating_add(self.policy.patience);
            return self.wait_a_moment(now);
        }
        self.fail(Why::MayBeApplied, Outcome::Unknown)
    }

    fn moved(&mut self, now: Duration, progress: Progress, budget: &RetryBudget) -> Step {
        if let Phase::Superseded { until } = self.phase {
            return Step::Stay { until: Some(until) };
        }
        if self.may_repeat(progress, budget) {
            self.search_ends = now.saturating_add(self.policy.patience);
            self.backoff = BACKOFF_MIN;
            return Step::Send;
        }
        // A release waits for the writes that it ends, so an answer may be on its way.
        let until = now.saturating_add(self.policy.patience);
        self.phase = Phase::Superseded { until };
        Step::Stay { until: Some(until) }
    }

    fn installed(&mut self, installed: Epoch) -> Step {
        match self.phase {
            Phase::Waiting { record, .. } if installed >= record => {
                // Another record, perhaps another pod: its first pause is a short one again.
                self.backoff = BACKOFF_MIN;
                Step::Send
            }
            Phase::Waiting { record, until, .. } => Step::Wait { until, record },
            Phase::AtPod => Step::Stay { until: None },
            Phase::Superseded { until } => Step::Stay { until: Some(until) },
        }
    }

    fn waited(&mut self, now: Duration) -> Step {
        match self.phase {
            Phase::Waiting { record, until, .. } if now < until => Step::Wait { until, record },
            Phase::Waiting { sends_again: true, .. } if now < self.search_ends => Step::Send,
            Phase::Waiting { .. } => self.fail(Why::PatienceOver, self.outcome(false)),
            Phase::AtPod => Step::Stay { until: None },
            Phase::Superseded { until } if now < until => Step::Stay { until: Some(until) },
            Phase::Superseded { .. } => self.fail(Why::OwnerReplaced, Outcome::Unknown),
        }
    }

    /// Whether a write that may have been applied is sent again; counts it if so.
    fn may_repeat(&mut self, progress: Progress, budget: &RetryBudget) -> bool {
        let may = self.policy.idempotent
            && progress.replayable
            && !progress.response_started
            && self.left > 0
            && budget.try_spend();
        if may {
            self.left = self.left.saturating_sub(1);
            self.reached = true;
        }
        may
    }

    fn wait_for_record(&mut self, now: Duration, record: Epoch) -> Step {
        self.wait(now, record, self.search_ends, false)
    }

    fn wait_a_moment(&mut self, now: Duration) -> Step {
        let until = now.saturating_add(self.backoff).min(self.search_ends);
        self.backoff = self.backoff.saturating_mul(2).min(BACKOFF_MAX);
        self.wait(now, following(self.routed), until, true)
    }

    fn wait(&mut self, now: Duration, record: Epoch, until: Duration, sends_again: bool) -> Step {
        if now >= self.search_ends {
            return self.fail(Why::PatienceOver, self.outcome(false));
        }
        self.phase = Phase::Waiting { record, until, sends_again };
        Step::Wait { until, record }
    }

    const fn fail(&self, why: Why, outcome: Outcome) -> Step {
        Step::Fail(GaveUp { outcome, refusal: self.refusal, why })
    }
}

/// The first epoch after that of a record; any, if there is no record.
fn following(record: Option<Epoch>) -> Epoch {
    record.map_or(Epoch::new(0), |record| record.next().unwrap_or(record))
}

#[cfg(test)]
mod tests;
