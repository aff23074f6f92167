//! The words in which both transports tell a caller what went wrong.

use crate::grpc::Status;
use core::fmt;

/// Whether a request that ended in an error may have changed something at a pod.
///
/// There is no third value: what certainly was applied was answered, and an answer is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No pod began to handle the request. Sending it again is always safe.
    NotApplied,
    /// A pod may have handled the request. Sending it again is safe only if it is idempotent.
    Unknown,
}

impl Outcome {
    /// The word on the wire: in `x-hashroute-outcome` and in a ZeroMQ error reply.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of error hashroute itself answers with; errors of pods pass through untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The route wants a key and the request has none. The caller's mistake.
    MissingKey,
    /// The request is not what the transport prescribes. The caller's mistake.
    Malformed,
    /// No pod could take the request, or the one that had it is gone.
    Unavailable,
    /// The deadline of the request passed.
    DeadlineExceeded,
    /// A limit of this process was reached: requests in flight, bytes buffered.
    ResourceExhausted,
    /// A pod's guard did not admit a write.
    Refused,
}

impl ErrorCode {
    /// Every code, for catalogues and for counters that start at zero.
    pub const ALL: [Self; 6] = [
        Self::MissingKey,
        Self::Malformed,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::ResourceExhausted,
        Self::Refused,
    ];

    /// The stable word, as a ZeroMQ error reply and a counter's label carry it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingKey => "MISSING_KEY",
            Self::Malformed => "MALFORMED",
            Self::Unavailable => "UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Refused => "REFUSED",
        }
    }

    /// The gRPC status with which this error is answered. (A guard answers with that of its
    /// [`Refusal`](crate::refusal::Refusal).)
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::MissingKey | Self::Malformed => Status::InvalidArgument,
            Self::Unavailable => Status::Unavailable,
            Self::DeadlineExceeded => Status::DeadlineExceeded,
            Self::ResourceExhausted => Status::ResourceExhausted,
            Self::Refused => Status::FailedPrecondition,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_of_its_own_and_an_error_status() {
        let mut words: Vec<_> = ErrorCode::ALL.map(ErrorCode::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.iter().all(|code| code.status() != Status::Ok));
    }
}
