//! How a voter has answered to renewals.
use std::collections::BTreeMap;

use hashroute_coordination::{FromVoter, Refusal};

/// Counted since the process started.
#[derive(Debug, Default)]
pub(crate) struct AnswerCounts {
    pub(crate) grants: u64,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
}

impl AnswerCounts {
    /// The voter says this.
    pub(crate) fn count(&mut self, message: &FromVoter) {
        match message {
            FromVoter::Renewed { .. } => self.grants += 1,
            FromVoter::Refused { refusal, .. } => {
                *self.refusals.entry(word(refusal)).or_default() += 1;
            }
            FromVoter::Heard { .. }
            | FromVoter::Lapsed { .. }
            | FromVoter::Promised { .. }
            | FromVoter::Accepted { .. }
            | FromVoter::Guarded { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. } => {}
        }
    }
}

fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Behind(_) => "behind",
        Refusal::Ahead => "ahead",
        Refusal::NotNamed => "not-named",
        Refusal::Pending(_) => "pending",
        Refusal::Held => "held",
        Refusal::Renounced => "renounced",
        Refusal::NotAVoter => "not-a-voter",
    }
}
