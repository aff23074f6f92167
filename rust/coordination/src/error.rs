//! What can be wrong with a wish for the next record.

use crate::record::VoterId;

/// Why a change leads to no record.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The view that would result is not valid.
    #[error(transparent)]
    View(#[from] hashroute_core::ViewError),
    /// The number of voters, or two of one name.
    #[error("{voters} voters with {different} different names: expected 1, 3 or 5, all different")]
    Voters {
        /// How many there are.
        voters: usize,
        /// How many different names they have.
        different: usize,
    },
    /// No such voter.
    #[error("no voter {:032x} in the record", .voter.0)]
    UnknownVoter {
        /// The name that was given.
        voter: VoterId,
    },
    /// No such group.
    #[error("no group {group:?} in the record: add it first")]
    UnknownGroup {
        /// The name that was given.
        group: String,
    },
    /// The group is there already.
    #[error("the record has a group {group:?} already")]
    DuplicateGroup {
        /// The name that was given.
        group: String,
    },
    /// The pod may not lead the group.
    #[error("pod {pod:?} is not a candidate of group {group:?}")]
    NotACandidate {
        /// The pod.
        pod: String,
        /// The group.
        group: String,
    },
    /// The pod does not lead the group.
    #[error("pod {pod:?} does not lead group {group:?}: there is nothing to give up")]
    NotTheLeader {
        /// The pod.
        pod: String,
        /// The group.
        group: String,
    },
    /// Nobody else could lead the group.
    #[error("no candidate of group {group:?} but pod {pod:?} has a writer and is in service")]
    NoOtherCandidate {
        /// The pod that leads.
        pod: String,
        /// The group.
        group: String,
    },
    /// Too few of the voters that would stay have been heard.
    #[error(
        "only {heard} of the voters that would stay were heard, and {needed} are a majority of \
         those to come: if the new one cannot be reached either, nothing can be agreed any more; \
         bring a voter back first"
    )]
    VotersUnheard {
        /// How many were heard within two renewal intervals.
        heard: usize,
        /// How many are a majority.
        needed: usize,
    },
    /// The pod has no process that may write.
    #[error("pod {pod:?} has no writer of that incarnation: it has to join first")]
    NoWriter {
        /// The pod.
        pod: String,
    },
    /// The process is the writer of its pod already.
    #[error("this process of pod {pod:?} takes part already")]
    AlreadyWriter {
        /// The pod.
        pod: String,
    },
    /// Too many changes wait to be made.
    #[error("{waiting} changes wait to be made already: ask again when some are done")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// It could not be agreed on in several tries.
    #[error(
        "not agreed in {tries} tries: a majority of voters, or a pod that would lose something, \
         does not answer"
    )]
    NotAgreed {
        /// How many tries were made.
        tries: u32,
    },
    /// A record that no change leads to.
    #[error("not a record that may follow: {what}")]
    Malformed {
        /// Which rule it breaks.
        what: &'static str,
    },
}

impl ChangeError {
    /// The stable name of the situation.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::View(error) => error.code(),
            Self::Voters { .. } => "voters",
            Self::UnknownVoter { .. } => "unknown_voter",
            Self::UnknownGroup { .. } => "unknown_group",
            Self::DuplicateGroup { .. } => "duplicate_group",
            Self::NotACandidate { .. } => "not_a_candidate",
            Self::NotTheLeader { .. } => "not_the_leader",
            Self::NoOtherCandidate { .. } => "no_other_candidate",
            Self::VotersUnheard { .. } => "voters_unheard",
            Self::NoWriter { .. } => "no_writer",
            Self::AlreadyWriter { .. } => "already_writer",
            Self::Busy { .. } => "changes_waiting",
            Self::NotAgreed { .. } => "not_agreed",
            Self::Malformed { .. } => "record_malformed",
        }
    }
}
