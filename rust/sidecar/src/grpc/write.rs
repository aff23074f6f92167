//! The way of a write: to the owner by the newest record, until a pod answers or there is a reason to
//! stop. What each refusal and failure means is decided by `hashroute_dataplane::write`.
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hashroute_core::Epoch;
use hashroute_dataplane::error::ErrorCode;
use hashroute_dataplane::fleet::{Answer, Permit};
use hashroute_dataplane::grpc::Status;
use hashroute_dataplane::health::{Event as HealthEvent, Health};
use hashroute_dataplane::key::KeySearch;
use hashroute_dataplane::retry::Failure;
use hashroute_dataplane::route::{Route, Writes};
use hashroute_dataplane::write::{Event, GaveUp, Step, Why, Write, WritePolicy};
use tokio::time::{Sleep, sleep};

use super::attempt::{UNREACHABLE, unsendable};
use super::call::{Call, Failed};
use super::exchange::{AnswerNote, Ended, Exchange, PodFailure, status_of_reset};
use super::gateway::{Gateway, Table};
use super::reply::ErrorReply;
use super::transit::Stopped;
use super::upstream::{NotOpened, Patience, Upstream};
use crate::writing::{Destination, Goal, Last, explain_end};

/// A write, from one attempt to the next.
struct Sending {
    write: Write,
    goal: Goal,
    attempts: u32,
    last: Last<PodFailure>,
}

/// What came of one attempt.
enum Sent {
    Answered(Status),
    Step(Step),
}

/// The pod to which one attempt goes.
#[derive(Clone, Copy)]
struct Way<'a> {
    upstream: &'a Upstream,
    permit: &'a Permit,
    table: &'a Table,
    destination: &'a Destination,
    gateway: &'a Gateway,
}

/// Why a write that is at a pod is looked at.
enum Look {
    /// The resource has another owner.
    Moved,
    /// It is time.
    Waited,
}

impl Call {
    /// Sends a write to its owner until a pod answers, or there is a reason to stop.
    pub(super) async fn write(&mut self, route: &Route, writes: &Writes) -> Result<Status, Failed> {
        let goal = match writes {
            Writes::Slot => Goal::Key(self.find_hash(KeySearch::new(&route.sources)).await??),
            Writes::Group(group) => Goal::Group(group.clone()),
        };
        let routing = &self.table.routing;
        let policy = WritePolicy {
            idempotent: route.idempotent,
            patience: routing.rules.patience,
            attempts_max: routing.rules.retry.attempts_max,
        };
        routing.grpc_side.budget.deposit();
        let write = Write::new(self.now(), policy);
        let mut sending = Sending { write, goal, attempts: 0, last: Last::NoRecord };
        let mut step = Step::Send;
        loop {
            step = match step {
                // A write that stays nowhere is one that was never sent.
                Step::Send | Step::Stay { .. } => match self.send_write(&mut sending).await? {
                    Sent::Answered(status) => return Ok(status),
                    Sent::Step(step) => step,
                },
                Step::Wait { until, record } => {
                    let event = self.wait_for_record(&sending, until, record).await?;
                    sending.write.handle(self.now(), event)
                }
                Step::Fail(end) => return Err(self.gave_up(&sending, end)),
            };
        }
    }

    /// Finds the owner by the newest record and sends the write there.
    async fn send_write(&mut self, sending: &mut Sending) -> Result<Sent, Failed> {
        let table = self.gateway.table();
        self.table = Rc::clone(&table);
        let routing = &table.routing;
        let (destination, permit) =
            match sending.goal.destination(routing, &routing.grpc_side.fleet) {
                Ok(found) => found,
                Err((last, event)) => {
                    sending.last = last;
                    return Ok(self.tell(sending, event));
                }
            };
        let record = destination.record;
        self.tell(sending, Event::Sending { record });
        self.head.note_write(&destination.target, record, destination.owner.term);
        if sending.attempts > 0 {
            self.gateway.shared.metrics.writes.repeated.increment();
            self.body.rewind();
            if let Some(left) = self.deadline.left() {
                self.head.shorten_timeout(left);
            }
        }
        sending.attempts = sending.attempts.saturating_add(1);
        self.at_owner(sending, &table, &destination, permit).await
    }

