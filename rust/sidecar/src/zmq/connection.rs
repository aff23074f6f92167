//! One ZMTP connection, from its first byte to its last: to a client or to a pod.
use std::borrow::Cow;
use std::io::{self, Read};
use std::time::Duration;

use hashroute_dataplane::zmtp::{
    Command, Decoder, Handshake, Item, Limits, Oversize, SocketType, Violation, encode_ping,
    encode_pong,
};
use mio::net::TcpStream;

use super::outbox::Outbox;

/// A socket with its protocol state and what waits to be written.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) outbox: Outbox,
    stage: Stage,
    limits: Limits,
    /// Whether the socket may have bytes for us.
    pub(super) readable: bool,
    /// Whether it is in the list of connections to read.
    pub(super) is_queued: bool,
    /// Whether it is in the list of connections to write.
    pub(super) is_scheduled: bool,
    /// Whether the peer's end of its stream was seen coming, so that reading must go on to meet it.
    ending: bool,
    writable: bool,
    /// When bytes last came.
    heard_at: Duration,
    /// The first PING that nothing was heard after.
    asked: Option<Asked>,
    answers_ping: bool,
}

/// A PING that waits for a sign of life.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Since when the peer has left us without one.
    since: Duration,
    /// Where the PING ends in the outbox.
    end: u64,
}

#[derive(Debug)]
enum Stage {
    Handshake(Handshake),
    Ready(Decoder),
}

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    /// The handshake is over.
    Ready,
    /// A whole message.
    Message(Cow<'a, [u8]>),
    /// A message that was too large; its first frames and the limit that it met.
    Dropped(Vec<u8>, Oversize),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The connection is over.
    Closed,
}

impl Connection {
    /// Starts the handshake on a connected, or connecting, socket.
    pub(super) fn open(
        stream: TcpStream,
        local: SocketType,
        limits: Limits,
        now: Duration,
    ) -> Self {
        let mut outbox = Outbox::default();
        outbox.copy(&Handshake::greeting());
        Self {
            stream,
            outbox,
            stage: Stage::Handshake(Handshake::new(local)),
            limits,
            readable: false,
            is_queued: false,
            is_scheduled: false,
            ending: false,
            writable: false,
            heard_at: now,
            asked: None,
            answers_ping: false,
        }
    }

    /// Notes what the event queue says about the socket.
    pub(super) fn notice(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.ending |= event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable();
    }

    /// Whether the peer's host has taken the connection up.
    pub(super) fn is_established(&self) -> bool {
        self.writable || self.readable || self.outbox.written() > 0
    }

