//! Writes of a program that sends them itself: to the owner by the newest record, or to nobody.
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{Record, Writer};
use hashroute_core::Epoch;
use hashroute_dataplane::error::Outcome;
use hashroute_dataplane::fleet::{Permit, Reason, Transport};
use hashroute_dataplane::refusal::Refused;
use hashroute_dataplane::retry::{Failure, Progress};
use hashroute_dataplane::write::{Event, GaveUp, Step, Target, Write, WritePolicy};

use super::{Present, Route, Router, State};
use crate::quorum;
use crate::writing::Goal;

/// Why nobody can be sent a write at this moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWriter {
    /// The router follows no quorum, so nobody says who may write.
    #[error(
        "this router follows no quorum, so nothing says who may write; make it with \
         Router.connect(voters, cluster=…)"
    )]
    NotFollowing,
    /// Nobody may write it by the newest record.
    #[error("by the record of epoch {} nobody may write {what}: wait for the next one", .epoch.get())]
    NoOwner {
        /// The slot or group, in words.
        what: String,
        /// The epoch of the record.
        epoch: Epoch,
    },
}

/// What to do with a write now.
#[derive(Debug)]
pub enum Turn {
    /// Send it there. It counts as in flight as long as the permit lives.
    Send(Box<Route>, Permit),
    /// It is at no pod: say [`WriteRequest::resumed`] at `until` on the router's clock, or when a
    /// record of at least this epoch is in force.
    Wait {
        /// When.
        until: Duration,
        /// From which epoch on.
        record: Epoch,
    },
    /// It stays where it is: say what comes of it, and [`WriteRequest::resumed`] at `until`, if that
    /// is given.
    Stay {
        /// When.
        until: Option<Duration>,
    },
    /// It ends with an error.
    Fail(GaveUp),
}

/// One write, over all its attempts.
#[derive(Debug)]
pub struct WriteRequest {
    state: Arc<State>,
    goal: Goal,
    write: Write,
    /// Who was sent it last.
    writer: Option<Writer>,
}

impl Router {
    /// Chooses the pod for one write that is not sent twice: its owner by the newest record,
    /// whatever the pod's health and load.
    ///
    /// # Errors
    ///
    /// [`NoWriter`] if nobody may write it, or the router follows no quorum.
    pub fn choose_writer(&self, goal: &Goal) -> Result<(Route, Permit), NoWriter> {
        let present = self.state.present.load();
        let record = present.record.as_ref().ok_or(NoWriter::NotFollowing)?;
        let nobody = || NoWriter::NoOwner { what: in_words(goal), epoch: record.epoch() };
        let (route, permit, _) = self.state.owner(&present, goal).ok_or_else(nobody)?;
        Ok((route, permit))
    }

    /// Begins a write; `patience` is for how long a pod that accepts it is looked for.
    #[must_use]
    pub fn write(&self, goal: Goal, idempotent: bool, patience: Duration) -> WriteRequest {
        self.state.budget.deposit();
        let attempts_max = self.state.settings.retry.attempts_max;
        let policy = WritePolicy { idempotent, patience, attempts_max };
        let write = Write::new(self.state.clock.now(), policy);
        WriteRequest { state: Arc::clone(&self.state), goal, write, writer: None }
    }
}

impl WriteRequest {
    /// Says where it is sent first.
    pub fn begin(&mut self) -> Turn {
        self.act(Step::Send)
    }

    /// The pod's guard refused it.
    pub fn refused(&mut self, refused: Refused, progress: Progress) -> Turn {
        let event = Event::Refused { refused, progress };
        let step = self.write.handle(self.state.clock.now(), event);
        self.act(step)
    }

    /// The present attempt failed. Which pods are judged by it is told apart, with
    /// [`Route::observe`].
    pub fn failed(&mut self, failure: Failure, progress: Progress) -> Turn {
        let event = Event::Failed { failure, progress, budget: &self.state.budget };
        let step = self.write.handle(self.state.clock.now(), event);
        self.act(step)
    }

