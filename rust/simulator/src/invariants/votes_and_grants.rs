//! A voter never votes to end a lease that it granted and that may still be used, and never
//! grants one that its vote ends; and a lease ends, in true time, before the guards of a majority
//! do. On these two rests that there is one writer.
//!
//! The books here are kept in true time over restarts: they hold for what a voter granted, not
//! for what it remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashroute_coordination::{Incarnation, Record, VoterId, VoterState, Writer};

use super::releases::Releases;
use super::{Invariant, Violation};

/// Until when each voter has to guard each writer.
#[derive(Clone, Default, Hash)]
pub(crate) struct Grants {
    /// By process. Two pods never draw the same number, and numbers are quick to compare.
    until: BTreeMap<Incarnation, Vec<(VoterId, Duration)>>,
    renounced: BTreeSet<Writer>,
}

impl Grants {
    /// Guards that are over end nothing.
    pub(super) fn forget(&mut self, now: Duration) {
        self.until.retain(|_, voters| {
            voters.retain(|(_, until)| *until > now);
            voters.sort_unstable();
            !voters.is_empty()
        });
    }

    fn until(&self, voter: VoterId, writer: &Writer) -> Option<Duration> {
        let voters = self.until.get(&writer.incarnation)?.iter();
        voters.filter(|(id, _)| *id == voter).map(|(_, until)| *until).max()
    }

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
    let voters = grants.until.entry(writer.incarnation).or_default();
    match voters.iter_mut().find(|(id, _)| *id == state.id) {
        Some((_, known)) => *known = until.max(*known),
        None => voters.push((state.id, until)),
    }
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
    let guarded =
        live.find(|writer| grants.until(state.id, writer).is_some_and(|until| until > now))?;
    let seen = format!("voter {} voted while it had to guard {guarded:?}", state.id.0);
    Some(Violation::new(Invariant::VotesAndGrants, seen))
}

/// A register's record `before` is followed by `record`: a majority guards nobody any more who loses
/// by it and has not stopped.
pub(crate) fn followed(
    grants: &Grants,
    now: Duration,
    releases: &Releases,
    before: &Record,
    record: &Record,
) -> Option<Violation> {
    let is_guarded = |writer: &Writer| {
        let guards = |voter| grants.until(voter, writer).is_some_and(|until| until > now);
        let guarding = before.voters().iter().filter(|entry| guards(entry.id)).count();
        guarding >= before.majority() && !grants.renounced.contains(writer)
    };
    let mut live = before.losers(record).into_iter().filter(is_guarded);
    let loser = live.find(|writer| !releases.has_said(writer, record))?;
    let epoch = record.epoch();
    let seen = format!("epoch {epoch} takes from {loser:?}, which a majority guards");
    Some(Violation::new(Invariant::TakenFromStopped, seen))
}

/// The lease of a writer that goes by `record` now ends at this true time.
pub(crate) fn lease_grew(
    grants: &Grants,
    writer: &Writer,
    record: &Record,
    end: Duration,
) -> Option<Violation> {
    let outlasts = |voter| grants.until(voter, writer).is_some_and(|until| until >= end);
    let guarding = record.voters().iter().filter(|entry| outlasts(entry.id)).count();
    if guarding >= record.majority() {
        return None;
    }
    let seen =
        format!("{writer:?} holds a lease to {end:?}, and {guarding} voters guard it so long");
    Some(Violation::new(Invariant::LeasesWithinGuards, seen))
}
