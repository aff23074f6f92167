//! The links to the pods: made, watched, lost and made again.
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use hashroute_core::{PodIndex, PodState};
use hashroute_dataplane::health::{Event, Health, ProbeFailure};
use hashroute_dataplane::write::TAG_BYTES_MAX;
use hashroute_dataplane::zmtp::{Limits, SocketType, Violation};
use mio::net::TcpStream;
use mio::{Interest, Waker};

use super::connection::{Connection, Incoming, Received};
use super::link::{Link, LinkState};
use super::refusal::MESSAGE_FRAMES_MAX;
use super::relay::{Peer, Relay, Turn};
use super::resolve::{Lookup, Resolved, host_and_port, look_up};
use super::token;
use crate::routing::Routing;

/// What a link needs to find its pod by name.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) answers: Sender<Resolved>,
    pub(super) waker: Arc<Waker>,
}

impl Relay {
    /// Follows a new routing state: links to pods that came are made, those to pods that left finish what they have.
    pub(super) fn follow(&mut self, routing: &Routing) {
        let (request_limits, reply_limits) = self.limits(routing);
        for (_, client) in &mut self.clients {
            client.connection.set_limits(request_limits);
        }
        for (_, link) in &mut self.links {
            link.index = None;
            // The service behind a guard is in no view.
            link.is_wanted = link.pod.is_none();
            if let Some(connection) = link.connection_mut() {
                connection.set_limits(reply_limits);
            }
        }
        if self.door.is_none() {
            self.follow_pods(routing);
        }
    }

    fn follow_pods(&mut self, routing: &Routing) {
        let pods = routing.ring.view().pods();
        self.by_pod = vec![None; pods.len()];
        for (index, pod) in (0..).zip(pods) {
            let Some(address) = pod.addresses.zmq.as_deref() else { continue };
            if pod.state == PodState::Down {
                continue;
            }
            let known = self
                .links
                .iter()
                .find(|(_, link)| {
                    link.pod.as_ref() == Some(&pod.id)
                        && link.address == address
                        && !link.is_superseded
                })
                .map(|(key, _)| key);
            let key = known.unwrap_or_else(|| {
                self.links.insert(Link::new(Some(pod.id.clone()), address.to_owned()))
            });
            self.by_pod[usize::from(index)] = Some(key);
            if let Some(link) = self.links.get_mut(key) {
                link.index = Some(PodIndex::new(index));
                link.is_wanted = true;
            }
        }
    }

