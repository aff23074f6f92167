//! The loop of the thread `hr-zmq`: what is ready is read, what is read is routed, what is routed is written.
//!
//! Each turn reads every ready connection once, decodes all that came, and writes to each connection once. So the
//! cost of a system call is shared by the requests of a turn, and one busy peer cannot keep the others waiting.
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hashroute_dataplane::zmtp::InFlight;
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Waker};
use slab::Slab;

use super::connection::Connection;
use super::guarded::Door;
use super::link::Link;
use super::pods::Resolver;
use super::relay::{Closed, Peer, Relay, Turn};
use super::resolve::Resolved;
use super::writes::Alarms;
use super::{LISTENER, Role, WAKER, peer};
use crate::clock::Heartbeat;
use crate::metrics::{Metrics, TransportMetrics};
use crate::routing::Routing;
use crate::shared::Shared;
use crate::threads::Drain;

/// The loop and all that it owns.
pub(super) struct EventLoop {
    poll: Poll,
    events: Events,
    listener: Option<TcpListener>,
    /// Whether clients may be waiting to be accepted.
    is_knocked: bool,
    relay: Relay,
    /// Connections that may have more to read.
    readable: Vec<Peer>,
    buffer: Vec<u8>,
    resolver: Resolver,
    resolved: Receiver<Resolved>,
    routing: Arc<Routing>,
    heartbeat: Arc<Heartbeat>,
    /// When the clock is next looked at.
    tend_at: Duration,
}

impl EventLoop {
    /// Prepares everything that may fail.
    pub(super) fn new(listener: TcpListener, shared: Arc<Shared>, role: Role) -> io::Result<Self> {
        let mut listener = listener;
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(registry, WAKER)?);
        let (answers, resolved) = channel();
        let routing = shared.routing.load_full();
        if shared.quorum.is_some() {
            // Writes that wait for a record must not wait for the next look at the clock.
            shared.wake(Arc::clone(&waker));
        }
        let mut links = Slab::new();
        let (door, metrics, heartbeat) = match role {
            Role::Router => (None, router_metrics as _, Arc::clone(&shared.heartbeats.zmq)),
            Role::Guard { guard, untagged, service } => {
                let link = links.insert(Link::new(None, service));
                let beat = Arc::clone(&shared.heartbeats.guard_zmq);
                (Some(Door { guard, untagged, link }), guard_metrics as _, beat)
            }
        };
        let mut relay = Relay {
            metrics,
            registry: registry.try_clone()?,
            clients: Slab::new(),
            client_serial: 0,
            links,
            by_pod: Vec::new(),
            paused: Vec::new(),
            in_flight: InFlight::default(),
            payload_bytes: 0,
            scheduled: Vec::new(),
            closed_for: None,
            door,
            alarms: Alarms::default(),
            shared,
        };
        relay.follow(&routing);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_A_TURN),
            listener: Some(listener),
            is_knocked: true,
            relay,
            readable: Vec::new(),
            buffer: vec![0; READ_BYTES],
            resolver: Resolver { answers, waker },
            resolved,
            routing,
            heartbeat,
            tend_at: Duration::ZERO,
        })
    }

    /// Turns until it is told to end, or has finished after it was told to drain.
    pub(super) fn run(&mut self, drain: &Drain) {
        while !drain.is_over() {
            if drain.is_requested() {
                self.listener = None;
                self.relay.closed_for = Some(Closed::Stopping);
                if self.relay.is_finished() {
                    self.farewell(drain);
                    return;
                }
            }
            if let Err(error) = self.turn()
                && error.kind() != io::ErrorKind::Interrupted
            {
                // The event queue itself failed: without it nothing can be served.
                return;
            }
        }
    }

    /// Ends our side of each connection and waits a moment for the clients to end theirs: a socket that is closed
    /// with requests unread takes the replies on their way with it.
    fn farewell(&mut self, drain: &Drain) {
        self.relay.hang_up();
        let until = self.relay.shared.clock.now() + FAREWELL_MAX;
        while !self.relay.clients.is_empty()
            && !drain.is_over()
            && self.relay.shared.clock.now() < until
            && self.turn().is_ok()
        {}
    }

    /// Waits for events, until the clock is next looked at, and handles them all.
    fn turn(&mut self) -> io::Result<()> {
        let wait = if self.readable.is_empty() {
            let alarm = self.relay.alarms.next().unwrap_or(Duration::MAX);
            self.tend_at.min(alarm).saturating_sub(self.relay.shared.clock.now())
        } else {
            Duration::ZERO
        };
        self.poll.poll(&mut self.events, Some(wait))?;
        let now = self.relay.shared.clock.now();
        self.heartbeat.beat(now);
        let is_another = self.follow(now);
        let routing = Arc::clone(&self.routing);
        let turn = Turn { now, routing: &routing };

        for event in &self.events {
            match event.token() {
                LISTENER => self.is_knocked = true,
                WAKER => {}
                other => notice(&mut self.relay, &mut self.readable, peer(other), event),
            }
        }
        while let Ok(resolved) = self.resolved.try_recv() {
            self.relay.resolved(turn, resolved);
        }
        if let Some(listener) = self.listener.as_ref().filter(|_| self.is_knocked) {
            self.is_knocked = self.relay.accept(turn, listener);
        }
        self.read(turn);
        if is_another {
            self.relay.follow_writes(turn);
        }
        self.relay.look_at_writes(turn);
        if self.tend_at <= now {
            self.tend(turn);
        }
        self.flush(turn);
        let metrics = (self.relay.metrics)(&self.relay.shared.metrics);
        metrics.requests.set(self.relay.in_flight.len() as u64);
        Ok(())
    }

    /// Takes over the routing state if it is another than in the last turn; returns whether it is.
    fn follow(&mut self, now: Duration) -> bool {
        let current = self.relay.shared.routing.load();
        let is_another = !Arc::ptr_eq(&current, &self.routing);
        if is_another {
            self.routing = Arc::clone(&current);
            self.relay.follow(&self.routing);
            self.tend_at = self.tend_at.min(now);
        }
        is_another
    }

    fn read(&mut self, turn: Turn<'_>) {
        let (relay, buffer) = (&mut self.relay, &mut self.buffer);
        self.readable.retain(|peer| {
            let may_have_more = match *peer {
                Peer::Client(key) => relay.read_client(turn, key, buffer),
                Peer::Link(key) => relay.read_link(turn, key, buffer),
            };
            if !may_have_more && let Some(connection) = relay.connection_mut(*peer) {
                connection.is_queued = false;
            }
            may_have_more
        });
    }

    fn tend(&mut self, turn: Turn<'_>) {
        let late = turn.now.saturating_sub(self.tend_at);
        self.relay.expire(turn);
        self.tend_at = self.relay.tend_links(turn, late, &self.resolver);
        self.relay.tend_clients(turn.now);
        let is_full = self.relay.relieve(bytes_max(turn.routing));
        if self.relay.closed_for != Some(Closed::Stopping) {
            self.relay.closed_for = is_full.then_some(Closed::Memory);
        }
    }

    fn flush(&mut self, turn: Turn<'_>) {
        // A flush that fails may schedule others, by the requests that it sends elsewhere.
        while let Some(peer) = self.relay.scheduled.pop() {
            match peer {
                Peer::Client(key) => self.relay.flush_client(turn, key),
                Peer::Link(key) => self.relay.flush_link(turn, key),
            }
        }
        let (relay, readable) = (&mut self.relay, &mut self.readable);
        relay.take_up_paused(|key, connection| queue(readable, Peer::Client(key), connection));
    }
}

