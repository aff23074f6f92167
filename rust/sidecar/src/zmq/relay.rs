//! The life of a request: from a client's message to a pod, and from the pod's reply, or an error, back.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashroute_core::{PodId, PodIndex, Slot};
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::fleet::{Answer, Permit, TRIED_MAX, Tried};
use hashroute_dataplane::health::Event;
use hashroute_dataplane::retry::{Attempts, Failure, Progress, Verdict};
use hashroute_dataplane::route::OnMissing;
use hashroute_dataplane::zmtp::{
    ErrorReply, InFlight, Oversize, RequestId, encode_frame_header, nth_frame, same_frames,
    split_envelope, split_first_frame,
};
use mio::Registry;
use slab::Slab;

use super::client::{Client, ClientId};
use super::connection::Connection;
use super::link::{Admission, Link, LinkState};
use super::outbox::SHARE_BYTES_MIN;
use crate::routing::Routing;
use crate::shared::Shared;

/// What is true for the whole of one turn of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Duration,
    pub(super) routing: &'a Routing,
}

/// Clients, pods, and the requests between them.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Registry,
    pub(super) clients: Slab<Client>,
    /// The serial of the newest client.
    pub(super) client_serial: u64,
    /// Clients that are not read until their replies are taken or their requests answered.
    pub(super) paused: Vec<usize>,
    pub(super) links: Slab<Link>,
    /// The link to each pod of the present view.
    pub(super) by_pod: Vec<Option<usize>>,
    pub(super) in_flight: InFlight<Pending>,
    /// Bytes of all requests in flight.
    pub(super) payload_bytes: usize,
    /// Connections that have something to write.
    pub(super) scheduled: Vec<Peer>,
    /// Why new requests are turned away at the moment, if they are.
    pub(super) closed_for: Option<Closed>,
}

/// A connection of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client(usize),
    Link(usize),
}

/// Why the relay takes no new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Buffers hold as much as they may.
    Memory,
    /// The sidecar is about to end.
    Stopping,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    client: ClientId,
    /// The whole message as it came; kept to be sent again.
    payload: Bytes,
    /// How much of `payload` is the envelope.
    envelope_bytes: usize,
    received: Duration,
    attempts: Attempts,
    /// Pods that failed it.
    tried: Vec<PodId>,
    at: Option<Attempt>,
}

/// Where a request is.
#[derive(Debug)]
struct Attempt {
    link: usize,
    /// Counts the request in flight at the pod.
    permit: Permit,
    /// The bytes that it takes in the stream to the pod; `None` while it waits for the handshake.
    sent: Option<(u64, u64)>,
}

/// The error that ends a request.
struct Refusal {
    code: ErrorCode,
    outcome: Outcome,
    text: Cow<'static, str>,
}

impl Relay {
    /// The connection of a peer, if it has one.
    pub(super) fn connection_mut(&mut self, peer: Peer) -> Option<&mut Connection> {
        match peer {
            Peer::Client(key) => self.clients.get_mut(key).map(|client| &mut client.connection),
            Peer::Link(key) => self.links.get_mut(key)?.connection_mut(),
        }
    }

    /// Puts a peer in the list of those that have something to write.
    pub(super) fn schedule(&mut self, peer: Peer) {
        let is_scheduled = match peer {
            Peer::Client(key) => self.clients.get_mut(key).map(|client| &mut client.is_scheduled),
            Peer::Link(key) => self.links.get_mut(key).map(|link| &mut link.is_scheduled),
        };
        if let Some(is_scheduled) = is_scheduled {
            schedule(&mut self.scheduled, peer, is_scheduled);
        }
    }

    /// Whether every request was answered and every answer written.
    pub(super) fn is_finished(&self) -> bool {
        self.in_flight.is_empty()
            && self.clients.iter().all(|(_, client)| client.connection.outbox.waiting() == 0)
    }

