//! The start of a connection: greeting, then READY.

use super::command::{encode_error, encode_ready};
use super::frame::Header;
use super::{Command, SocketType, Violation};

/// Bytes of a ZMTP 3 greeting.
pub const GREETING_BYTES: usize = 64;

/// The most a peer may send before it is ready: room for READY with a long identity and metadata.
pub const HANDSHAKE_BYTES_MAX: usize = GREETING_BYTES + 8 * 1024;

const MECHANISM_NULL: &[u8] = b"NULL";

/// Who is at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its socket type, which ours may talk to.
    pub socket_type: SocketType,
    /// The identity it announced, at most 255 bytes; usually empty.
    pub identity: Vec<u8>,
    /// Whether it announced ZMTP 3.1 or later, and so must answer PING.
    pub answers_ping: bool,
}

/// The handshake of one connection. Both sides send without waiting for each other.
#[derive(Debug)]
pub struct Handshake {
    local: SocketType,
    received: Vec<u8>,
    greeted: bool,
    answers_ping: bool,
}

impl Handshake {
    /// A handshake in which we announce `local`.
    #[must_use]
    pub const fn new(local: SocketType) -> Self {
        Self { local, received: Vec::new(), greeted: false, answers_ping: false }
    }

    /// What to send before anything else.
    #[must_use]
    pub fn greeting() -> [u8; GREETING_BYTES] {
        let mut greeting = [0; GREETING_BYTES];
        // Signature, version 3.1, mechanism; as-server and the filler stay zero.
        let fields: [(usize, &[u8]); 4] =
            [(0, &[0xFF]), (9, &[0x7F, 3]), (11, &[1]), (12, MECHANISM_NULL)];
        for (at, bytes) in fields {
            for (target, byte) in greeting.iter_mut().skip(at).zip(bytes) {
                *target = *byte;
            }
        }
        greeting
    }

    /// Takes bytes off the front of `input` until the handshake ends or `input` does.
    ///
    /// Appends what must be sent to `output`, also when it fails. Bytes after the peer's READY
    /// stay in `input`: they belong to the [`super::Decoder`].
    ///
    /// # Errors
    ///
    /// A [`Violation`]: send what is in `output`, then close the connection.
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        output: &mut Vec<u8>,
    ) -> Result<Option<Peer>, Violation> {
        if !self.greeted {
            self.take_up_to(input, GREETING_BYTES);
            self.answers_ping = match check_greeting(&self.received)? {
                None => return Ok(None),
                Some(minor) => minor >= 1,
            };
            self.greeted = true;
            self.received.clear();
            encode_ready(output, self.local);
        }
        loop {
            // One byte at a time would be slow for a stream, but this is one command of about 40.
            let header = Header::parse(&self.received)?;
            let wanted = match header {
                None => self.received.len().saturating_add(1),
                Some(header) => header.frame_bytes().unwrap_or(usize::MAX),
            };
            if wanted > HANDSHAKE_BYTES_MAX - GREETING_BYTES {
                return Err(Violation::Malformed { what: "a handshake of more than 8 KiB" });
            }
            self.take_up_to(input, wanted);
            if self.received.len() < wanted {
                return Ok(None);
            }
            if let Some(header) = header {
                return self.finish(header, output).map(Some);
            }
        }
    }

    fn take_up_to(&mut self, input: &mut &[u8], total: usize) {
        let missing = total.saturating_sub(self.received.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.received.extend_from_slice(taken);
        *input = rest;
    }

    fn finish(&self, header: Header, output: &mut Vec<u8>) -> Result<Peer, Violation> {
        if !header.command {
            return Err(Violation::Malformed { what: "a message before the READY command" });
        }
        let body = self.received.get(header.header_bytes..).unwrap_or_default();
        let (announced, identity) = match Command::parse(body)? {
            Command::Ready { socket_type, identity } => (socket_type, identity.to_vec()),
            Command::Error { reason } => {
                return Err(Violation::Refused { reason: reason.escape_ascii().to_string() });
            }
            Command::Ping { .. } | Command::Pong { .. } | Command::Other { .. } => {
                return Err(Violation::Malformed { what: "a command before READY" });
            }
        };
        match SocketType::from_name(announced).filter(|peer| self.local.talks_to(*peer)) {
            Some(socket_type) => {
                Ok(Peer { socket_type, identity, answers_ping: self.answers_ping })
            }
            None => {
                let violation = Violation::SocketType {
                    peer: announced.escape_ascii().to_string(),
                    local: self.local.name(),
                    expected: self.local.expected_peers(),
                };
                encode_error(output, &violation.to_string());
                Err(violation)
            }
        }
    }
}

/// Checks as much of a greeting as there is, so that a stranger is turned away at its first byte.
///
/// Returns the minor version once the greeting is whole.
fn check_greeting(received: &[u8]) -> Result<Option<u8>, Violation> {
    let Some(&first) = received.first() else { return Ok(None) };
    if first != 0xFF {
        // ZMTP 1.0 opens with the length of an identity frame and a zero flags byte.
        return match received {
            [length, 0, ..] if *length > 0 => Err(Violation::OldVersion { major: 1 }),
            [_] => Ok(None),
            _ => Err(not_zmtp(received)),
        };
    }
    if received.get(9).is_some_and(|byte| *byte != 0x7F) {
        return Err(not_zmtp(received));
    }
    if let Some(&revision) = received.get(10)
        && revision < 3
    {
        // The field counted revisions before it counted major versions.
        return Err(Violation::OldVersion { major: if revision == 0 { 1 } else { 2 } });
    }
    let (Some(&minor), Some(mechanism), true) =
        (received.get(11), received.get(12..32), received.len() >= GREETING_BYTES)
    else {
        return Ok(None);
    };
    let mechanism = mechanism.split(|byte| *byte == 0).next().unwrap_or_default();
    if mechanism != MECHANISM_NULL {
        return Err(Violation::Mechanism { mechanism: mechanism.escape_ascii().to_string() });
    }
    // A later major version falls back to 3 for our sake; its minor version then means nothing.
    Ok(Some(if received.get(10) == Some(&3) { minor } else { 0 }))
}

fn not_zmtp(received: &[u8]) -> Violation {
    use core::fmt::Write as _;
    let mut got = String::new();
    for byte in received.iter().take(10) {
        // Writing to a String cannot fail.
        let _ = write!(got, "{byte:02X} ");
    }
    got.truncate(got.trim_end().len());
    Violation::NotZmtp { got }
}
