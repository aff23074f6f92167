//! The words in which a pod's guard refuses a write, and what each asks of the sender.
//!
//! Every refusal promises that nothing was applied. `docs/wire.md` has the bytes.

use crate::grpc::Status;
use core::fmt;
use hashroute_core::Epoch;

/// Why a guard did not admit a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Another process owns the resource.
    NotOwner,
    /// It was routed by an older owner's term.
    StaleTerm,
    /// The pod has not seen the sender's record yet.
    Behind,
    /// The resource is on its way to another owner.
    Moving,
    /// No majority of voters answers the pod.
    NoLease,
    /// It does not say by which record it was routed, or says so for another resource.
    Untagged,
}

/// What a refusal asks of whoever routed the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send it again by a newer record, and not before there is one.
    NewerRecord,
    /// Send it again in a moment, or as soon as there is a newer record.
    Moment,
    /// Do not send it again: it would be refused again.
    None,
}

impl Refusal {
    /// Every refusal, for catalogues and for counters that start at zero.
    pub const ALL: [Self; 6] = [
        Self::NotOwner,
        Self::StaleTerm,
        Self::Behind,
        Self::Moving,
        Self::NoLease,
        Self::Untagged,
    ];

    /// The word on the wire and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOwner => "not-owner",
            Self::StaleTerm => "stale-term",
            Self::Behind => "behind",
            Self::Moving => "moving",
            Self::NoLease => "no-lease",
            Self::Untagged => "untagged",
        }
    }

    /// Reads the word on the wire; `None` if it is none of the six.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str().as_bytes() == word)
    }

    /// The gRPC status with which a guard refuses.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::NotOwner | Self::StaleTerm | Self::Untagged => Status::FailedPrecondition,
            Self::Behind | Self::Moving | Self::NoLease => Status::Unavailable,
        }
    }

    /// What the sender is to do.
    #[must_use]
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::NotOwner | Self::StaleTerm => Remedy::NewerRecord,
            Self::Behind | Self::Moving | Self::NoLease => Remedy::Moment,
            Self::Untagged => Remedy::None,
        }
    }

    /// The refusal as the end of a sentence that begins with the pod.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::NotOwner => "says that another process owns what is written",
            Self::StaleTerm => "says that the write was routed by an older owner's term",
            Self::Behind => "has not seen the record that the write was routed by",
            Self::Moving => "is handing what is written over to another pod",
            Self::NoLease => "holds no lease: no majority of voters answers it",
            Self::Untagged => "says that the write does not tell by which record it was routed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as it came: the word, and the epoch of the guard's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The epoch of the guard's record; 0 if it has none, `None` if it did not say.
    pub epoch: Option<Epoch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire_and_no_other_word_is_one() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::parse(refusal.as_str().as_bytes()), Some(refusal));
        }
        for word in ["", "NOT-OWNER", "not_owner", "not-owner ", "stale"] {
            assert_eq!(Refusal::parse(word.as_bytes()), None, "{word:?}");
        }
    }

    #[test]
    fn what_no_newer_record_or_moment_mends_is_a_failed_precondition() {
        for refusal in Refusal::ALL {
            let passes = refusal.remedy() == Remedy::Moment;
            let status = if passes { Status::Unavailable } else { Status::FailedPrecondition };
            assert_eq!(refusal.status(), status, "{refusal}");
        }
    }
}