    /// Takes a whole message from the client at `key`.
    pub(super) fn request(&mut self, turn: Turn<'_>, key: usize, message: Cow<'_, [u8]>) {
        let Some(client) = self.clients.get(key) else { return };
        let id = client.id;
        let Some(envelope) = split_envelope(&message) else {
            let text = "the message has no empty frame: send [envelope...][empty][key][body...], as REQ does";
            return self.turn_away(id, &[], Refusal::caused_by_caller(ErrorCode::Malformed, text));
        };
        let slot = match self.slot_of(turn.routing, envelope.content) {
            Ok(slot) => slot,
            Err(refusal) => return self.turn_away(id, envelope.frames, refusal),
        };
        if let Some(refusal) = self.overload() {
            return self.turn_away(id, envelope.frames, refusal);
        }
        let attempts_max = u32::try_from(turn.routing.retry.attempts_max).unwrap_or(u32::MAX);
        let pending = Pending {
            client: id,
            envelope_bytes: envelope.frames.len(),
            payload: match message {
                Cow::Borrowed(message) => Bytes::copy_from_slice(message),
                Cow::Owned(message) => Bytes::from(message),
            },
            received: turn.now,
            attempts: Attempts::new(turn.routing.zmq.idempotent, attempts_max),
            tried: Vec::new(),
            at: None,
        };
        let payload_bytes = pending.payload.len();
        turn.routing.zmq_side.budget.deposit();
        let Ok(request) = self.in_flight.insert(turn.now + turn.routing.zmq.request_timeout, pending) else {
            return;
        };
        self.payload_bytes += payload_bytes;
        if let Some(client) = self.clients.get_mut(key) {
            client.in_flight += 1;
        }
        self.dispatch(turn, request, slot);
    }

    /// Takes the head of a message from the client at `key` that was dropped as it came.
    pub(super) fn dropped_request(&mut self, turn: Turn<'_>, key: usize, head: &[u8], why: Oversize) {
        let Some(client) = self.clients.get(key) else { return };
        let envelope = split_envelope(head).map(|envelope| envelope.frames).unwrap_or_default();
        let refusal = Refusal {
            code: ErrorCode::ResourceExhausted,
            outcome: Outcome::NotApplied,
            text: oversize_text(why, turn.routing.zmq.message_bytes_max),
        };
        self.turn_away(client.id, envelope, refusal);
    }

    /// Takes a whole message from the pod at the other end of `link`.
    pub(super) fn reply(&mut self, turn: Turn<'_>, link: usize, message: Cow<'_, [u8]>) {
        let Some((request, rest)) = self.answered(link, &message) else { return };
        let Some(pending) = self.in_flight.get(request) else { return };
        let envelope = pending.payload.get(..pending.envelope_bytes).unwrap_or_default();
        if !same_frames(envelope, rest) {
            let text = "the pod's reply does not begin with the request's envelope: a worker must send it back";
            let refusal = Refusal { code: ErrorCode::Malformed, outcome: Outcome::Unknown, text: text.into() };
            return self.fail(turn, request, refusal);
        }
        let skipped = message.len() - rest.len();
        let Some(mut pending) = self.end(request) else { return };
        if let Some(client) = client_of(&mut self.clients, pending.client) {
            let outbox = &mut client.connection.outbox;
            match message {
                Cow::Owned(message) if message.len() >= SHARE_BYTES_MIN => {
                    outbox.share(&Bytes::from(message).slice(skipped..));
                }
                message => outbox.copy(message.get(skipped..).unwrap_or_default()),
            }
            schedule(&mut self.scheduled, Peer::Client(pending.client.key), &mut client.is_scheduled);
        }
        let metrics = &self.shared.metrics.zmq;
        metrics.statuses[0].increment();
        metrics.latency.record(turn.now.saturating_sub(pending.received));
        if let Some(attempt) = pending.at.take() {
            self.shared.note(attempt.permit.observe(turn.now, Event::RequestSucceeded));
            attempt.permit.finish(Answer::Ok);
        }
    }

    /// Takes the head of a pod's reply that was dropped as it came.
    pub(super) fn dropped_reply(&mut self, turn: Turn<'_>, link: usize, head: &[u8], why: Oversize) {
        if let Some((request, _)) = self.answered(link, head) {
            let text = oversize_text(why, turn.routing.zmq.message_bytes_max);
            let text = format!("the pod's reply was dropped: {text}").into();
            let refusal = Refusal { code: ErrorCode::ResourceExhausted, outcome: Outcome::Unknown, text };
            self.fail(turn, request, refusal);
        }
    }

    /// Ends every request whose time is over.
    pub(super) fn expire(&mut self, turn: Turn<'_>) {
        while let Some(pending) = self.in_flight.expire(turn.now) {
            let attempt = pending.at.as_ref().filter(|at| at.has_begun(&self.links));
            let is_sent = attempt.is_some();
            if let Some(attempt) = attempt {
                self.shared.note(attempt.permit.observe(turn.now, Event::DeadlineExceeded));
            }
            let limit = turn.routing.zmq.request_timeout.as_millis();
            let refusal = Refusal {
                code: ErrorCode::DeadlineExceeded,
                outcome: pending.attempts.outcome(is_sent),
                text: format!("no reply within zmq.request_timeout ({limit} ms)").into(),
            };
            self.release(&pending);
            self.answer(turn, pending, &refusal);
        }
    }

