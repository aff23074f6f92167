//! What hashroute knows of gRPC over HTTP/2: names, status codes, deadlines, messages, frames.
//!
//! Source: the gRPC project's "gRPC over HTTP2" protocol description.

mod frames;
mod health_check;
mod message;
mod timeout;

pub use frames::{FRAME_HEADER_BYTES, Frame, FrameError, FrameHeader, FrameReader};
pub use health_check::{HEALTH_CHECK_PATH, ServingStatus, health_check_request, serving_status};
pub use message::percent_encode_message;
pub use timeout::{TimeoutError, TimeoutText, format_timeout, parse_timeout};

use core::fmt;

/// Towards the pod: the slot of the request's key, in decimal.
pub const HEADER_SLOT: &str = "x-hashroute-slot";
/// Towards the pod: the group that is written, percent-encoded, in place of a slot.
pub const HEADER_GROUP: &str = "x-hashroute-group";
/// Towards the pod: the term of the slot or group, in decimal.
pub const HEADER_TERM: &str = "x-hashroute-term";
/// Towards the pod: the epoch of the view by which the request was routed, in decimal.
pub const HEADER_EPOCH: &str = "x-hashroute-epoch";
/// Towards the caller: the id of the pod that answered.
pub const HEADER_POD: &str = "x-hashroute-pod";
/// Towards the caller, in errors that hashroute made: [`Outcome`](crate::error::Outcome).
pub const HEADER_OUTCOME: &str = "x-hashroute-outcome";
/// From a pod's guard, and towards the caller: [`Refusal`](crate::refusal::Refusal).
pub const HEADER_REFUSAL: &str = "x-hashroute-refusal";
/// In both directions: `true` if no majority of voters was heard for some time, so that what was
/// routed by may be old.
pub const HEADER_STALE: &str = "x-hashroute-stale";
/// From the caller: the routing key, where a route does not say otherwise.
pub const HEADER_KEY: &str = "x-hashroute-key";

/// A gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are gRPC's, and their meaning is defined there")]
pub enum Status {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Status {
    /// Every status, in the order of its code.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number in `grpc-status`.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The number in `grpc-status`, as the text that goes on the wire.
    #[must_use]
    pub const fn code_text(self) -> &'static str {
        match self {
            Self::Ok => "0",
            Self::Cancelled => "1",
            Self::Unknown => "2",
            Self::InvalidArgument => "3",
            Self::DeadlineExceeded => "4",
            Self::NotFound => "5",
            Self::AlreadyExists => "6",
            Self::PermissionDenied => "7",
            Self::ResourceExhausted => "8",
            Self::FailedPrecondition => "9",
            Self::Aborted => "10",
            Self::OutOfRange => "11",
            Self::Unimplemented => "12",
            Self::Internal => "13",
            Self::Unavailable => "14",
            Self::DataLoss => "15",
            Self::Unauthenticated => "16",
        }
    }

    /// The name that gRPC libraries print, for example `INVALID_ARGUMENT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// Reads the value of a `grpc-status` header.
    ///
    /// What is not one of the seventeen codes is [`Status::Unknown`], as gRPC asks of its clients.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        Self::ALL
            .into_iter()
            .find(|status| status.code_text().as_bytes() == value)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_the_wire() {
        for (code, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.code()), code);
            assert_eq!(status.code_text(), code.to_string());
            assert_eq!(Status::parse(status.code_text().as_bytes()), status);
        }
    }

    #[test]
    fn a_status_that_nobody_defined_is_unknown() {
        for value in ["17", "-1", "", "00", "ok", " 0", "4294967296"] {
            assert_eq!(Status::parse(value.as_bytes()), Status::Unknown, "{value:?}");
        }
    }
}
