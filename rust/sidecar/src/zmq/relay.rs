//! The life of a request: from a client's message, and from the pod's reply, or an error, back.
//!
//! The way in between is in [`super::dispatch`], to a pod and to the next one; in [`super::writes`],
//! to the owner; and in [`super::guarded`], to the service behind a guard.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashroute_core::{Epoch, PodId, PodIndex, Slot};
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::fleet::{Answer, Permit};
use hashroute_dataplane::health::Event;
use hashroute_dataplane::refusal::Refused;
use hashroute_dataplane::retry::Attempts;
use hashroute_dataplane::route::OnMissing;
use hashroute_dataplane::write::Step;
use hashroute_dataplane::zmtp::{
    ErrorReply, InFlight, Oversize, RequestId, frames, nth_frame, same_frames, split_envelope,
    split_first_frame,
};
use mio::Registry;
use slab::Slab;

use super::client::{Client, ClientId};
use super::connection::Connection;
use super::guarded::{Door, Guarded};
use super::link::Link;
use super::outbox::SHARE_BYTES_MIN;
use super::refusal;
use super::writes::{Alarms, Sending};
use crate::metrics::{Metrics, TransportMetrics};
use crate::routing::Routing;
use crate::shared::Shared;

/// What is true for the whole of one turn of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Duration,
    pub(super) routing: &'a Routing,
}

impl Turn<'_> {
    /// The epoch of the record; 0 if there is none.
    pub(super) fn record_epoch(&self) -> Epoch {
        self.routing.record().map_or(Epoch::new(0), |record| record.epoch())
    }
}

/// Clients, pods, and the requests between them.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) shared: Arc<Shared>,
    /// The counters of this loop.
    pub(super) metrics: fn(&Metrics) -> &TransportMetrics,
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
    /// What stands between the clients and the own service; none for a router.
    pub(super) door: Option<Door>,
    /// When writes are to be looked at.
    pub(super) alarms: Alarms,
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
    pub(super) payload: Bytes,
    /// How much of `payload` is the envelope.
    envelope_bytes: usize,
    received: Duration,
    pub(super) errand: Errand,
    pub(super) at: Option<Attempt>,
}

/// What a request is, and what is remembered of it on its way.
#[derive(Debug)]
pub(super) enum Errand {
    /// It goes along the pods of its slot.
    Read {
        attempts: Attempts,
        /// Pods that failed it.
        tried: Vec<PodId>,
    },
    /// It goes to the owner and nowhere else.
    Write(Box<Sending>),
    /// It goes to the service behind the guard.
    Guarded(Guarded),
}

/// Where a request is.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) link: usize,
    /// Counts the request in flight at the pod; the service behind a guard is none.
    pub(super) permit: Option<Permit>,
    /// The bytes that it takes in the stream to the pod; `None` while it waits for the handshake.
    pub(super) sent: Option<(u64, u64)>,
}

impl Relay {
    /// Takes a whole message from the client at `key`.
    pub(super) fn request(&mut self, turn: Turn<'_>, key: usize, message: Cow<'_, [u8]>) {
        let Some(client) = self.clients.get(key).map(|client| client.id) else { return };
        let Some(envelope) = split_envelope(&message) else {
            return self.turn_away(client, &[], &refusal::no_envelope());
        };
        if let Some(error) = self.overload() {
            return self.turn_away(client, envelope.frames, &error);
        }
        let judged = match &self.door {
            Some(_) => self.judge(turn, envelope.content),
            None => self.find_errand(turn, envelope.content),
        };
        let (errand, slot) = match judged {
            Ok(judged) => judged,
            Err(NoErrand::Wrong(error)) => {
                return self.turn_away(client, envelope.frames, &error);
            }
            Err(NoErrand::Refused(error)) => {
                return self.send_error(client, envelope.frames, &error);
            }
        };
        let pending = Pending {
            client,
            envelope_bytes: envelope.frames.len(),
            payload: match message {
                Cow::Borrowed(message) => Bytes::copy_from_slice(message),
                Cow::Owned(message) => Bytes::from(message),
            },
            received: turn.now,
            errand,
            at: None,
        };
        let payload_bytes = pending.payload.len();
        // `overload` keeps the table far smaller than the numbers there are.
        let deadline = turn.now + turn.routing.rules.zmq.request_timeout;
        let Ok(request) = self.in_flight.insert(deadline, pending) else { return };
        self.payload_bytes += payload_bytes;
        if let Some(client) = self.clients.get_mut(key) {
            client.in_flight += 1;
            client.in_flight_bytes += payload_bytes;
        }
        turn.routing.zmq_side.budget.deposit();
        match (slot, &self.door) {
            (Some(slot), _) => self.dispatch(turn, request, slot),
            (None, None) => self.carry_out(turn, request, Step::Send),
            (None, Some(_)) => self.pass_on(turn, request),
        }
    }