    /// Decides about every request on a link that failed: retry, patience or error.
    ///
    /// `written` is how far the stream to the pod got; `loss` is what the failure means for what was written.
    pub(super) fn fail_link(&mut self, turn: Turn<'_>, link: usize, written: u64, loss: Failure) {
        let affected: Vec<RequestId> = self
            .in_flight
            .iter()
            .filter(|(_, pending)| pending.at.as_ref().is_some_and(|at| at.link == link))
            .map(|(id, _)| id)
            .collect();
        for request in affected {
            let Some(pending) = self.in_flight.get(request) else { continue };
            let failure = match pending.at.as_ref().and_then(|at| at.sent) {
                None => Failure::Refused,
                // A pod drops a message that ends before its last byte.
                Some((_, end)) if written < end && loss == Failure::Lost => Failure::NotSent,
                Some(_) => loss,
            };
            self.retry_or_fail(turn, request, failure);
        }
    }

    /// Gives up on requests that wait for a handshake that takes too long.
    pub(super) fn fail_waiting(&mut self, turn: Turn<'_>, link: usize) {
        let Some(waiting) = self.links.get_mut(link).map(|link| std::mem::take(&mut link.waiting)) else { return };
        for request in waiting {
            self.retry_or_fail(turn, request, Failure::Refused);
        }
    }

    /// Sends what waited for the handshake.
    pub(super) fn send_waiting(&mut self, link: usize) {
        let Some(waiting) = self.links.get_mut(link).map(|link| std::mem::take(&mut link.waiting)) else { return };
        for request in waiting {
            self.send(request, link);
        }
    }

    /// Tells the fleet what was seen of a pod.
    pub(super) fn report(&self, turn: Turn<'_>, pod: PodIndex, event: Event) {
        self.shared.note(turn.routing.zmq_side.fleet.observe(pod, turn.now, event));
    }

    /// The slot of a request by the content after its envelope.
    fn slot_of(&self, routing: &Routing, content: &[u8]) -> Result<Slot, Refusal> {
        if let Some(key) = nth_frame(content, routing.zmq.key_frame) {
            return Ok(routing.ring.slot(key));
        }
        match routing.zmq.on_missing {
            OnMissing::Any => Ok(routing.zmq_side.fleet.any_slot()),
            OnMissing::Reject => {
                let frame = routing.zmq.key_frame;
                let text = format!("the message has no frame {frame} after the empty frame, where the key belongs");
                Err(Refusal { code: ErrorCode::MissingKey, outcome: Outcome::NotApplied, text: text.into() })
            }
        }
    }

    fn overload(&self) -> Option<Refusal> {
        let (code, text) = match self.closed_for {
            Some(Closed::Stopping) => (ErrorCode::Unavailable, "the sidecar is stopping: connect to another one"),
            Some(Closed::Memory) => (ErrorCode::ResourceExhausted, "the sidecar's buffers are full: send less, or later"),
            None if self.in_flight.len() >= self.requests_max() => {
                (ErrorCode::ResourceExhausted, "limits.requests_max is reached: send less, or later")
            }
            None => return None,
        };
        Some(Refusal { code, outcome: Outcome::NotApplied, text: text.into() })
    }

    fn requests_max(&self) -> usize {
        usize::try_from(self.shared.limits.requests_max).unwrap_or(usize::MAX)
    }