    /// Whether what it writes has another owner by now than the one that it is at.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        let present = self.state.present.load();
        let Some(record) = &present.record else { return false };
        target(&present, record, &self.goal)
            .and_then(|target| record.owner(&quorum::resource(&target)))
            != self.writer
    }

    /// What it writes has another owner by now: see [`WriteRequest::has_moved`].
    pub fn moved(&mut self, progress: Progress) -> Turn {
        let event = Event::Moved { progress, budget: &self.state.budget };
        let step = self.write.handle(self.state.clock.now(), event);
        self.act(step)
    }

    /// The time has come that was waited for, or another record is in force. Asked too early, it
    /// says again what is waited for.
    pub fn resumed(&mut self) -> Turn {
        let now = self.state.clock.now();
        let record = self.state.present.load().record.as_ref().map(Record::epoch);
        let mut step = match record {
            Some(record) => self.write.handle(now, Event::Installed { record }),
            None => self.write.handle(now, Event::Waited),
        };
        if matches!(step, Step::Wait { .. } | Step::Stay { .. }) {
            step = self.write.handle(now, Event::Waited);
        }
        self.act(step)
    }

    /// What is known of the effect if it ends now; `sent` says whether the present attempt may have
    /// reached its pod.
    #[must_use]
    pub fn outcome(&self, sent: bool) -> Outcome {
        self.write.outcome(sent)
    }

    /// How long it is from now until `until` on the router's clock.
    #[must_use]
    pub fn left(&self, until: Duration) -> Duration {
        until.saturating_sub(self.state.clock.now())
    }

    fn act(&mut self, mut step: Step) -> Turn {
        loop {
            step = match step {
                Step::Send => match self.send() {
                    Ok(turn) => return turn,
                    Err(step) => step,
                },
                Step::Wait { until, record } => return Turn::Wait { until, record },
                Step::Stay { until } => return Turn::Stay { until },
                Step::Fail(end) => return Turn::Fail(end),
            };
        }
    }

    fn send(&mut self) -> Result<Turn, Step> {
        let now = self.state.clock.now();
        let present = self.state.present.load();
        let record = present.record.as_ref().map(Record::epoch);
        let Some((route, permit, writer)) = self.state.owner(&present, &self.goal) else {
            return Err(self.write.handle(now, Event::NoOwner { record }));
        };
        let record = route.epoch();
        if present.fleet.is_silent(permit.pod()) {
            return Err(self.write.handle(now, Event::OwnerSilent { record }));
        }
        self.write.handle(now, Event::Sending { record });
        self.writer = Some(writer);
        Ok(Turn::Send(Box::new(route), permit))
    }
}

impl State {
    /// The owner by the newest record, and a place there; `None` if there is none, or it has no
    /// address for the router's transport.
    fn owner(self: &Arc<Self>, present: &Present, goal: &Goal) -> Option<(Route, Permit, Writer)> {
        let record = present.record.as_ref()?;
        let target = target(present, record, goal)?;
        let resource = quorum::resource(&target);
        let writer = record.owner(&resource)?;
        let fleet = &present.fleet;
        let pod = fleet.ring().view().index_of(writer.pod.as_str())?;
        let route = Route {
            fleet: Arc::clone(fleet),
            state: Arc::clone(self),
            pod,
            reason: Reason::Owner,
            target,
            epoch: record.epoch(),
            term: record.term(&resource)?,
        };
        if fleet.transport() != Transport::Any {
            route.address()?;
        }
        let permit = fleet.take(pod)?;
        Some((route, permit, writer))
    }
}

/// What is written; `None` if no pod owns slots by the record.
fn target(present: &Present, record: &Record, goal: &Goal) -> Option<Target> {
    record.ring()?;
    Some(goal.target(present.fleet.ring()))
}

fn in_words(goal: &Goal) -> String {
    match goal {
        Goal::Key(_) => "the slot of this key".to_owned(),
        Goal::Group(name) => format!("group {:?}", name.as_arc()),
    }
}
