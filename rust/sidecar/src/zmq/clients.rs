//! The clients' connections: accepted, read, watched and closed.
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use hashroute_dataplane::zmtp::SocketType;
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

use super::client::{Client, ClientId};
use super::connection::{Connection, Incoming, Received};
use super::pods::PING_TTL_KEEPALIVES;
use super::relay::{Peer, Relay, Turn};
use super::token;

impl Relay {
    /// Accepts the clients that knock, up to a bound. Returns whether more may be waiting.
    pub(super) fn accept(&mut self, turn: Turn<'_>, listener: &TcpListener) -> bool {
        for _ in 0..ACCEPTS_A_TURN {
            match listener.accept() {
                Ok((stream, _)) => {
                    // A client that vanished while it knocked is nobody's concern.
                    let _gone = self.welcome(turn, stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // Out of descriptors, most likely: the next look at the clock tries again.
                    (self.metrics)(&self.shared.metrics).refused.increment();
                    return true;
                }
            }
        }
        true
    }

    fn welcome(&mut self, turn: Turn<'_>, mut stream: TcpStream) -> io::Result<()> {
        let metrics = (self.metrics)(&self.shared.metrics);
        let connections_max = u64::from(self.shared.limits.connections_max);
        let Some(open) = metrics.connections.enter_below(connections_max) else {
            metrics.refused.increment();
            return Ok(());
        };
        stream.set_nodelay(true)?;
        let (requests, _) = self.limits(turn.routing);
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        self.registry.register(
            &mut stream,
            token(Peer::Client(key)),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.client_serial += 1;
        entry.insert(Client {
            id: ClientId { key, serial: self.client_serial },
            connection: Connection::open(stream, SocketType::Router, requests, turn.now),
            in_flight: 0,
            in_flight_bytes: 0,
            is_paused: false,
            handshake_deadline: turn.now + self.shared.limits.handshake_timeout,
            _open: open,
        });
        Ok(())
    }

    /// Reads once from a client and handles what came. Returns whether there may be more.
    pub(super) fn read_client(&mut self, turn: Turn<'_>, key: usize, buffer: &mut [u8]) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if !client.may_ask() {
            if !client.is_paused {
                client.is_paused = true;
                self.paused.push(key);
            }
            return false;
        }
        let count = match client.connection.receive(buffer, turn.now) {
            Received::Bytes(count) => count,
            Received::Nothing => return client.connection.readable,
            Received::Closed => {
                self.clients.remove(key);
                return false;
            }
        };
        let mut input = buffer.get(..count).unwrap_or_default();
        loop {
            let Some(client) = self.clients.get_mut(key) else { return false };
            match client.connection.next(&mut input) {
                Ok(None) => return self.end_of_input(Peer::Client(key)),
                Ok(Some(Incoming::Ready)) => {}
                Ok(Some(Incoming::Message(message))) => self.request(turn, key, message),
                Ok(Some(Incoming::Dropped(head, why))) => {
                    self.dropped_request(turn, key, &head, why);
                }
                Err(_violation) => {
                    (self.metrics)(&self.shared.metrics).refused.increment();
                    // The peer is told the reason, if it can be told; it is over either way.
                    let _told = client.connection.flush(turn.now);
                    self.clients.remove(key);
                    return false;
                }
            }
        }
    }

    /// Writes what waits for a client.
    pub(super) fn flush_client(&mut self, turn: Turn<'_>, key: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.connection.is_scheduled = false;
        if client.connection.flush(turn.now).is_err() {
            self.clients.remove(key);
        }
    }

    /// Hands over the clients that may be read again.
    pub(super) fn take_up_paused(&mut self, mut take_up: impl FnMut(usize, &mut Connection)) {
        let clients = &mut self.clients;
        self.paused.retain(|key| {
            let Some(client) = clients.get_mut(*key) else { return false };
            client.is_paused = !client.may_ask();
            if !client.is_paused {
                take_up(*key, &mut client.connection);
            }
            client.is_paused
        });
    }

    /// Tells every client that no more replies will come.
    pub(super) fn hang_up(&mut self) {
        for (_, client) in &self.clients {
            // One that is gone already needs no telling.
            let _gone = client.connection.stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes connections whose handshake takes too long or whose peer is gone, and asks the quiet ones for a sign.
    pub(super) fn tend_clients(&mut self, now: Duration) {
        let keepalive = self.shared.limits.keepalive;
        let mut asked = Vec::new();
        self.clients.retain(|key, client| {
            let may_ask = client.may_ask();
            let connection = &mut client.connection;
            if !connection.is_ready() {
                let is_late = now >= client.handshake_deadline;
                if is_late {
                    (self.metrics)(&self.shared.metrics).refused.increment();
                }
                return !is_late;
            }
            if !connection.is_asked() && now.saturating_sub(connection.heard_at()) >= keepalive {
                connection.ping(keepalive * PING_TTL_KEEPALIVES, now);
                asked.push(Peer::Client(key));
            }
            // Nothing is heard from a client that is not read; its silence then means nothing.
            connection.silence(now) < keepalive || !may_ask
        });
        for peer in asked {
            self.schedule(peer);
        }
    }

    /// Keeps what the buffers hold within `bytes_max`; returns whether they are full all the same.
    ///
    /// What is freed first is what helps nobody yet: messages that are still coming in, the largest first. Then
    /// clients that do not take their replies are cut off, the slowest first.
    pub(super) fn relieve(&mut self, bytes_max: usize) -> bool {
        let mut held = self.held_bytes();
        while held > bytes_max {
            let largest =
                self.clients.iter_mut().max_by_key(|(_, client)| client.connection.held_bytes());
            match largest {
                Some((_, client)) if client.connection.held_bytes() > SHED_BYTES_MIN => {
                    held -= client.connection.held_bytes();
                    client.connection.shed();
                }
                _ => break,
            }
        }
        while held > bytes_max {
            let slowest =
                self.clients.iter().max_by_key(|(_, client)| client.connection.outbox.waiting());
            match slowest {
                Some((key, client)) if !client.may_ask() => {
                    held -= client.connection.outbox.waiting();
                    (self.metrics)(&self.shared.metrics).refused.increment();
                    self.clients.remove(key);
                }
                _ => break,
            }
        }
        held > bytes_max
    }

    /// An upper bound: a large request counts once in the table and once while it is written.
    fn held_bytes(&self) -> usize {
        let of = |connection: &Connection| connection.held_bytes() + connection.outbox.waiting();
        let clients: usize = self.clients.iter().map(|(_, client)| of(&client.connection)).sum();
        let links: usize =
            self.links.iter().filter_map(|(_, link)| link.connection()).map(of).sum();
        self.payload_bytes + clients + links
    }
}

/// Connections accepted before others get their turn.
const ACCEPTS_A_TURN: usize = 256;
/// A message that holds less than this is not worth dropping.
const SHED_BYTES_MIN: usize = 64 * 1024;