fn router_metrics(metrics: &Metrics) -> &TransportMetrics {
    &metrics.zmq
}

fn guard_metrics(metrics: &Metrics) -> &TransportMetrics {
    &metrics.guard.zmq
}

/// Notes what the event queue says about a connection.
fn notice(relay: &mut Relay, readable: &mut Vec<Peer>, peer: Peer, event: &Event) {
    let Some(connection) = relay.connection_mut(peer) else { return };
    connection.notice(event);
    if connection.readable {
        queue(readable, peer, connection);
    }
    if event.is_writable() && connection.outbox.waiting() > 0 {
        relay.schedule(peer);
    }
}

/// Puts a connection in the list of those to be read, once.
fn queue(readable: &mut Vec<Peer>, peer: Peer, connection: &mut Connection) {
    if !connection.is_queued {
        connection.is_queued = true;
        readable.push(peer);
    }
}

/// The most that the requests and replies in the sidecar may hold together.
fn bytes_max(routing: &Routing) -> usize {
    routing.rules.zmq.message_bytes_max.saturating_mul(HELD_MESSAGES_MAX).max(HELD_BYTES_MIN)
}

/// Events taken from the queue at once.
const EVENTS_A_TURN: usize = 1024;
/// Bytes read from one connection at once: enough for hundreds of small messages, and it fits the cache.
const READ_BYTES: usize = 128 * 1024;
/// Largest messages that may be held at once.
const HELD_MESSAGES_MAX: usize = 8;
/// What may be held however small the largest message is.
const HELD_BYTES_MIN: usize = 64 << 20;
/// How long a client may take to end its side of a connection.
const FAREWELL_MAX: Duration = Duration::from_millis(200);
