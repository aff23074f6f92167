//! The way of a request along the pods of its slot.
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hashroute_core::Slot;
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::fleet::{Answer, Fleet, Permit, Reason as ChoiceReason, Tried};
use hashroute_dataplane::grpc::Status;
use hashroute_dataplane::health::{Event, Health};
use hashroute_dataplane::retry::{Cost, Failure, Progress, Verdict};

use super::call::{Call, Failed};
use super::exchange::{AnswerNote, Ended, Exchange, PodFailure, status_of_reset};
use super::reply::ErrorReply;
use super::transit::Stopped;
use super::upstream::{NotOpened, Opened, Patience, Upstream};
use crate::writing::Failing;

/// What came of one attempt.
#[derive(Debug)]
enum Attempt {
    Answered(Status),
    CallerGone,
    DeadlinePassed {
        is_sent: bool,
    },
    Failed(PodFailure),
    /// The pod was found down, and the request is to go here instead.
    MoveOn(Permit),
    /// The request cannot be written as HTTP/2.
    Unsendable,
}

/// The pods of a slot, as one request goes along them.
struct Way<'a> {
    fleet: &'a Fleet,
    slot: Slot,
    tried: Tried,
}

impl Way<'_> {
    /// The next pod. When all were tried they are tried again: the number of attempts is limited,
    /// and a pod that has just come back is better than an error.
    fn next(&mut self) -> Result<Permit, Failed> {
        let mut chosen = self.fleet.choose(self.slot, &self.tried);
        if chosen.is_err() {
            self.tried = Tried::none();
            chosen = self.fleet.choose(self.slot, &self.tried);
        }
        chosen.map_err(|none| {
            Failed::error(ErrorCode::Unavailable, Outcome::NotApplied, none.to_string())
        })
    }

    /// A pod that is better than one that is down, if there is one.
    fn better_than(&mut self, down: &Permit) -> Option<Permit> {
        self.tried.insert(down.pod());
        let permit = self.fleet.choose(self.slot, &self.tried).ok()?;
        (permit.reason() != ChoiceReason::LastResort).then_some(permit)
    }
}

impl Call {
    /// Goes along the pods of `slot` until one answers, or there is a reason to stop.
    pub(super) async fn try_pods(&mut self, slot: Slot) -> Result<Status, Failed> {
        let table = Rc::clone(&self.table);
        let mut way = Way { fleet: &table.routing.grpc_side.fleet, slot, tried: Tried::none() };
        let mut permit = way.next()?;
        loop {
            let next = match self.attempt(&permit, &mut way).await {
                Attempt::Answered(status) => {
                    self.note(&permit, Event::RequestSucceeded);
                    let is_ok = status == Status::Ok;
                    permit.finish(if is_ok { Answer::Ok } else { Answer::Error });
                    return Ok(status);
                }
                // The permit is dropped: the pod answered neither well nor badly.
                Attempt::CallerGone => return Err(Failed::CallerGone),
                Attempt::Unsendable => return Err(unsendable()),
                Attempt::DeadlinePassed { is_sent } => {
                    self.note(&permit, Event::DeadlineExceeded);
                    let text = format!("the deadline passed before {} answered", name(&permit));
                    let outcome = self.attempts.outcome(is_sent);
                    permit.finish(Answer::Error);
                    return Err(Failed::error(ErrorCode::DeadlineExceeded, outcome, text));
                }
                Attempt::MoveOn(next) => next,
                Attempt::Failed(failed) => {
                    let verdict = self.judge(failed.failure);
                    if !matches!(verdict, Verdict::Retry(_)) {
                        let text = describe(failed, &name(&permit));
                        permit.finish(Answer::Error);
                        return Err(self.give_up(failed, verdict, text));
                    }
                    // A pod that said goodbye on one connection takes requests on the next.
                    if failed.failure != Failure::GoAwayBeyond {
                        way.tried.insert(permit.pod());
                    }
                    way.next()?
                }
            };
            std::mem::replace(&mut permit, next).finish(Answer::Error);
            self.gateway.metrics().retries.increment();
            self.body.rewind();
            if let Some(left) = self.deadline.left() {
                self.head.shorten_timeout(left);
            }
        }
    }

