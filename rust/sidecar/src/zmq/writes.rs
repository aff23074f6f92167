//! The way of a write: to the owner by the newest record, until a pod answers or there is a reason to
//! stop. What each refusal and failure means is decided by `hashroute_dataplane::write`.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hashroute_core::hash_key;
use hashroute_dataplane::error::ErrorCode;
use hashroute_dataplane::fleet::Answer;
use hashroute_dataplane::health::Event as HealthEvent;
use hashroute_dataplane::refusal::Refused;
use hashroute_dataplane::retry::{Failure, Progress};
use hashroute_dataplane::route::Writes;
use hashroute_dataplane::write::{Event, GaveUp, Step, Tag, Why, Write, WritePolicy};
use hashroute_dataplane::zmtp::{ErrorReply, RequestId, encode_envelope, encode_frame, nth_frame};

use super::dispatch::Place;
use super::link::Admission;
use super::outbox::Outbox;
use super::refusal;
use super::relay::{Errand, Pending, Relay, Turn};
use crate::writing::{Destination, Failing, Goal, Last, explain_end};

/// A write, from one attempt to the next.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) write: Write,
    goal: Goal,
    /// Where it is, or was last.
    destination: Option<Destination>,
    /// What travels with it there.
    tag: String,
    attempts: u32,
    /// When it is to be looked at.
    alarm: Option<Duration>,
    /// Whether it is at a pod that does not own the resource any more.
    is_moved: bool,
    last: Last<WayFailed>,
}

/// How the way to a pod fails.
#[derive(Clone, Copy, Debug)]
enum WayFailed {
    /// Its connection.
    Connection(Failure),
    /// It has more waiting than it reads.
    Full,
}

impl Failing for WayFailed {
    fn describe(&self, pod: &str) -> String {
        match self {
            Self::Connection(failure) if failure.may_have_reached() => {
                format!("the connection to {pod} was lost before its reply came")
            }
            Self::Connection(_) => format!("{pod} cannot be reached"),
            Self::Full => format!("{pod} has more waiting than it reads"),
        }
    }
}

/// When writes are to be looked at. A write whose alarm has changed meanwhile is passed over.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    times: BinaryHeap<Reverse<(Duration, [u8; 8])>>,
}

impl Alarms {
    /// When the first one is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.times.peek().map(|Reverse((at, _))| *at)
    }

    fn set(&mut self, at: Duration, request: RequestId) {
        self.times.push(Reverse((at, request.to_bytes())));
    }

    /// Takes out one that is due.
    fn due(&mut self, now: Duration) -> Option<(Duration, RequestId)> {
        let Reverse((at, request)) = *self.times.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.times.pop();
        Some((at, RequestId::from_bytes(&request)?))
    }
}

impl Sending {
    /// A write with this content, before it is sent for the first time.
    pub(super) fn new(turn: Turn<'_>, writes: &Writes, content: &[u8]) -> Result<Self, ErrorReply> {
        let rules = &turn.routing.rules;
        let goal = match writes {
            Writes::Group(group) => Goal::Group(group.clone()),
            Writes::Slot => {
                let key_frame = rules.zmq.key_frame;
                let key = nth_frame(content, key_frame);
                Goal::Key(hash_key(key.ok_or_else(|| refusal::missing_key(key_frame))?))
            }
        };
        let policy = WritePolicy {
            idempotent: rules.zmq.idempotent,
            patience: rules.patience,
            attempts_max: rules.retry.attempts_max,
        };
        Ok(Self {
            write: Write::new(turn.now, policy),
            goal,
            destination: None,
            tag: String::new(),
            attempts: 0,
            alarm: None,
            is_moved: false,
            last: Last::NoRecord,
        })
    }

    /// Queues the message with its tag after the envelope.
    pub(super) fn put_message(&self, pending: &Pending, outbox: &mut Outbox) {
        let content = pending.content();
        outbox.encode(|tail| {
            // Encoded again, since one that was a whole message says that no frame follows.
            encode_envelope(tail, pending.envelope(), true);
            encode_frame(tail, self.tag.as_bytes(), !content.is_empty());
        });
        outbox.share(&content);
    }
}

