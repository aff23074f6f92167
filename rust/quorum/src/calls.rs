//! When what a member asked voters was sent: its leases are counted from then.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{FromVoter, Sequence, ToVoter, Writer};

/// The calls of a member that await answers.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// When the last ones were sent.
    sent: BTreeMap<Sequence, Duration>,
}

impl Calls {
    /// The member says this to a voter.
    pub(crate) fn note(&mut self, message: &ToVoter, now: Duration) {
        let (ToVoter::Renew { sequence, .. } | ToVoter::Probe { sequence, .. }) = message else {
            return;
        };
        self.sent.entry(*sequence).or_insert(now);
        if self.sent.len() > SENT_MOST {
            self.sent.pop_first();
        }
    }

    /// When the call of `me` that this answers was sent.
    pub(crate) fn sent(&self, me: &Writer, answer: &FromVoter) -> Option<Duration> {
        match answer {
            FromVoter::Renewed { writer, sequence, .. }
            | FromVoter::Heard { writer, sequence, .. }
            | FromVoter::Refused { writer, sequence, .. }
                if writer == me =>
            {
                self.sent.get(sequence).copied()
            }
            FromVoter::Renewed { .. }
            | FromVoter::Heard { .. }
            | FromVoter::Refused { .. }
            | FromVoter::Lapsed { .. }
            | FromVoter::Promised { .. }
            | FromVoter::Accepted { .. }
            | FromVoter::Guarded { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. } => None,
        }
    }
}

/// So many calls are remembered until they are answered.
const SENT_MOST: usize = 64;