    /// Reads once from a pod and handles what came. Returns whether there may be more.
    pub(super) fn read_link(&mut self, turn: Turn<'_>, key: usize, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.links.get_mut(key).and_then(Link::connection_mut) else {
            return false;
        };
        let count = match connection.receive(buffer, turn.now) {
            Received::Bytes(count) => count,
            Received::Nothing => return connection.readable,
            Received::Closed => {
                let ready = connection.is_ready();
                self.lose(
                    turn,
                    key,
                    if ready { Event::ConnectionLost } else { Event::ConnectionRefused },
                );
                return false;
            }
        };
        let mut input = buffer.get(..count).unwrap_or_default();
        loop {
            let Some(connection) = self.links.get_mut(key).and_then(Link::connection_mut) else {
                return false;
            };
            match connection.next(&mut input) {
                Ok(None) => return self.end_of_input(Peer::Link(key)),
                Ok(Some(Incoming::Message(message))) => self.reply(turn, key, message),
                Ok(Some(Incoming::Dropped(head, why))) => self.dropped_reply(turn, key, &head, why),
                Ok(Some(Incoming::Ready)) => {
                    if let Some(link) = self.links.get_mut(key) {
                        link.make_ready(turn.now);
                    }
                    self.recovered(turn, key);
                    self.send_waiting(key);
                }
                Err(violation) => {
                    self.violated(turn, key, &violation);
                    return false;
                }
            }
        }
    }

    /// Writes what waits for a pod.
    pub(super) fn flush_link(&mut self, turn: Turn<'_>, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        let Some(connection) = link.connection_mut() else { return };
        connection.is_scheduled = false;
        if connection.flush(turn.now).is_err() {
            let ready = connection.is_ready();
            self.lose(
                turn,
                key,
                if ready { Event::ConnectionLost } else { Event::ConnectionRefused },
            );
        }
    }

    /// Does what time has made due on every link; returns when that is next.
    pub(super) fn tend_links(
        &mut self,
        turn: Turn<'_>,
        late: Duration,
        resolver: &Resolver,
    ) -> Duration {
        let mut next = turn.now + TEND_INTERVAL_MAX.min(turn.routing.rules.health.interval / 2);
        let keys: Vec<usize> = self.links.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.tend_link(turn, key, late, resolver);
            let Some(link) = self.links.get(key) else { continue };
            if link.is_finished() {
                self.links.remove(key);
            } else if let LinkState::Broken { retry_at } = link.state {
                next = next.min(retry_at);
            }
        }
        next
    }

    /// Takes an answer of the resolver.
    pub(super) fn resolved(&mut self, turn: Turn<'_>, resolved: Resolved) {
        let Some(link) = self.links.get_mut(resolved.link) else { return };
        // A link that has meanwhile taken the place of the one that asked will ask for itself.
        if !matches!(link.state, LinkState::Resolving { .. })
            || host_and_port(&link.address) != Ok(&resolved.name)
        {
            return;
        }
        let connected =
            resolved.address.and_then(|address| self.connect(turn, resolved.link, address));
        if connected.is_err() {
            self.lose(turn, resolved.link, Event::ConnectionRefused);
        }
    }

    fn tend_link(&mut self, turn: Turn<'_>, key: usize, late: Duration, resolver: &Resolver) {
        let health = &turn.routing.rules.health;
        let Some(link) = self.links.get_mut(key) else { return };
        let was_silent = link.is_silent;
        match &mut link.state {
            LinkState::Broken { retry_at } => {
                if *retry_at <= turn.now
                    && link.is_wanted
                    && self.start(turn, key, resolver).is_err()
                {
                    self.lose(turn, key, Event::ConnectionRefused);
                }
            }
            LinkState::Resolving { since } | LinkState::Connecting { since, .. } => {
                let waited = turn.now.saturating_sub(*since);
                let is_connecting = link.connection().is_some_and(|it| !it.is_established());
                let is_unheard = is_connecting && waited >= health.timeout * CONNECT_TIMEOUTS;
                // What the network lost meanwhile the system would send again only much later.
                if is_unheard || waited >= self.shared.limits.handshake_timeout {
                    self.lose(turn, key, Event::ConnectionRefused);
                } else if waited >= health.timeout {
                    self.fail_waiting(turn, key);
                    self.found_silent(turn, key, late);
                }
            }
            LinkState::Ready { connection, .. } => {
                let silence = connection.silence(turn.now);
                if link.ping_at <= turn.now {
                    // An answer comes right after its PING: by now it may be older than the interval.
                    let is_heard = !connection.is_asked()
                        || turn.now.saturating_sub(connection.heard_at()) <= health.interval;
                    connection.ping(self.shared.limits.keepalive * PING_TTL_KEEPALIVES, turn.now);
                    link.ping_at = turn.now + health.interval;
                    self.schedule(Peer::Link(key));
                    if is_heard {
                        self.recovered(turn, key);
                    }
                }
                if was_silent && silence >= GIVE_UP_AFTER.max(health.timeout * 10) {
                    self.give_up(turn, key);
                } else if silence >= health.timeout {
                    self.found_silent(turn, key, late);
                }
            }
        }
    }

    /// The host may have gone without a word, and come back since: only a new connection can tell.
    ///
    /// The old one stays for as long as somebody waits for an answer on it.
    fn give_up(&mut self, turn: Turn<'_>, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.in_flight == 0 {
            self.lose(turn, key, Event::ConnectionLost);
        } else if let Some(index) = link.index {
            let next = link.supersede();
            let next = self.links.insert(next);
            if let Some(place) = self.by_pod.get_mut(index.as_usize()) {
                *place = Some(next);
            }
        }
    }

    /// The pod answers: it may have its requests again.
    fn recovered(&mut self, turn: Turn<'_>, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.is_silent = false;
        let Some(pod) = link.index else { return };
        if turn.routing.zmq_side.fleet.health(pod) != Health::Up {
            self.report(turn, pod, Event::ProbeSucceeded);
        }
    }

    /// The pod has not answered in time: what it has goes elsewhere, if it may be sent again.
    fn found_silent(&mut self, turn: Turn<'_>, key: usize, late: Duration) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.is_silent {
            return;
        }
        if let Some(pod) = link.index {
            self.report(turn, pod, Event::ProbeTimedOut { prober_late: late });
            if turn.routing.zmq_side.fleet.health(pod) != Health::Down {
                // It was us who stood still; ask once more before judging.
                if let Some(connection) = self.links.get_mut(key).and_then(Link::connection_mut) {
                    connection.ask_again(turn.now);
                }
                return;
            }
        }
        if let Some(link) = self.links.get_mut(key) {
            link.is_silent = true;
            self.fail_silent(turn, key);
        }
    }

    /// Gives a connection up, and decides about the requests that were on it.
    fn lose(&mut self, turn: Turn<'_>, key: usize, event: Event) {
        let Some(link) = self.links.get_mut(key) else { return };
        let (connection, _) = link.break_off(turn.now);
        link.waiting.clear();
        let written = connection.map_or(0, |connection| connection.outbox.written());
        if let Some(pod) = link.index {
            self.report(turn, pod, event);
        }
        self.fail_lost(turn, key, written);
    }

    /// The pod sent what it must not: tell it, and hang up.
    fn violated(&mut self, turn: Turn<'_>, key: usize, _violation: &Violation) {
        (self.metrics)(&self.shared.metrics).refused.increment();
        if let Some(connection) = self.links.get_mut(key).and_then(Link::connection_mut) {
            // It is over either way.
            let _told = connection.flush(turn.now);
        }
        self.lose(turn, key, Event::ProbeFailed(ProbeFailure::Malformed));
    }

    /// The limits on requests and on replies, which carry our number too. What comes to a guard
    /// carries a router's number and tag besides.
    pub(super) fn limits(&self, routing: &Routing) -> (Limits, Limits) {
        let (bytes, frames) = match self.door {
            Some(_) => (NUMBER_FRAME_BYTES + TAG_FRAME_BYTES_MAX, 2),
            None => (0, 0),
        };
        let requests = Limits {
            message_bytes_max: routing.rules.zmq.message_bytes_max.saturating_add(bytes),
            message_frames_max: MESSAGE_FRAMES_MAX + frames,
            command_bytes_max: COMMAND_BYTES_MAX,
        };
        let replies = Limits {
            message_bytes_max: requests.message_bytes_max.saturating_add(NUMBER_FRAME_BYTES),
            message_frames_max: requests.message_frames_max + 1,
            ..requests
        };
        (requests, replies)
    }

    fn start(&mut self, turn: Turn<'_>, key: usize, resolver: &Resolver) -> io::Result<()> {
        let Some(link) = self.links.get_mut(key) else { return Ok(()) };
        link.state = LinkState::Resolving { since: turn.now };
        let name = host_and_port(&link.address).map_err(io::Error::other)?;
        match look_up(name, key, &resolver.answers, &resolver.waker)? {
            Lookup::Known(address) => self.connect(turn, key, address),
            Lookup::Asked => Ok(()),
        }
    }

    fn connect(
        &mut self,
        turn: Turn<'_>,
        key: usize,
        address: std::net::SocketAddr,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        self.registry.register(
            &mut stream,
            token(Peer::Link(key)),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let (_, replies) = self.limits(turn.routing);
        let connection = Connection::open(stream, SocketType::Dealer, replies, turn.now);
        if let Some(link) = self.links.get_mut(key) {
            link.state = LinkState::Connecting { since: turn.now, connection };
        }
        Ok(())
    }
}

/// The frame with our number: flags, length, eight bytes.
const NUMBER_FRAME_BYTES: usize = 10;
/// The frame with a router's tag: flags, a long length, the tag.
const TAG_FRAME_BYTES_MAX: usize = 9 + TAG_BYTES_MAX;
const COMMAND_BYTES_MAX: usize = 8 * 1024;
/// The longest time between two looks at the clock's demands.
const TEND_INTERVAL_MAX: Duration = Duration::from_millis(50);
/// A peer may hang up if it hears nothing from us for this many keepalives.
pub(super) const PING_TTL_KEEPALIVES: u32 = 3;
/// A connection that the host does not take up within so many times `health.timeout` is tried anew.
const CONNECT_TIMEOUTS: u32 = 2;
/// A connection without a sign of life is made anew after this.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
