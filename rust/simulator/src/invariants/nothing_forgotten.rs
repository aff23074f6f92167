//! What a voter made durable is there after every restart: it goes by no older record, keeps its
//! promise, and its vote until a higher ballot's. A voter that forgets may vote twice.

use std::collections::BTreeMap;

use hashroute_coordination::{Ballot, VoterId, VoterState};
use hashroute_core::Epoch;

use super::{Invariant, Violation};

/// What each voter made durable: its epoch, then for the next epoch its promise and the ballot of
/// its vote. In this order it only grows.
type Height = (Epoch, Option<Ballot>, Option<Ballot>);

/// The highest that each voter has been.
#[derive(Clone, Default, Hash)]
pub(crate) struct Disks(BTreeMap<VoterId, Height>);

/// A voter's state is on its disk.
pub(crate) fn durable(disks: &mut Disks, state: &VoterState) -> Option<Violation> {
    let violation = starts(disks, state);
    disks.0.insert(state.id, height(state));
    violation
}

/// A voter starts with this state.
pub(crate) fn starts(disks: &Disks, state: &VoterState) -> Option<Violation> {
    let before = disks.0.get(&state.id)?;
    let now = height(state);
    // A vote is forgotten also if the promise beside it has grown.
    let forgotten = now < *before || (now.0 == before.0 && now.2 < before.2);
    let seen = || format!("voter {} was at {before:?} and is at {now:?}", state.id.0);
    forgotten.then(|| Violation::new(Invariant::NothingForgotten, seen()))
}

fn height(state: &VoterState) -> Height {
    let voted = state.accepted.as_ref().map(|(ballot, _)| *ballot);
    (state.installed.epoch(), state.promised, voted)
}