    /// What a request with this content is, and for a read its slot.
    fn find_errand(
        &self,
        turn: Turn<'_>,
        content: &[u8],
    ) -> Result<(Errand, Option<Slot>), NoErrand> {
        let rules = &turn.routing.rules;
        if self.shared.quorum.is_some() {
            if let Some(writes) = rules.zmq.writes() {
                let sending = Sending::new(turn, &writes, content).map_err(NoErrand::Wrong)?;
                return Ok((Errand::Write(Box::new(sending)), None));
            }
            if self.shared.is_stale() {
                self.shared.metrics.writes.stale.increment();
            }
        }
        let slot = slot_of(turn.routing, content).map_err(NoErrand::Wrong)?;
        let attempts = Attempts::new(rules.zmq.idempotent, rules.retry.attempts_max);
        Ok((Errand::Read { attempts, tried: Vec::new() }, Some(slot)))
    }

    /// Takes the head of a message from the client at `key` that was dropped as it came.
    pub(super) fn dropped_request(
        &mut self,
        turn: Turn<'_>,
        key: usize,
        head: &[u8],
        why: Oversize,
    ) {
        let Some(client) = self.clients.get(key).map(|client| client.id) else { return };
        let envelope = split_envelope(head).map(|envelope| envelope.frames).unwrap_or_default();
        let error = refusal::request_too_large(why, turn.routing.rules.zmq.message_bytes_max);
        self.turn_away(client, envelope, &error);
    }

    /// Takes a whole message from the pod at the other end of `link`.
    pub(super) fn reply(&mut self, turn: Turn<'_>, link: usize, message: Cow<'_, [u8]>) {
        let Some((request, rest)) = self.answered(link, &message) else { return };
        let Some(pending) = self.in_flight.get(request) else { return };
        if !same_frames(pending.envelope(), rest) {
            return self.fail(turn, request, &refusal::foreign_envelope());
        }
        if let Errand::Write(_) = pending.errand
            && let Some(refused) = refused_of(pending.envelope(), rest)
        {
            return self.refused(turn, request, refused);
        }
        let skipped = message.len() - rest.len();
        let Some(pending) = self.end(request) else { return };
        if let Some(client) = self.client_mut(pending.client) {
            let outbox = &mut client.connection.outbox;
            match message {
                Cow::Owned(message) if message.len() >= SHARE_BYTES_MIN => {
                    outbox.share(&Bytes::from(message).slice(skipped..));
                }
                Cow::Owned(_) | Cow::Borrowed(_) => {
                    outbox.copy(message.get(skipped..).unwrap_or_default());
                }
            }
            self.schedule(Peer::Client(pending.client.key));
        }
        let metrics = (self.metrics)(&self.shared.metrics);
        metrics.statuses[0].increment();
        metrics.latency.record(turn.now.saturating_sub(pending.received));
        if let Some(permit) = pending.at.and_then(|attempt| attempt.permit) {
            self.shared.note(permit.observe(turn.now, Event::RequestSucceeded));
            permit.finish(Answer::Ok);
        }
    }

    /// Takes the head of a pod's reply that was dropped as it came.
    pub(super) fn dropped_reply(
        &mut self,
        turn: Turn<'_>,
        link: usize,
        head: &[u8],
        why: Oversize,
    ) {
        if let Some((request, _)) = self.answered(link, head) {
            let error = refusal::reply_too_large(why, turn.routing.rules.zmq.message_bytes_max);
            self.fail(turn, request, &error);
        }
    }