    /// Sends the write to one pod and passes the answer on.
    async fn at_owner(
        &mut self,
        sending: &mut Sending,
        table: &Table,
        destination: &Destination,
        permit: Permit,
    ) -> Result<Sent, Failed> {
        let gateway = Rc::clone(&self.gateway);
        let budget = &table.routing.grpc_side.budget;
        let stopped = match table.upstream(permit.pod()) {
            Some(upstream) => {
                let way = Way { upstream, permit: &permit, table, destination, gateway: &gateway };
                self.exchange(sending, way).await
            }
            None => Stopped::NotOpened(NotOpened::Unreachable),
        };
        let pod = permit.pod_id().clone();
        let failed = match stopped {
            Stopped::Ended(Ended::Answered(status)) => {
                self.note(&permit, HealthEvent::RequestSucceeded);
                permit.finish(if status == Status::Ok { Answer::Ok } else { Answer::Error });
                return Ok(Sent::Answered(status));
            }
            Stopped::Ended(Ended::Refused(refused)) => {
                // It answers well; that it may not write is no fault of its.
                self.note(&permit, HealthEvent::RequestSucceeded);
                gateway.shared.metrics.writes.refused.increment(refused.refusal);
                sending.last = Last::Refused(pod, refused.refusal);
                let progress = self.progress();
                return Ok(self.tell(sending, Event::Refused { refused, progress }));
            }
            Stopped::Ended(Ended::CallerGone) => return Err(Failed::CallerGone),
            Stopped::NotOpened(NotOpened::Unsendable) => return Err(unsendable()),
            Stopped::DeadlinePassed { is_sent } => {
                self.note(&permit, HealthEvent::DeadlineExceeded);
                permit.finish(Answer::Error);
                let text = format!("the deadline passed before pod {pod} answered");
                let outcome = sending.write.outcome(is_sent);
                return Err(Failed::error(ErrorCode::DeadlineExceeded, outcome, text));
            }
            Stopped::Interrupted(step) => {
                permit.finish(Answer::Error);
                let lost = PodFailure { failure: Failure::Lost, reset: None };
                sending.last = Last::Failed(pod, lost);
                return Ok(Sent::Step(step));
            }
            Stopped::Ended(Ended::Failed(failed)) => failed,
            Stopped::NotOpened(NotOpened::Unreachable) => UNREACHABLE,
        };
        permit.finish(Answer::Error);
        sending.last = Last::Failed(pod, failed);
        let event = Event::Failed { failure: failed.failure, progress: self.progress(), budget };
        Ok(self.tell(sending, event))
    }

