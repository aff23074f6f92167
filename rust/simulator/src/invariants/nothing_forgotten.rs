//! What a voter made durable is there after every restart: it goes by no older record, keeps its
//! promise, and its vote until a higher ballot's; and it says no vote before that is durable. A voter
//! that forgets may vote twice.

use std::collections::BTreeMap;

use hashroute_coordination::{Ballot, Record, VoterId, VoterState};
use hashroute_core::Epoch;

use super::{Invariant, Violation};

/// What each voter made durable: its epoch, then for the next epoch its promise and the ballot of
/// its vote, be it one that was written down ahead and then said. In this order it only grows.
type Height = (Epoch, Option<Ballot>, Option<Ballot>);

/// The highest that each voter has been.
#[derive(Clone, Default, Hash)]
pub(crate) struct Disks(BTreeMap<VoterId, Height>);

/// A voter's state is on its disk.
pub(crate) fn durable(disks: &mut Disks, state: &VoterState) -> Option<Violation> {
    let violation = starts(disks, state);
    disks.0.insert(state.id, height(state, state.accepted.as_ref()));
    violation
}

/// A voter says that it votes in this ballot; its disk holds this state.
pub(crate) fn said(disks: &mut Disks, ballot: Ballot, disk: &VoterState) -> Option<Violation> {
    if disk.vote(ballot).is_none() {
        let seen = format!("voter {} said a vote in {ballot:?} that its disk lacks", disk.id.0);
        return Some(Violation::new(Invariant::NothingForgotten, seen));
    }
    if let Some((_, _, voted)) = disks.0.get_mut(&disk.id) {
        *voted = (*voted).max(Some(ballot));
    }
    None
}

/// A voter starts with this state.
pub(crate) fn starts(disks: &Disks, state: &VoterState) -> Option<Violation> {
    let before = disks.0.get(&state.id)?;
    // Written down ahead, it counts as a vote after a restart.
    let now = height(state, state.tentative.as_ref().or(state.accepted.as_ref()));
    // A vote is forgotten also if the promise beside it has grown.
    let forgotten = now < *before || (now.0 == before.0 && now.2 < before.2);
    let seen = || format!("voter {} was at {before:?} and is at {now:?}", state.id.0);
    forgotten.then(|| Violation::new(Invariant::NothingForgotten, seen()))
}

fn height(state: &VoterState, vote: Option<&(Ballot, Record)>) -> Height {
    (state.installed.epoch(), state.promised, vote.map(|(ballot, _)| *ballot))
}