impl Relay {
    /// Does with a write what was decided, and what follows from that.
    pub(super) fn carry_out(&mut self, turn: Turn<'_>, request: RequestId, step: Step) {
        let mut step = step;
        loop {
            match step {
                Step::Send => match self.send_to_owner(turn, request) {
                    Some(next) => step = next,
                    None => return,
                },
                Step::Wait { until, record } => {
                    let known = turn.record_epoch();
                    let is_there = turn.routing.record().is_some() && known >= record;
                    if !is_there {
                        return self.set_alarm(request, Some(until));
                    }
                    // It came before the refusal that asks for it.
                    let Some(sending) = self.sending(request) else { return };
                    step = sending.write.handle(turn.now, Event::Installed { record: known });
                }
                Step::Stay { until } => return self.set_alarm(request, until),
                Step::Fail(end) => {
                    self.shared.metrics.writes.given_up.increment();
                    let error = self.sending(request).map(|sending| sending.gave_up(end));
                    return error.map_or((), |error| self.fail(turn, request, &error));
                }
            }
        }
    }

    /// Follows another routing state: writes that wait for it are sent, writes at pods that were
    /// replaced are decided on.
    pub(super) fn follow_writes(&mut self, turn: Turn<'_>) {
        let Some(record) = turn.routing.record() else { return };
        let record = record.epoch();
        let writes = self.in_flight.iter().filter_map(|(request, pending)| {
            let Errand::Write(sending) = &pending.errand else { return None };
            let is_sent = pending.at.as_ref().map(|attempt| attempt.sent.is_some());
            (is_sent.is_none() || sending.is_replaced(turn)).then_some((request, is_sent))
        });
        for (request, is_sent) in writes.collect::<Vec<_>>() {
            match is_sent {
                None => self.tell(turn, request, Event::Installed { record }),
                Some(true) => self.moved(turn, request),
                // It waits for a handshake: nothing of it is at the pod.
                Some(false) => self.write_failed(turn, request, Failure::NotSent),
            }
        }
    }

    /// Looks at the writes whose time has come.
    pub(super) fn look_at_writes(&mut self, turn: Turn<'_>) {
        while let Some((at, request)) = self.alarms.due(turn.now) {
            if self.sending(request).is_some_and(|sending| sending.alarm == Some(at)) {
                self.tell(turn, request, Event::Waited);
            }
        }
    }

    /// The pod's guard refused a write.
    pub(super) fn refused(&mut self, turn: Turn<'_>, request: RequestId, refused: Refused) {
        self.shared.metrics.writes.refused.increment(refused.refusal);
        let Some((request, permit)) = self.take_off(request) else { return };
        if let (Some(sending), Some(permit)) = (self.sending(request), permit) {
            sending.last = Last::Refused(permit.pod_id().clone(), refused.refusal);
            // It answers well; that it may not write is no fault of its.
            self.shared.note(permit.observe(turn.now, HealthEvent::RequestSucceeded));
        }
        self.tell(turn, request, Event::Refused { refused, progress: WHOLE });
    }

    /// The way to the pod failed while it had a write, or before.
    pub(super) fn write_failed(&mut self, turn: Turn<'_>, request: RequestId, failure: Failure) {
        let Some((request, permit)) = self.take_off(request) else { return };
        if let (Some(sending), Some(permit)) = (self.sending(request), permit) {
            sending.last = Last::Failed(permit.pod_id().clone(), WayFailed::Connection(failure));
            permit.finish(Answer::Error);
        }
        let budget = &turn.routing.zmq_side.budget;
        self.tell(turn, request, Event::Failed { failure, progress: WHOLE, budget });
    }

