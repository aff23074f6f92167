//! ZMTP 3.0 and 3.1 over TCP with the NULL mechanism, without I/O.
//!
//! The caller reads bytes, feeds them here, and writes what it is handed:
//!
//! 1. [`Handshake`] exchanges greetings and READY commands and ends in a [`Peer`], or a reason to hang up.
//! 2. [`Decoder`] cuts the stream into whole messages (raw frame bytes, unchanged) and commands.
//! 3. [`split_envelope`] and [`nth_frame`] find the key in a message; [`ErrorReply`] is what a client
//!    gets when no pod can answer. [`split_tag`] finds what a router says of a write.
//! 4. [`InFlight`] remembers who waits for which answer, and until when.
//!
//! Nothing here panics on bytes from outside, and every buffer has a stated bound.
//! Wire format: RFC 23 (ZMTP 3.0) and RFC 37 (ZMTP 3.1) of the ZeroMQ project.

mod command;
mod decoder;
mod envelope;
mod frame;
mod handshake;
mod in_flight;

pub use command::{Command, HEARTBEAT_CONTEXT_BYTES_MAX, SocketType, encode_ping, encode_pong};
pub use decoder::{Decoder, Item, Limits, Oversize};
pub use envelope::{
    Envelope, ErrorReply, encode_envelope, same_frames, split_envelope, split_first_frame,
    split_tag,
};
pub use frame::{Frame, encode_frame, encode_frame_header, frames, nth_frame};
pub use handshake::{GREETING_BYTES, HANDSHAKE_BYTES_MAX, Handshake, Peer};
pub use in_flight::{InFlight, RequestId};

use thiserror::Error;

/// Why a connection must be closed: what the peer sent is not something this relay can speak.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Violation {
    /// The first bytes are not a ZMTP signature.
    #[error("the peer does not speak ZMTP: expected the signature FF ........ 7F, got {got}")]
    NotZmtp {
        /// The first bytes that arrived, in hexadecimal.
        got: String,
    },
    /// The peer speaks a version before 3.0.
    #[error("the peer speaks ZMTP {major}, expected 3.0 or later: use libzmq 4 or later")]
    OldVersion {
        /// The peer's major version; 1 stands for ZMTP 1.0, which announces none.
        major: u8,
    },
    /// The peer asks for a security mechanism.
    #[error("the peer asks for the security mechanism {mechanism}, expected NULL: turn it off")]
    Mechanism {
        /// The mechanism's name as the peer sent it, unprintable bytes escaped.
        mechanism: String,
    },
    /// The peer's socket type cannot talk to ours.
    #[error("a peer of type {peer} cannot talk to a {local} socket, expected one of {expected}")]
    SocketType {
        /// The type the peer announced, unprintable bytes escaped.
        peer: String,
        /// Our type.
        local: &'static str,
        /// What would have been right.
        expected: &'static str,
    },
    /// The peer refused us with an ERROR command.
    #[error("the peer refused the connection: {reason}")]
    Refused {
        /// The peer's words, unprintable bytes escaped.
        reason: String,
    },
    /// A frame or command that the protocol does not allow.
    #[error("malformed ZMTP: {what}")]
    Malformed {
        /// What was wrong.
        what: &'static str,
    },
}

impl Violation {
    /// A stable short name, for counters and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotZmtp { .. } => "not_zmtp",
            Self::OldVersion { .. } => "old_version",
            Self::Mechanism { .. } => "mechanism",
            Self::SocketType { .. } => "socket_type",
            Self::Refused { .. } => "refused",
            Self::Malformed { .. } => "malformed",
        }
    }
}

#[cfg(test)]
mod tests;