    /// Gives the request to the best pod for `slot` that has not failed it, or ends it.
    fn dispatch(&mut self, turn: Turn<'_>, request: RequestId, slot: Slot) {
        let Some(pending) = self.in_flight.get(request) else { return };
        let view = turn.routing.ring.view();
        let mut tried = Tried::none();
        for pod in &pending.tried {
            if let Some(pod) = view.index_of(pod.as_str()) {
                tried.insert(pod);
            }
        }
        let patience = turn.routing.health.timeout;
        let mut is_full = false;
        for _ in 0..TRIED_MAX {
            let Ok(permit) = turn.routing.zmq_side.fleet.choose(slot, &tried) else { break };
            let pod = permit.pod();
            let link = self.by_pod.get(pod.as_usize()).copied().flatten();
            let admission = link
                .and_then(|link| self.links.get(link))
                .map_or(Admission::Unreachable, |link| link.admission(turn.now, patience));
            let (Admission::Send | Admission::Wait, Some(link)) = (admission, link) else {
                is_full |= admission == Admission::Full;
                tried.insert(pod);
                continue;
            };
            let Some(pending) = self.in_flight.get_mut(request) else { return };
            pending.at = Some(Attempt { link, permit, sent: None });
            if let Some(link) = self.links.get_mut(link) {
                link.in_flight += 1;
                if admission == Admission::Wait {
                    link.waiting.push(request);
                }
            }
            if admission == Admission::Send {
                self.send(request, link);
            }
            return;
        }
        self.no_pod(turn, request, is_full);
    }

    /// Queues the request on its link's connection, under its number.
    fn send(&mut self, request: RequestId, key: usize) {
        let (Some(pending), Some(link)) = (self.in_flight.get_mut(request), self.links.get_mut(key)) else { return };
        let (Some(attempt), LinkState::Ready { connection, .. }) = (&mut pending.at, &mut link.state) else { return };
        let outbox = &mut connection.outbox;
        let start = outbox.queued();
        let number = request.to_bytes();
        outbox.encode(|tail| {
            encode_frame_header(tail, number.len(), true);
            tail.extend_from_slice(&number);
        });
        outbox.share(&pending.payload);
        attempt.sent = Some((start, outbox.queued()));
        schedule(&mut self.scheduled, Peer::Link(key), &mut link.is_scheduled);
    }

    fn no_pod(&mut self, turn: Turn<'_>, request: RequestId, is_full: bool) {
        let Some(pending) = self.in_flight.get(request) else { return };
        let outcome = pending.attempts.outcome(false);
        let refusal = if is_full {
            let text = "every pod for this key has more waiting than it reads";
            Refusal { code: ErrorCode::ResourceExhausted, outcome, text: text.into() }
        } else {
            let text = "no pod for this key can be reached";
            Refusal { code: ErrorCode::Unavailable, outcome, text: text.into() }
        };
        self.fail(turn, request, refusal);
    }

    fn retry_or_fail(&mut self, turn: Turn<'_>, request: RequestId, failure: Failure) {
        let Some(pending) = self.in_flight.get_mut(request) else { return };
        let progress = Progress { response_started: false, replayable: true };
        let wanted = pending.attempts.classify(failure, progress);
        let verdict = pending.attempts.failed(failure, progress, &turn.routing.zmq_side.budget);
        if verdict != wanted {
            self.shared.metrics.zmq.retry_budget_exhausted.increment();
        }
        match verdict {
            Verdict::Wait => {}
            Verdict::Fail(outcome) => {
                let text = failure_text(failure);
                self.fail(turn, request, Refusal { code: ErrorCode::Unavailable, outcome, text: text.into() });
            }
            Verdict::Retry(_) => {
                // An answer to the attempt that failed may still come; it finds nobody under its number.
                let Some(request) = self.in_flight.renew(request) else { return };
                self.leave_pod(request);
                let Some(pending) = self.in_flight.get(request) else { return };
                let payload = pending.payload.clone();
                let content = payload.get(pending.envelope_bytes..).unwrap_or_default();
                match self.slot_of(turn.routing, content) {
                    Ok(slot) => self.dispatch(turn, request, slot),
                    // The key's place was changed while the request was in flight.
                    Err(refusal) => self.fail(turn, request, refusal),
                }
            }
        }
    }

    /// Takes the request off the pod that failed it.
    fn leave_pod(&mut self, request: RequestId) {
        let Some(pending) = self.in_flight.get_mut(request) else { return };
        let Some(attempt) = pending.at.take() else { return };
        pending.tried.push(attempt.permit.pod_id().clone());
        if let Some(link) = self.links.get_mut(attempt.link) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
        attempt.permit.finish(Answer::Error);
        self.shared.metrics.zmq.retries.increment();
    }