    /// Ends every request whose time is over.
    pub(super) fn expire(&mut self, turn: Turn<'_>) {
        while let Some(pending) = self.in_flight.expire(turn.now) {
            let begun = pending.at.as_ref().filter(|attempt| attempt.has_begun(&self.links));
            if let Some(permit) = begun.and_then(|attempt| attempt.permit.as_ref()) {
                self.shared.note(permit.observe(turn.now, Event::DeadlineExceeded));
            }
            let outcome = pending.outcome(begun.is_some());
            let mut error = refusal::expired(outcome, turn.routing.rules.zmq.request_timeout);
            error.refused = pending.refused();
            self.release(&pending);
            self.answer(turn, pending, &error);
        }
    }

    /// Ends a request with an error.
    pub(super) fn fail(&mut self, turn: Turn<'_>, request: RequestId, error: &ErrorReply) {
        if let Some(pending) = self.end(request) {
            self.answer(turn, pending, error);
        }
    }

    /// Tells the fleet what was seen of a pod.
    pub(super) fn report(&self, turn: Turn<'_>, pod: PodIndex, event: Event) {
        self.shared.note(turn.routing.zmq_side.fleet.observe(pod, turn.now, event));
    }

    /// Whether every request was answered and every answer written.
    pub(super) fn is_finished(&self) -> bool {
        self.in_flight.is_empty()
            && self.clients.iter().all(|(_, client)| client.connection.outbox.waiting() == 0)
    }

    /// The connection of a peer, if it has one.
    pub(super) fn connection_mut(&mut self, peer: Peer) -> Option<&mut Connection> {
        match peer {
            Peer::Client(key) => self.clients.get_mut(key).map(|client| &mut client.connection),
            Peer::Link(key) => self.links.get_mut(key)?.connection_mut(),
        }
    }

    /// Puts a peer in the list of those that have something to write, once.
    pub(super) fn schedule(&mut self, peer: Peer) {
        let Some(connection) = self.connection_mut(peer) else { return };
        if !connection.is_scheduled {
            connection.is_scheduled = true;
            self.scheduled.push(peer);
        }
    }

    /// Sees to it that answers to a handshake or a heartbeat are written after a read; returns
    /// whether there may be more to read.
    pub(super) fn end_of_input(&mut self, peer: Peer) -> bool {
        let Some(connection) = self.connection_mut(peer) else { return false };
        let (is_readable, is_waiting) = (connection.readable, connection.outbox.waiting() > 0);
        if is_waiting {
            self.schedule(peer);
        }
        is_readable
    }

    fn overload(&self) -> Option<ErrorReply> {
        let requests_max = self.shared.limits.requests_max;
        match self.closed_for {
            Some(Closed::Stopping) => Some(refusal::stopping()),
            Some(Closed::Memory) => Some(refusal::buffers_full()),
            None if self.in_flight.len() as u64 >= u64::from(requests_max) => {
                Some(refusal::too_many_requests(requests_max))
            }
            None => None,
        }
    }

    /// The request that a message from `link` answers, and the message after its number.
    ///
    /// `None` for an answer that nobody waits for any more, or that was never asked of this pod.
    fn answered<'a>(&self, link: usize, message: &'a [u8]) -> Option<(RequestId, &'a [u8])> {
        let found = split_first_frame(message).and_then(|(number, rest)| {
            let request = RequestId::from_bytes(number)?;
            let attempt = self.in_flight.get(request)?.at.as_ref()?;
            (attempt.link == link).then_some((request, rest))
        });
        if found.is_none() {
            (self.metrics)(&self.shared.metrics).refused.increment();
        }
        found
    }

    /// Takes a request out of the table and off every count.
    fn end(&mut self, request: RequestId) -> Option<Pending> {
        let pending = self.in_flight.remove(request)?;
        self.release(&pending);
        Some(pending)
    }

    fn release(&mut self, pending: &Pending) {
        self.payload_bytes -= pending.payload.len();
        if let Some(client) = self.client_mut(pending.client) {
            client.in_flight -= 1;
            client.in_flight_bytes -= pending.payload.len();
        }
        if let Some(link) = pending.at.as_ref().and_then(|at| self.links.get_mut(at.link)) {
            link.in_flight -= 1;
        }
    }

    /// Answers a request that was in the table with an error.
    fn answer(&mut self, turn: Turn<'_>, pending: Pending, error: &ErrorReply) {
        (self.metrics)(&self.shared.metrics)
            .latency
            .record(turn.now.saturating_sub(pending.received));
        self.send_error(pending.client, pending.envelope(), error);
        if let Some(permit) = pending.at.and_then(|attempt| attempt.permit) {
            permit.finish(Answer::Error);
        }
    }

    /// Answers a message that never got into the table with an error.
    fn turn_away(&mut self, client: ClientId, envelope: &[u8], error: &ErrorReply) {
        (self.metrics)(&self.shared.metrics).refused.increment();
        self.send_error(client, envelope, error);
    }

    pub(super) fn send_error(&mut self, to: ClientId, envelope: &[u8], error: &ErrorReply) {
        let code = ErrorCode::ALL.iter().position(|code| *code == error.code).unwrap_or_default();
        (self.metrics)(&self.shared.metrics).statuses[1 + code].increment();
        if let Some(client) = self.client_mut(to) {
            client.connection.outbox.copy(&error.encode(envelope));
            self.schedule(Peer::Client(to.key));
        }
    }

    /// The client, unless its connection is over.
    fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id.key).filter(|client| client.id == id)
    }
}

