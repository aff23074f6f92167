//! The error reply of a ZeroMQ relay, for clients that talk to one.

use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::zmtp::ErrorReply;
use pyo3::prelude::*;

use crate::failure::Failure;

/// Raises the error that `frame` tells of, if it is an error reply of a sidecar.
///
/// Raises:
///     RequestError: `frame` is one; the class, the code and the outcome are those it names.
#[pyfunction]
#[pyo3(signature = (frame, /))]
pub(crate) fn raise_error_reply(frame: &[u8]) -> PyResult<()> {
    let Some(reply) = ErrorReply::parse(frame) else { return Ok(()) };
    let code = match reply.code {
        ErrorCode::MissingKey => "missing_key",
        ErrorCode::Malformed => "malformed",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::DeadlineExceeded => "deadline_exceeded",
        ErrorCode::ResourceExhausted => "resource_exhausted",
        ErrorCode::Refused => "refused",
    };
    Err(Failure::new(code, reply.text).with("outcome", outcome_word(reply.outcome)).into())
}

/// Python's spelling of an outcome: an identifier, not a word on the wire.
pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Unknown => "unknown",
    }
}
