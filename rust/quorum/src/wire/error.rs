//! What can be wrong with a message.
use hashroute_coordination::{ChangeError, LeaseError};
use hashroute_core::ViewError;

/// Why a message is not what the contract allows. Nothing of it was taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum WireError {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Its name in the contract.
        field: &'static str,
    },
    /// Not a message of the protocol between a member and a voter.
    #[error("{kind} where a message of the protocol was expected")]
    OtherKind {
        /// Its name in the contract.
        kind: &'static str,
    },
    /// Text or bytes of a length that they cannot have.
    #[error("{field} has {bytes} bytes: expected {expected}")]
    Length {
        /// Its name in the contract.
        field: &'static str,
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        expected: &'static str,
    },
    /// A list that is too long.
    #[error("{field} has {count} entries: expected at most {count_max}")]
    TooMany {
        /// Its name in the contract.
        field: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        count_max: usize,
    },
    /// A number outside its range.
    #[error("{field} is {got}: expected {expected}")]
    Number {
        /// Its name in the contract.
        field: &'static str,
        /// What it is.
        got: u64,
        /// What it may be.
        expected: &'static str,
    },
    /// An entry that is there twice.
    #[error("{field} has {entry:?} twice")]
    Twice {
        /// The list's name in the contract.
        field: &'static str,
        /// The entry.
        entry: String,
    },
    /// A record of another cluster.
    #[error("the record is of cluster {found:?}, and this process belongs to {expected:?}")]
    OtherCluster {
        /// Its cluster.
        found: String,
        /// Ours.
        expected: String,
    },
    /// The same view gives another table there.
    #[error(
        "the record's table has the hash {found:016x}, and the same view gives {expected:016x} here: \
         the processes run releases that place keys differently"
    )]
    OtherTable {
        /// As the record says.
        found: u64,
        /// As this process computes it.
        expected: u64,
    },
    /// The view of a record is not valid.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The numbers of the lease break an inequality.
    #[error("the record's lease: {0}")]
    Lease(#[from] LeaseError),
    /// The record is not valid, or the change names what is not there.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A leader was told to step down, and there is no other.
    #[error(
        "group {group:?} has no other candidate with a writer that is not draining: it keeps its leader"
    )]
    NoOtherCandidate {
        /// The group.
        group: String,
    },
}

impl WireError {
    /// The stable name of the situation.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::View(error) => error.code(),
            Self::Lease(_) => "lease_unsafe",
            Self::Change(error) => error.code(),
            Self::OtherCluster { .. } => "other_cluster",
            Self::OtherTable { .. } => "other_table",
            Self::NoOtherCandidate { .. } => "no_other_candidate",
            Self::Missing { .. }
            | Self::OtherKind { .. }
            | Self::Length { .. }
            | Self::TooMany { .. }
            | Self::Number { .. }
            | Self::Twice { .. } => "message_malformed",
        }
    }
}
