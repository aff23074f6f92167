//! The errors that the relay answers with in a pod's place, each with what to do about it.
use std::time::Duration;

use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::retry::Failure;
use hashroute_dataplane::zmtp::{ErrorReply, Oversize};

/// Frames of one message, the envelope included.
pub(super) const MESSAGE_FRAMES_MAX: usize = 1024;

pub(super) fn no_envelope() -> ErrorReply {
    let text = "the message has no empty frame: send [...][empty][key][body...], as REQ does";
    refusal(ErrorCode::Malformed, Outcome::NotApplied, text)
}

pub(super) fn missing_key(key_frame: usize) -> ErrorReply {
    let text = format!(
        "the message has no frame {key_frame} (zmq.key_frame, from 0) after its empty frame"
    );
    refusal(ErrorCode::MissingKey, Outcome::NotApplied, text)
}

pub(super) fn stopping() -> ErrorReply {
    let text = "the sidecar is stopping: connect to another one";
    refusal(ErrorCode::Unavailable, Outcome::NotApplied, text)
}

pub(super) fn buffers_full() -> ErrorReply {
    let text = "the sidecar's buffers are full: send less, or later";
    refusal(ErrorCode::ResourceExhausted, Outcome::NotApplied, text)
}

pub(super) fn too_many_requests(requests_max: u32) -> ErrorReply {
    let text = format!("limits.requests_max ({requests_max}) is reached: send less, or later");
    refusal(ErrorCode::ResourceExhausted, Outcome::NotApplied, text)
}

pub(super) fn request_too_large(why: Oversize, message_bytes_max: usize) -> ErrorReply {
    let text = format!("the request {}", oversize(why, message_bytes_max));
    refusal(ErrorCode::ResourceExhausted, Outcome::NotApplied, text)
}

pub(super) fn reply_too_large(why: Oversize, message_bytes_max: usize) -> ErrorReply {
    let text = format!("the pod's reply {}", oversize(why, message_bytes_max));
    refusal(ErrorCode::ResourceExhausted, Outcome::Unknown, text)
}

pub(super) fn foreign_envelope() -> ErrorReply {
    let text = "the pod's reply does not begin with the request's envelope: a worker must return \
                every frame up to the first empty one";
    refusal(ErrorCode::Malformed, Outcome::Unknown, text)
}

pub(super) fn expired(outcome: Outcome, request_timeout: Duration) -> ErrorReply {
    let limit = request_timeout.as_millis();
    let text = format!("no reply within zmq.request_timeout ({limit} ms)");
    refusal(ErrorCode::DeadlineExceeded, outcome, text)
}

pub(super) fn pods_full(outcome: Outcome) -> ErrorReply {
    let text = "every pod for this key has more waiting than it reads: send less, or later";
    refusal(ErrorCode::ResourceExhausted, outcome, text)
}

pub(super) fn no_pod(outcome: Outcome) -> ErrorReply {
    refusal(ErrorCode::Unavailable, outcome, "no pod for this key can be reached")
}

pub(super) fn no_service() -> ErrorReply {
    refusal(ErrorCode::Unavailable, Outcome::NotApplied, "the service cannot be reached")
}

pub(super) fn service_full() -> ErrorReply {
    let text = "the service has more waiting than it reads: send less, or later";
    refusal(ErrorCode::ResourceExhausted, Outcome::NotApplied, text)
}

pub(super) fn service_failed(failure: Failure) -> ErrorReply {
    if failure.may_have_reached() {
        let text = "the connection to the service was lost before its reply came";
        refusal(ErrorCode::Unavailable, Outcome::Unknown, text)
    } else {
        no_service()
    }
}

pub(super) fn attempt_failed(failure: Failure, outcome: Outcome) -> ErrorReply {
    let text = if failure.may_have_reached() {
        "the connection to the pod was lost before its reply came"
    } else {
        "no attempt reached a pod, and none is left (retry.attempts_max)"
    };
    refusal(ErrorCode::Unavailable, outcome, text)
}

fn oversize(why: Oversize, message_bytes_max: usize) -> String {
    match why {
        Oversize::Bytes => format!("is larger than zmq.message_bytes_max ({message_bytes_max})"),
        Oversize::Frames => format!("has more than {MESSAGE_FRAMES_MAX} frames"),
        Oversize::Shed => "was dropped because the sidecar's buffers are full".to_owned(),
    }
}

fn refusal(code: ErrorCode, outcome: Outcome, text: impl Into<String>) -> ErrorReply {
    ErrorReply { code, outcome, refused: None, text: text.into() }
}