    /// Opens a stream and moves both bodies; interrupted by what the write is to do instead.
    async fn exchange(&mut self, sending: &mut Sending, way: Way<'_>) -> Stopped<Step> {
        let Way { upstream, permit, table, .. } = way;
        let mut moved = pin!(way.moved());
        let is_sent = self.body.is_empty();
        let opened = match upstream.try_open(|| self.head.request(), is_sent) {
            Ok(Some(opened)) => Ok(opened),
            Ok(None) => {
                // Many writes wait for one pod; not each of them has a connection tried.
                let is_first = sending.attempts <= 1 || permit.health() == Health::Up;
                let patience = if is_first { Patience::ForOneNow } else { Patience::ForNext };
                self.open(upstream, is_sent, patience, |cx| moved.as_mut().poll(cx)).await
            }
            Err(not_opened) => Err(Stopped::NotOpened(not_opened)),
        };
        let mut exchange = match opened {
            Ok(opened) => Exchange::taking_refusals(opened, is_sent),
            Err(stopped) => {
                // Found replaced before anything was sent: it looks for the new owner as if the old
                // one were not to be reached.
                let moved = |()| Stopped::NotOpened(NotOpened::Unreachable);
                return stopped.interruption().map_or_else(|stopped| stopped, moved);
            }
        };
        let pod = Some(table.pod_header(permit.pod()));
        let note = AnswerNote { pod, is_stale: false };
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        let mut is_moved = false;
        loop {
            let look = |cx: &mut Context<'_>, _: &_| {
                if !is_moved && moved.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Look::Moved);
                }
                let is_time =
                    timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                if is_time { Poll::Ready(Look::Waited) } else { Poll::Pending }
            };
            let look = match self.drive(&mut exchange, note, look).await.interruption() {
                Ok(look) => look,
                Err(stopped) => return stopped,
            };
            let event = match look {
                Look::Moved => {
                    is_moved = true;
                    let budget = &table.routing.grpc_side.budget;
                    Event::Moved { progress: self.progress(), budget }
                }
                Look::Waited => Event::Waited,
            };
            match sending.write.handle(self.now(), event) {
                Step::Stay { until } => timer = until.map(|until| self.alarm(until)),
                step @ (Step::Send | Step::Wait { .. } | Step::Fail(_)) => {
                    return Stopped::Interrupted(step);
                }
            }
        }
    }

    /// Waits for a record of at least this epoch, until a time.
    async fn wait_for_record(
        &mut self,
        sending: &Sending,
        until: Duration,
        record: Epoch,
    ) -> Result<Event<'static>, Failed> {
        let gateway = Rc::clone(&self.gateway);
        let mut timer = self.alarm(until);
        let mut changed = pin!(gateway.changed());
        let (reply, deadline) = (&mut self.reply, &mut self.deadline);
        poll_fn(|cx| {
            loop {
                let known = gateway.shared.routing.load().record().map(|known| known.epoch());
                if let Some(known) = known.filter(|known| *known >= record) {
                    return Poll::Ready(Ok(Event::Installed { record: known }));
                }
                if changed.as_mut().poll(cx).is_pending() {
                    break;
                }
                changed.set(gateway.changed());
            }
            if reply.poll_caller_gone(cx).is_ready() {
                return Poll::Ready(Err(Failed::CallerGone));
            }
            if deadline.poll_passed(cx).is_ready() {
                return Poll::Ready(Err(sending.out_of_time()));
            }
            timer.as_mut().poll(cx).map(|()| Ok(Event::Waited))
        })
        .await
    }

    /// Tells the write what happened.
    fn tell(&self, sending: &mut Sending, event: Event<'_>) -> Sent {
        Sent::Step(sending.write.handle(self.now(), event))
    }

    fn now(&self) -> Duration {
        self.gateway.shared.clock.now()
    }

    fn alarm(&self, until: Duration) -> Pin<Box<Sleep>> {
        Box::pin(sleep(until.saturating_sub(self.now())))
    }

    /// The end of a write that no pod answered.
    fn gave_up(&self, sending: &Sending, end: GaveUp) -> Failed {
        self.gateway.shared.metrics.writes.given_up.increment();
        let reset = match sending.last {
            Last::Failed(_, failed) if end.why == Why::MayBeApplied => failed.reset,
            Last::NoRecord
            | Last::NoOwner(..)
            | Last::Silent(_)
            | Last::Refused(..)
            | Last::Failed(..) => None,
        };
        if let Some(reason) = reset
            && self.reply.has_begun()
        {
            return Failed::Reset(reason);
        }
        let status = match (end.why, reset) {
            (Why::Final, _) => Status::FailedPrecondition,
            (_, Some(reason)) => status_of_reset(reason),
            (_, None) => Status::Unavailable,
        };
        let text = explain_end(&end, sending.write.policy().patience, &sending.last);
        Failed::Error(ErrorReply { status, outcome: end.outcome, refusal: end.refusal, text })
    }
}

impl Sending {
    /// The end of a write whose deadline passed while it was at no pod.
    fn out_of_time(&self) -> Failed {
        Failed::Error(ErrorReply {
            status: Status::DeadlineExceeded,
            outcome: self.write.outcome(false),
            refusal: self.write.refusal(),
            text: format!("the deadline passed before a pod accepted the write: {}", self.last),
        })
    }
}

impl Way<'_> {
    /// Returns once a record counts by which the resource has another owner.
    async fn moved(&self) {
        let mut changed = pin!(self.gateway.changed());
        while !self.destination.is_replaced(&self.gateway.shared.routing.load()) {
            changed.as_mut().await;
            changed.set(self.gateway.changed());
        }
    }
}