    /// The request that a message from `link` answers, and the message after its number.
    ///
    /// `None` for an answer that nobody waits for any more, or that was never asked of this pod.
    fn answered<'a>(&self, link: usize, message: &'a [u8]) -> Option<(RequestId, &'a [u8])> {
        let found = split_first_frame(message).and_then(|(number, rest)| {
            let request = RequestId::from_bytes(number)?;
            let at = self.in_flight.get(request)?.at.as_ref()?;
            (at.link == link).then_some((request, rest))
        });
        if found.is_none() {
            self.shared.metrics.zmq.refused.increment();
        }
        found
    }

    /// Ends a request with an error.
    fn fail(&mut self, turn: Turn<'_>, request: RequestId, refusal: Refusal) {
        if let Some(pending) = self.end(request) {
            self.answer(turn, pending, &refusal);
        }
    }

    /// Takes a request out of the table and off every count.
    fn end(&mut self, request: RequestId) -> Option<Pending> {
        let pending = self.in_flight.remove(request)?;
        self.release(&pending);
        Some(pending)
    }

    fn release(&mut self, pending: &Pending) {
        self.payload_bytes = self.payload_bytes.saturating_sub(pending.payload.len());
        if let Some(client) = client_of(&mut self.clients, pending.client) {
            client.in_flight = client.in_flight.saturating_sub(1);
        }
        if let Some(link) = pending.at.as_ref().and_then(|at| self.links.get_mut(at.link)) {
            link.in_flight = link.in_flight.saturating_sub(1);
        }
    }

    /// Answers a request that was in the table with an error.
    fn answer(&mut self, turn: Turn<'_>, pending: Pending, refusal: &Refusal) {
        if let Some(attempt) = pending.at {
            attempt.permit.finish(Answer::Error);
        }
        self.shared.metrics.zmq.latency.record(turn.now.saturating_sub(pending.received));
        let envelope = pending.payload.get(..pending.envelope_bytes).unwrap_or_default();
        self.send_error(pending.client, envelope, refusal);
    }

    /// Answers a message that never got into the table with an error.
    fn turn_away(&mut self, client: ClientId, envelope: &[u8], refusal: Refusal) {
        self.shared.metrics.zmq.refused.increment();
        self.send_error(client, envelope, &refusal);
    }

    fn send_error(&mut self, to: ClientId, envelope: &[u8], refusal: &Refusal) {
        let status = 1 + ErrorCode::ALL.iter().position(|code| *code == refusal.code).unwrap_or_default();
        self.shared.metrics.zmq.statuses[status].increment();
        let Some(client) = client_of(&mut self.clients, to) else { return };
        let reply = ErrorReply {
            code: refusal.code,
            outcome: refusal.outcome,
            text: refusal.text.clone().into_owned(),
        };
        client.connection.outbox.copy(&reply.encode(envelope));
        schedule(&mut self.scheduled, Peer::Client(to.key), &mut client.is_scheduled);
    }
}

impl Attempt {
    /// Whether any byte of it was given to the connection.
    fn has_begun(&self, links: &Slab<Link>) -> bool {
        let connection = links.get(self.link).and_then(Link::connection);
        let written = connection.map_or(0, |connection| connection.outbox.written());
        self.sent.is_some_and(|(start, _)| start < written)
    }
}

impl Refusal {
    fn caused_by_caller(code: ErrorCode, text: &'static str) -> Self {
        Self { code, outcome: Outcome::NotApplied, text: text.into() }
    }
}

/// Puts a connection in the list of those that have something to write, once.
pub(super) fn schedule(scheduled: &mut Vec<Peer>, peer: Peer, is_scheduled: &mut bool) {
    if !*is_scheduled {
        *is_scheduled = true;
        scheduled.push(peer);
    }
}

/// The client, unless its connection is over.
fn client_of(clients: &mut Slab<Client>, id: ClientId) -> Option<&mut Client> {
    clients.get_mut(id.key).filter(|client| client.id == id)
}

fn oversize_text(why: Oversize, bytes_max: usize) -> Cow<'static, str> {
    match why {
        Oversize::Bytes => format!("the message is larger than zmq.message_bytes_max ({bytes_max})").into(),
        Oversize::Frames => format!("the message has more than {MESSAGE_FRAMES_MAX} frames").into(),
        Oversize::Shed => "the sidecar's buffers are full: send less, or later".into(),
    }
}

fn failure_text(failure: Failure) -> &'static str {
    match failure {
        Failure::Refused | Failure::NotSent | Failure::RefusedStream | Failure::GoAwayBeyond => {
            "the request reached no pod, and no attempt is left (retry.attempts_max)"
        }
        Failure::Lost | Failure::Reset | Failure::PodDown => {
            "the connection to the pod was lost before its reply came"
        }
    }
}

/// Frames of one message, the envelope included.
pub(super) const MESSAGE_FRAMES_MAX: usize = 1024;