    /// Sends the request to one pod and passes the answer on.
    async fn attempt(&mut self, permit: &Permit, way: &mut Way<'_>) -> Attempt {
        let table = Rc::clone(&self.table);
        let Some(upstream) = table.upstream(permit.pod()) else {
            return Attempt::Failed(UNREACHABLE);
        };
        let is_sent = self.body.is_empty();
        let opened = match upstream.try_open(|| self.head.request(), is_sent) {
            Ok(Some(opened)) => Ok(opened),
            // Boxed because it is rare and would make room for itself in every request.
            Ok(None) => Box::pin(self.open_at(upstream, permit, is_sent)).await,
            Err(not_opened) => Err(not_opened.into()),
        };
        let mut exchange = match opened {
            Ok(opened) => Exchange::new(opened, is_sent),
            Err(attempt) => return attempt,
        };
        let is_stale = self.gateway.shared.is_stale();
        let note = AnswerNote { pod: Some(table.pod_header(permit.pod())), is_stale };
        // A pod that is tried although it is down is not left because it is down. One that was
        // found down since it was chosen is: nobody will announce that again.
        let mut may_move_on = !was_chosen_down(permit)
            && matches!(
                self.attempts.classify(Failure::PodDown, self.progress()),
                Verdict::Retry(_)
            );
        let mut down = pin!(upstream.found_down());
        loop {
            let stopped = self.drive(&mut exchange, note, |cx, reply| {
                if may_move_on && !reply.has_begun() {
                    while down.as_mut().poll(cx).is_ready() {
                        down.set(upstream.found_down());
                    }
                    if permit.health() == Health::Down {
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            });
            if let Err(stopped) = stopped.await.interruption() {
                return stopped.into();
            }
            // Found down. Without a better pod, or without leave to repeat, patience is best: the
            // pod may yet answer, and the end of its connection would be told.
            may_move_on = false;
            if let Some(better) = way.better_than(permit)
                && matches!(self.judge(Failure::PodDown), Verdict::Retry(_))
            {
                return Attempt::MoveOn(better);
            }
        }
    }

    /// Waits for a connection to a pod that may be found down meanwhile.
    async fn open_at(
        &mut self,
        upstream: &Upstream,
        permit: &Permit,
        is_end: bool,
    ) -> Result<Opened, Attempt> {
        let patience = match (permit.health(), permit.reason()) {
            (Health::Up, _) => Patience::ForOneNow,
            (_, ChoiceReason::LastResort) => Patience::ForNext,
            (_, ChoiceReason::Owner | ChoiceReason::Spill | ChoiceReason::Failover) => {
                Patience::None
            }
        };
        let was_down = was_chosen_down(permit);
        let found_down = |_: &mut Context<'_>| {
            let is_down = !was_down && permit.health() == Health::Down;
            if is_down { Poll::Ready(()) } else { Poll::Pending }
        };
        self.open(upstream, is_end, patience, found_down).await.map_err(Attempt::from)
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { response_started: self.reply.has_begun(), replayable: self.body.is_replayable() }
    }

    /// Decides what a failure means, and counts a retry that only the budget forbade.
    fn judge(&mut self, failure: Failure) -> Verdict {
        let progress = self.progress();
        let due = self.attempts.classify(failure, progress);
        let budget = &self.table.routing.grpc_side.budget;
        let verdict = self.attempts.failed(failure, progress, budget);
        if due == Verdict::Retry(Cost::Budgeted) && verdict != due {
            self.gateway.metrics().retry_budget_exhausted.increment();
        }
        verdict
    }

    /// The end of a request whose last attempt failed.
    fn give_up(&self, failed: PodFailure, verdict: Verdict, text: String) -> Failed {
        let outcome = match verdict {
            Verdict::Fail(outcome) => outcome,
            Verdict::Wait | Verdict::Retry(_) => Outcome::Unknown,
        };
        self.failed_with(failed, outcome, text)
    }

    /// The error that tells of a failure.
    pub(super) fn failed_with(&self, failed: PodFailure, outcome: Outcome, text: String) -> Failed {
        match failed.reset {
            Some(reason) if self.reply.has_begun() => Failed::Reset(reason),
            Some(reason) => {
                let status = status_of_reset(reason);
                Failed::Error(ErrorReply { status, outcome, refusal: None, text })
            }
            None => Failed::error(ErrorCode::Unavailable, outcome, text),
        }
    }

    pub(super) fn note(&self, permit: &Permit, event: Event) {
        let shared = &self.gateway.shared;
        shared.note(permit.observe(shared.clock.now(), event));
    }
}

impl From<Stopped<()>> for Attempt {
    fn from(stopped: Stopped<()>) -> Self {
        match stopped {
            Stopped::Ended(Ended::Answered(status)) => Self::Answered(status),
            Stopped::Ended(Ended::CallerGone) => Self::CallerGone,
            Stopped::Ended(Ended::Failed(failed)) => Self::Failed(failed),
            // Asked for by writes alone; to anybody else it is an answer.
            Stopped::Ended(Ended::Refused(refused)) => Self::Answered(refused.refusal.status()),
            Stopped::NotOpened(not_opened) => not_opened.into(),
            Stopped::DeadlinePassed { is_sent } => Self::DeadlinePassed { is_sent },
            // Found down before it was opened.
            Stopped::Interrupted(()) => Self::Failed(UNREACHABLE),
        }
    }
}

impl From<NotOpened> for Attempt {
    fn from(not_opened: NotOpened) -> Self {
        match not_opened {
            NotOpened::Unreachable => Self::Failed(UNREACHABLE),
            NotOpened::Unsendable => Self::Unsendable,
        }
    }
}

pub(super) const UNREACHABLE: PodFailure = PodFailure { failure: Failure::Refused, reset: None };

/// Whether the pod is tried although it was already down when it was chosen.
fn was_chosen_down(permit: &Permit) -> bool {
    permit.reason() == ChoiceReason::LastResort && permit.health() == Health::Down
}

pub(super) fn name(permit: &Permit) -> String {
    format!("pod {}", permit.pod_id())
}

impl Failing for PodFailure {
    fn describe(&self, pod: &str) -> String {
        describe(*self, pod)
    }
}

/// A failure in words, for the error that a caller sees.
pub(super) fn describe(failed: PodFailure, pod: &str) -> String {
    match failed.failure {
        Failure::Refused => format!("{pod} cannot be reached"),
        Failure::NotSent => format!("the connection to {pod} ended before the request was sent"),
        Failure::RefusedStream => format!("{pod} refused the request unseen"),
        Failure::GoAwayBeyond => format!("{pod} closed its connection without taking the request"),
        Failure::Lost => format!("the connection to {pod} was lost while it had the request"),
        Failure::PodDown => format!("{pod} was found down while it had the request"),
        Failure::Reset => match failed.reset {
            Some(reason) => format!("{pod} broke the request off: {}", reason.description()),
            None => format!("{pod} broke the request off"),
        },
    }
}

pub(super) fn unsendable() -> Failed {
    let text = "the request has headers that HTTP/2 does not allow".to_owned();
    Failed::error(ErrorCode::Malformed, Outcome::NotApplied, text)
}
