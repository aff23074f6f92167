//! Commands: READY and ERROR of the NULL mechanism, PING and PONG of ZMTP 3.1.

use core::time::Duration;

use super::Violation;
use super::frame::{COMMAND, encode_header};

/// The longest context a PING may carry and a PONG must return.
pub const HEARTBEAT_CONTEXT_BYTES_MAX: usize = 16;

/// The socket types a request-reply relay meets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SocketType {
    /// A client that sends one request and waits for its reply.
    Req,
    /// A pod that answers one request after the other.
    Rep,
    /// An asynchronous client or worker.
    Dealer,
    /// An asynchronous server, or a client that names its servers.
    Router,
}

impl SocketType {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Req => "REQ",
            Self::Rep => "REP",
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
        }
    }

    /// The type with this name on the wire, or `None` for a type outside request-reply.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Req, Self::Rep, Self::Dealer, Self::Router]
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name)
    }

    /// Whether a socket of this type may talk to `peer`, by the rules of RFC 28.
    #[must_use]
    pub const fn talks_to(self, peer: Self) -> bool {
        match self {
            Self::Req => matches!(peer, Self::Rep | Self::Router),
            Self::Rep => matches!(peer, Self::Req | Self::Dealer),
            Self::Dealer => matches!(peer, Self::Rep | Self::Dealer | Self::Router),
            Self::Router => matches!(peer, Self::Req | Self::Dealer | Self::Router),
        }
    }

    /// The names that [`Self::talks_to`] accepts, for error messages.
    #[must_use]
    pub const fn expected_peers(self) -> &'static str {
        match self {
            Self::Req => "REP, ROUTER",
            Self::Rep => "REQ, DEALER",
            Self::Dealer => "REP, DEALER, ROUTER",
            Self::Router => "REQ, DEALER, ROUTER",
        }
    }
}

/// A command frame's content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command<'a> {
    /// The peer is ready to exchange messages.
    Ready {
        /// The value of `Socket-Type`; empty if the peer sent none.
        socket_type: &'a [u8],
        /// The value of `Identity`; empty if the peer sent none.
        identity: &'a [u8],
    },
    /// The peer refuses the connection.
    Error {
        /// Its reason, in any bytes.
        reason: &'a [u8],
    },
    /// The peer asks whether we live.
    Ping {
        /// How long the peer may hear nothing from us before it hangs up; zero means for ever.
        ttl: Duration,
        /// To be returned in the PONG.
        context: &'a [u8],
    },
    /// The answer to a PING.
    Pong {
        /// What the PING carried.
        context: &'a [u8],
    },
    /// A command this relay has no use for; ignored, as the protocol asks.
    Other {
        /// Its name.
        name: &'a [u8],
    },
}

impl<'a> Command<'a> {
    /// Reads the body of a command frame.
    ///
    /// # Errors
    ///
    /// [`Violation::Malformed`] if the body is cut short or a property does not fit.
    pub fn parse(body: &'a [u8]) -> Result<Self, Violation> {
        let (name, rest) =
            take_short(body).ok_or(Violation::Malformed { what: "a command without a name" })?;
        match name {
            b"READY" => ready(rest),
            b"ERROR" => take_short(rest)
                .map(|(reason, _)| Self::Error { reason })
                .ok_or(Violation::Malformed { what: "an ERROR command without its reason" }),
            b"PING" => {
                let (ttl, context) = rest
                    .split_first_chunk::<2>()
                    .ok_or(Violation::Malformed { what: "a PING command without its TTL" })?;
                let ttl = Duration::from_millis(100 * u64::from(u16::from_be_bytes(*ttl)));
                Ok(Self::Ping { ttl, context: heartbeat_context(context)? })
            }
            b"PONG" => Ok(Self::Pong { context: heartbeat_context(rest)? }),
            _ => Ok(Self::Other { name }),
        }
    }
}

/// Appends a READY command with our socket type and an empty identity.
pub(super) fn encode_ready(output: &mut Vec<u8>, local: SocketType) {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", local.name()), ("Identity", "")] {
        // Both are constants of this file, far below 256 bytes.
        body.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    encode_command(output, &body);
}

/// Appends an ERROR command; `reason` is cut at 255 bytes.
pub(super) fn encode_error(output: &mut Vec<u8>, reason: &str) {
    let reason = reason.as_bytes().get(..usize::from(u8::MAX)).unwrap_or(reason.as_bytes());
    let mut body = b"\x05ERROR".to_vec();
    body.push(u8::try_from(reason.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(reason);
    encode_command(output, &body);
}

/// Appends a PING command.
///
/// `ttl` is how long the peer may hear nothing from us before it hangs up; it is rounded up to the
/// protocol's tenths of a second and at most 6,553.5 seconds.
pub fn encode_ping(output: &mut Vec<u8>, ttl: Duration) {
    let tenths = u16::try_from(ttl.as_millis().div_ceil(100)).unwrap_or(u16::MAX);
    let [high, low] = tenths.to_be_bytes();
    encode_command(output, &[4, b'P', b'I', b'N', b'G', high, low]);
}

/// Appends the PONG command that answers a PING with `context`.
pub fn encode_pong(output: &mut Vec<u8>, context: &[u8]) {
    let mut body = b"\x04PONG".to_vec();
    body.extend_from_slice(context);
    encode_command(output, &body);
}

fn encode_command(output: &mut Vec<u8>, body: &[u8]) {
    encode_header(output, COMMAND, body.len());
    output.extend_from_slice(body);
}

fn ready(mut rest: &[u8]) -> Result<Command<'_>, Violation> {
    const CUT: Violation = Violation::Malformed { what: "a READY command's property is cut short" };
    let (mut socket_type, mut identity): (&[u8], &[u8]) = (&[], &[]);
    while !rest.is_empty() {
        let (name, tail) = take_short(rest).ok_or(CUT)?;
        let (length, tail) = tail.split_first_chunk::<4>().ok_or(CUT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CUT)?;
        let (value, tail) = tail.split_at_checked(length).ok_or(CUT)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            socket_type = value;
        } else if name.eq_ignore_ascii_case(b"Identity") {
            identity = value;
        }
        rest = tail;
    }
    if identity.len() > usize::from(u8::MAX) {
        return Err(Violation::Malformed { what: "an Identity of more than 255 bytes" });
    }
    Ok(Command::Ready { socket_type, identity })
}

fn heartbeat_context(context: &[u8]) -> Result<&[u8], Violation> {
    if context.len() > HEARTBEAT_CONTEXT_BYTES_MAX {
        return Err(Violation::Malformed { what: "a heartbeat context of more than 16 bytes" });
    }
    Ok(context)
}

/// Splits off a string with a length of one byte.
fn take_short(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(length))
}
