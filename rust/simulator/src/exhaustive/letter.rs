//! A message on its way.

use std::fmt;

use hashroute_coordination::{FromVoter, ToPeer, ToVoter, VoterId};
use hashroute_core::PodId;

use super::process::Place;
use crate::number::number;

/// A message, whose it is and for whom. It has a number that follows from what it says.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) words: Words,
    /// Whether a fault delays it: then it arrives at any time, or never.
    pub(super) is_late: bool,
    pub(super) number: u64,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Words {
    ToVoter(PodId, ToVoter),
    FromVoter(VoterId, FromVoter),
    ToPeer(PodId, ToPeer),
}

impl Letter {
    pub(super) fn new(from: Place, to: Place, words: Words, is_late: bool) -> Self {
        let number = number(&(from, to, &words, is_late));
        Self { from, to, words, is_late, number }
    }

    /// Whether a voter answers it.
    pub(super) fn is_answered(&self) -> bool {
        match &self.words {
            Words::ToVoter(_, message) => match message {
                ToVoter::Renew { .. } | ToVoter::Probe { .. } => true,
                ToVoter::Prepare { .. } | ToVoter::Accept { .. } => true,
                ToVoter::Renounce { .. } | ToVoter::Install { .. } => false,
            },
            Words::FromVoter(..) | Words::ToPeer(..) => false,
        }
    }

    /// Whether it keeps a lease, or looks for voters.
    pub(super) fn is_routine(&self) -> bool {
        let calls = |it: &ToVoter| matches!(it, ToVoter::Renew { .. } | ToVoter::Probe { .. });
        matches!(&self.words, Words::ToVoter(_, message) if calls(message))
    }

    pub(super) fn late(&self) -> Self {
        Self::new(self.from, self.to, self.words.clone(), true)
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, words, is_late, .. } = self;
        let late = if *is_late { " late" } else { "" };
        write!(out, "{from} to {to}{late}: ")?;
        match words {
            Words::ToVoter(_, message) => write!(out, "{message:?}"),
            Words::FromVoter(_, message) => write!(out, "{message:?}"),
            Words::ToPeer(_, message) => write!(out, "{message:?}"),
        }
    }
}