    /// A write is at a pod that does not own the resource any more.
    fn moved(&mut self, turn: Turn<'_>, request: RequestId) {
        let budget = &turn.routing.zmq_side.budget;
        let Some(sending) = self.sending(request) else { return };
        sending.is_moved = true;
        let event = Event::Moved { progress: WHOLE, budget };
        match sending.write.handle(turn.now, event) {
            Step::Send => {
                let Some((request, permit)) = self.take_off(request) else { return };
                if let Some(permit) = permit {
                    permit.finish(Answer::Error);
                }
                self.carry_out(turn, request, Step::Send);
            }
            step @ (Step::Wait { .. } | Step::Stay { .. } | Step::Fail(_)) => {
                self.carry_out(turn, request, step);
            }
        }
    }

    fn tell(&mut self, turn: Turn<'_>, request: RequestId, event: Event<'_>) {
        let Some(sending) = self.sending(request) else { return };
        let step = sending.write.handle(turn.now, event);
        self.carry_out(turn, request, step);
    }

    /// Finds the owner by the newest record and gives it the write. What follows if that cannot be.
    fn send_to_owner(&mut self, turn: Turn<'_>, request: RequestId) -> Option<Step> {
        let (routing, side) = (turn.routing, &turn.routing.zmq_side);
        let sending = self.sending(request)?;
        let (destination, permit) = match sending.goal.destination(routing, &side.fleet) {
            Ok(found) => found,
            Err((last, event)) => {
                sending.last = last;
                return Some(sending.write.handle(turn.now, event));
            }
        };
        let (record, term) = (destination.record, destination.owner.term);
        sending.write.handle(turn.now, Event::Sending { record });
        sending.is_moved = false;
        sending.alarm = None;
        sending.tag = Tag { target: destination.target.clone(), epoch: record, term }.to_frame();
        sending.destination = Some(destination);
        let key = self.by_pod.get(permit.pod().as_usize()).copied().flatten();
        let link = key.and_then(|key| Some((key, self.links.get(key)?)));
        let admission = link.map_or(Admission::Unreachable, |(_, link)| {
            link.admission(turn.now, routing.rules.health.timeout)
        });
        let failed = match admission {
            Admission::Send | Admission::Wait => None,
            Admission::Unreachable => Some(WayFailed::Connection(Failure::Refused)),
            Admission::Full => Some(WayFailed::Full),
        };
        let sending = self.sending(request)?;
        if let Some(failed) = failed {
            sending.last = Last::Failed(permit.pod_id().clone(), failed);
            let (failure, budget) = (Failure::Refused, &side.budget);
            let event = Event::Failed { failure, progress: WHOLE, budget };
            return Some(sending.write.handle(turn.now, event));
        }
        sending.attempts = sending.attempts.saturating_add(1);
        if sending.attempts > 1 {
            self.shared.metrics.writes.repeated.increment();
        }
        let must_wait = admission == Admission::Wait;
        self.put(request, Place { link: key?, permit: Some(permit), must_wait });
        None
    }

    fn set_alarm(&mut self, request: RequestId, at: Option<Duration>) {
        let Some(sending) = self.sending(request) else { return };
        sending.alarm = at;
        if let Some(at) = at {
            self.alarms.set(at, request);
        }
    }

    fn sending(&mut self, request: RequestId) -> Option<&mut Sending> {
        match &mut self.in_flight.get_mut(request)?.errand {
            Errand::Write(sending) => Some(sending),
            Errand::Read { .. } | Errand::Guarded(_) => None,
        }
    }
}

impl Sending {
    /// Whether the resource has another owner than the pod where the write is, for the first time.
    fn is_replaced(&self, turn: Turn<'_>) -> bool {
        let Some(destination) = self.destination.as_ref().filter(|_| !self.is_moved) else {
            return false;
        };
        destination.is_replaced(turn.routing)
    }

    /// The end of a write that no pod answered.
    fn gave_up(&self, end: GaveUp) -> ErrorReply {
        let code = if end.why == Why::Final { ErrorCode::Refused } else { ErrorCode::Unavailable };
        let text = explain_end(&end, self.write.policy().patience, &self.last);
        let refused = end.refusal.map(|refusal| Refused { refusal, epoch: None });
        ErrorReply { code, outcome: end.outcome, refused, text }
    }
}

/// A message is kept whole until it is answered, and an answer is passed on whole.
const WHOLE: Progress = Progress { response_started: false, replayable: true };