impl Pending {
    /// The frames that lead the answer back.
    pub(super) fn envelope(&self) -> &[u8] {
        self.payload.get(..self.envelope_bytes).unwrap_or_default()
    }

    /// What follows the envelope, without copying it.
    pub(super) fn content(&self) -> Bytes {
        self.payload.slice(self.envelope_bytes.min(self.payload.len())..)
    }

    /// The slot of its key, by the rules in force now.
    pub(super) fn slot(&self, routing: &Routing) -> Result<Slot, ErrorReply> {
        slot_of(routing, self.payload.get(self.envelope_bytes..).unwrap_or_default())
    }

    /// The outcome of an error that ends it now; `sent` says whether any byte of the present
    /// attempt was given to a connection.
    pub(super) fn outcome(&self, sent: bool) -> Outcome {
        match &self.errand {
            Errand::Read { attempts, .. } => attempts.outcome(sent),
            Errand::Write(sending) => sending.write.outcome(sent),
            Errand::Guarded(_) if sent => Outcome::Unknown,
            Errand::Guarded(_) => Outcome::NotApplied,
        }
    }

    /// The refusal that a write met last, while it is at no pod.
    fn refused(&self) -> Option<Refused> {
        let Errand::Write(sending) = &self.errand else { return None };
        let refusal = sending.write.refusal().filter(|_| self.at.is_none())?;
        Some(Refused { refusal, epoch: None })
    }
}

/// Why a message becomes no request.
#[derive(Debug)]
pub(super) enum NoErrand {
    /// It is the client's mistake.
    Wrong(ErrorReply),
    /// The guard does not admit it.
    Refused(ErrorReply),
}

impl Attempt {
    /// Whether any byte of it was given to the connection.
    fn has_begun(&self, links: &Slab<Link>) -> bool {
        let connection = links.get(self.link).and_then(Link::connection);
        let written = connection.map_or(0, |connection| connection.outbox.written());
        self.sent.is_some_and(|(start, _)| start < written)
    }
}

/// The slot of a request by the content after its envelope.
fn slot_of(routing: &Routing, content: &[u8]) -> Result<Slot, ErrorReply> {
    let key_frame = routing.rules.zmq.key_frame;
    match (nth_frame(content, key_frame), routing.rules.zmq.on_missing) {
        (Some(key), _) => Ok(routing.ring.slot(key)),
        (None, OnMissing::Any) => Ok(routing.zmq_side.fleet.any_slot()),
        (None, OnMissing::Reject) => Err(refusal::missing_key(key_frame)),
    }
}

/// The refusal that a reply to a request of this envelope is, if it is one.
fn refused_of(envelope: &[u8], reply: &[u8]) -> Option<Refused> {
    let mut content = frames(reply).skip(frames(envelope).count());
    let error = ErrorReply::parse(content.next()?.body)?;
    let is_refusal = error.code == ErrorCode::Refused && content.next().is_none();
    error.refused.filter(|_| is_refusal)
}
