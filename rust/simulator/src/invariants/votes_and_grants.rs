//! A voter never votes to end a lease that it granted and that may still be used, and never
//! grants one that its vote ends; and a lease ends, in true time, before the guards of a majority
//! do. On these two rests that there is one writer.
//!
//! The books here are kept in true time over restarts: they hold for what a voter granted, not
//! for what it remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashroute_coordination::{Record, VoterId, VoterState, Writer};

use super::{Invariant, Violation};

/// Until when each voter has to guard each writer.
#[derive(Default)]
pub(crate) struct Grants {
    until: BTreeMap<(VoterId, Writer), Duration>,
    renounced: BTreeSet<Writer>,
}

impl Grants {
    pub(crate) fn renounced(&mut self, writer: &Writer) {
        self.renounced.insert(writer.clone());
    }
}

/// A voter in this state granted `writer` a renewal.
pub(crate) fn granted(
    grants: &mut Grants,
    state: &VoterState,
    writer: &Writer,
    until: Duration,
) -> Option<Violation> {
    let known = grants.until.entry((state.id, writer.clone())).or_insert(until);
    *known = (*known).max(until);
    let (ballot, accepted) = state.accepted.as_ref()?;
    let ended = accepted.voters() != state.installed.voters()
        || state.installed.losers(accepted).contains(writer);
    let seen = || format!("voter {} granted {writer:?} against its vote in {ballot:?}", state.id.0);
    ended.then(|| Violation::new(Invariant::VotesAndGrants, seen()))
}

/// A voter votes for what its state says; these writers have released what they lose.
pub(crate) fn votes(
    grants: &Grants,
    now: Duration,
    state: &VoterState,
    released: &[Writer],
) -> Option<Violation> {
    let (_, record) = state.accepted.as_ref()?;
    let losers = state.installed.losers(record).into_iter();
    let mut live =
        losers.filter(|writer| !released.contains(writer) && !grants.renounced.contains(writer));
    let guarded = live.find(|writer| {
        grants.until.get(&(state.id, writer.clone())).is_some_and(|until| *until > now)
    })?;
    let seen = format!("voter {} voted while it had to guard {guarded:?}", state.id.0);
    Some(Violation::new(Invariant::VotesAndGrants, seen))
}

/// The lease of a writer that goes by `record` now ends at this true time.
pub(crate) fn lease_grew(
    grants: &Grants,
    writer: &Writer,
    record: &Record,
    end: Duration,
) -> Option<Violation> {
    let outlasts = |voter: VoterId| {
        grants.until.get(&(voter, writer.clone())).is_some_and(|until| *until >= end)
    };
    let guarding = record.voters().iter().filter(|entry| outlasts(entry.id)).count();
    if guarding >= record.majority() {
        return None;
    }
    let seen =
        format!("{writer:?} holds a lease to {end:?}, and {guarding} voters guard it so long");
    Some(Violation::new(Invariant::LeasesWithinGuards, seen))
}
