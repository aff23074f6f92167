//! The error reply of a ZeroMQ relay, for clients that talk to one.

use hashroute_core::Epoch;
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::zmtp::ErrorReply;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::failure::Failure;
use crate::refusal;

/// Raises the error that `frame` tells of, if it is an error reply of a sidecar or a guard.
///
/// Raises:
///     RequestError: `frame` is one; the class, the code and the outcome are those it names.
#[pyfunction]
#[pyo3(signature = (frame, /))]
pub(crate) fn raise_error_reply(frame: &[u8]) -> PyResult<()> {
    let Some(reply) = ErrorReply::parse(frame) else { return Ok(()) };
    let code = match (reply.refused, reply.code) {
        (Some(refused), _) => refusal::code(refused.refusal),
        (None, ErrorCode::MissingKey) => "missing_key",
        (None, ErrorCode::Malformed) => "malformed",
        (None, ErrorCode::Unavailable) => "unavailable",
        (None, ErrorCode::DeadlineExceeded) => "deadline_exceeded",
        (None, ErrorCode::ResourceExhausted) => "resource_exhausted",
        // A refusal that does not say which has nothing to say but that it is one.
        (None, ErrorCode::Refused) => "untagged",
    };
    let failure = Failure::new(code, reply.text).with("outcome", outcome_word(reply.outcome));
    Err(match reply.refused.and_then(|refused| refused.epoch) {
        Some(epoch) => failure.with("epoch", epoch.get()),
        None => failure,
    }
    .into())
}

/// Returns the word and the epoch with which a guard refused a write, if `frame` is such a reply;
/// None for every other frame, also for what a router says in the end of a refused write.
#[pyfunction]
#[pyo3(signature = (frame, /))]
pub(crate) fn refusal_of(frame: &[u8]) -> Option<(&'static str, Option<u64>)> {
    let reply = ErrorReply::parse(frame).filter(|reply| reply.code == ErrorCode::Refused)?;
    let refused = reply.refused.filter(|_| reply.outcome == Outcome::NotApplied)?;
    Some((refused.refusal.as_str(), refused.epoch.map(Epoch::get)))
}

/// Returns the frame with which a guard refuses a write over `ZeroMQ`.
#[pyfunction]
#[pyo3(signature = (word, epoch, text, /))]
pub(crate) fn refusal_frame<'py>(
    py: Python<'py>,
    word: &str,
    epoch: u64,
    text: String,
) -> PyResult<Bound<'py, PyBytes>> {
    let Some(refusal) = Refusal::parse(word.as_bytes()) else {
        return Err(Failure::new("internal", format!("no refusal {word:?}")).into());
    };
    let reply = ErrorReply {
        code: ErrorCode::Refused,
        outcome: Outcome::NotApplied,
        refused: Some(Refused { refusal, epoch: Some(Epoch::new(epoch)) }),
        text,
    };
    Ok(PyBytes::new(py, reply.to_string().as_bytes()))
}

/// Python's spelling of an outcome: an identifier, not a word on the wire.
pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Unknown => "unknown",
    }
}