    /// Whether messages may be exchanged.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Bytes held of an incoming message that is not whole yet.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Handshake(_) => 0,
            Stage::Ready(decoder) => decoder.held_bytes(),
        }
    }

    /// Drops the body of the incoming message.
    pub(super) fn shed(&mut self) {
        if let Stage::Ready(decoder) = &mut self.stage {
            decoder.shed();
        }
    }

    /// Changes the limits on what comes in.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        if let Stage::Ready(decoder) = &mut self.stage {
            decoder.set_limits(limits);
        }
    }

    /// Reads once.
    pub(super) fn receive(&mut self, buffer: &mut [u8], now: Duration) -> Received {
        match self.stream.read(buffer) {
            Ok(0) => Received::Closed,
            Ok(count) => {
                // A short read has emptied the socket, so the call that would only say so is saved. Whatever comes
                // later, the end included, is a new event.
                self.readable = count == buffer.len() || self.ending;
                self.heard_at = now;
                self.asked = None;
                Received::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    /// Takes what concerns the caller off the front of `input`; heartbeats are answered here.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Incoming<'a>>, Violation> {
        loop {
            let decoder = match &mut self.stage {
                Stage::Ready(decoder) => decoder,
                Stage::Handshake(handshake) => {
                    let mut answer = Vec::new();
                    let peer = handshake.feed(input, &mut answer);
                    self.outbox.copy(&answer);
                    let Some(peer) = peer? else { return Ok(None) };
                    self.answers_ping = peer.answers_ping;
                    self.stage = Stage::Ready(Decoder::new(self.limits));
                    return Ok(Some(Incoming::Ready));
                }
            };
            match decoder.next(input)? {
                None => return Ok(None),
                Some(Item::Message(raw)) => return Ok(Some(Incoming::Message(raw))),
                Some(Item::Dropped { head, reason }) => {
                    return Ok(Some(Incoming::Dropped(head, reason)));
                }
                Some(Item::Command(body)) => self.obey(&body)?,
            }
        }
    }

    fn obey(&mut self, body: &[u8]) -> Result<(), Violation> {
        match Command::parse(body)? {
            // A peer that asks and asks and does not read gets no more answers than fit.
            Command::Ping { context, .. } if self.outbox.waiting() < PONG_WAITING_MAX => {
                self.outbox.encode(|tail| encode_pong(tail, context));
            }
            Command::Pong { .. } => self.answers_ping = true,
            Command::Error { reason } => {
                return Err(Violation::Refused { reason: reason.escape_ascii().to_string() });
            }
            Command::Ping { .. } | Command::Ready { .. } | Command::Other { .. } => {}
        }
        Ok(())
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, now: Duration) -> io::Result<()> {
        if !self.writable {
            return Ok(());
        }
        let before = self.outbox.written();
        self.writable = self.outbox.flush(&mut self.stream)?;
        if let Some(asked) = &mut self.asked
            && before < asked.end
            && before < self.outbox.written()
        {
            // The PING waits behind a large message that the peer is still reading.
            asked.since = now;
        }
        Ok(())
    }

    /// Asks the peer whether it lives. `ttl`: how long it may hear nothing from us before it hangs
    /// up.
    pub(super) fn ping(&mut self, ttl: Duration, now: Duration) {
        // Questions that wait are enough; a peer that reads none of them needs no more.
        if self.outbox.waiting() < PONG_WAITING_MAX || self.asked.is_none() {
            self.outbox.encode(|tail| encode_ping(tail, ttl));
        }
        let end = self.outbox.queued();
        self.asked.get_or_insert(Asked { since: now, end });
    }

    /// Whether a PING waits for a sign of life.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Starts the time for an answer anew.
    pub(super) fn ask_again(&mut self, now: Duration) {
        if let Some(asked) = &mut self.asked {
            asked.since = now;
        }
    }

    /// When bytes last came.
    pub(super) fn heard_at(&self) -> Duration {
        self.heard_at
    }

    /// How long the peer has left a PING without any sign of life. Zero for a peer that knows no
    /// PING.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        match self.asked {
            Some(asked) if self.answers_ping => now.saturating_sub(asked.since),
            _ => Duration::ZERO,
        }
    }
}

/// Heartbeats stop being queued behind this many bytes.
const PONG_WAITING_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Peer};

    use super::*;

    const LIMITS: Limits =
        Limits { message_bytes_max: 1 << 20, message_frames_max: 8, command_bytes_max: 512 };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A connection past its handshake, with a peer that answers PING.
    fn connected() -> (Connection, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream);
        let mut connection = Connection::open(stream, SocketType::Dealer, LIMITS, seconds(0));
        connection.stage = Stage::Ready(Decoder::new(LIMITS));
        connection.writable = true;
        connection.answers_ping = true;
        (connection, peer)
    }

    #[test]
    fn a_peer_that_is_asked_and_says_nothing_is_silent_since_then() {
        let (mut connection, mut peer) = connected();
        assert_eq!(connection.silence(seconds(9)), seconds(0), "it was not asked");
        connection.ping(seconds(1), seconds(10));
        connection.flush(seconds(10)).unwrap();
        connection.ping(seconds(1), seconds(11));
        connection.flush(seconds(11)).unwrap();
        assert_eq!(connection.silence(seconds(12)), seconds(2), "since it was first asked");
        // Any byte is a sign of life.
        io::Write::write_all(&mut peer, b"\0").unwrap();
        while connection.receive(&mut [0; 8], seconds(12)) != Received::Bytes(1) {}
        assert_eq!(connection.silence(seconds(13)), seconds(0));
        connection.answers_ping = false;
        connection.ping(seconds(1), seconds(20));
        assert_eq!(connection.silence(seconds(30)), seconds(0), "an old peer knows no PING");
    }

    #[test]
    fn a_peer_that_still_reads_what_comes_before_the_ping_is_not_silent() {
        const LARGE: usize = 64 << 20;
        let (mut connection, mut peer) = connected();
        connection.outbox.copy(&vec![0; LARGE]);
        connection.ping(seconds(1), seconds(10));
        connection.flush(seconds(10)).unwrap();
        assert!(connection.outbox.waiting() > 0, "no socket buffers all of it");
        assert_eq!(connection.silence(seconds(11)), seconds(1));
        let before = connection.outbox.written();
        peer.read_exact(&mut [0; 1 << 20]).unwrap();
        while connection.outbox.written() == before {
            connection.writable = true;
            connection.flush(seconds(12)).unwrap();
        }
        assert_eq!(connection.silence(seconds(12)), seconds(0), "it has read");
        assert_eq!(connection.silence(seconds(14)), seconds(2), "and then no more");
    }
}
