//! At most one record is chosen for an epoch, epochs have no gap, each record may follow the one
//! before, and nobody goes by a record that was not chosen. Else two halves of a cluster would
//! each be right.

use std::collections::BTreeMap;

use hashroute_coordination::{Ballot, Record, VoterId, VoterState};
use hashroute_core::Epoch;

use super::chosen::Chosen;
use super::{Invariant, Violation};

/// Who accepted what in which ballot.
#[derive(Default)]
pub(crate) struct Votes(BTreeMap<(Epoch, Ballot), (Record, Vec<VoterId>)>);

/// A voter's vote is durable: does it make a record chosen, and may it?
pub(crate) fn voted(
    votes: &mut Votes,
    chosen: &mut Chosen,
    state: &VoterState,
) -> Option<Violation> {
    let (ballot, record) = state.accepted.as_ref()?;
    let epoch = record.epoch();
    let before = chosen.before(epoch)?;
    let (accepted, voters) =
        votes.0.entry((epoch, *ballot)).or_insert_with(|| (record.clone(), Vec::new()));
    if accepted != record {
        return broken(format!("two records in {ballot:?} of epoch {epoch}"));
    }
    if !before.has_voter(state.id) || voters.contains(&state.id) {
        return None;
    }
    voters.push(state.id);
    if voters.len() < before.majority() {
        return None;
    }
    if before.epoch().next().ok() != Some(epoch) {
        return broken(format!("epoch {epoch} was chosen right after {}", before.epoch()));
    }
    match chosen.get(epoch) {
        Some(other) if other != record => {
            broken(format!("two records chosen for epoch {epoch}: {other:?} and {record:?}"))
        }
        Some(_) => None,
        None => {
            chosen.push(record.clone());
            None
        }
    }
}

/// Somebody goes by this record: was it chosen?
pub(crate) fn goes_by(chosen: &Chosen, record: &Record) -> Option<Violation> {
    match chosen.get(record.epoch()) {
        Some(known) if known == record => None,
        Some(_) | None => broken(format!("{record:?} is installed and was not chosen")),
    }
}

fn broken(seen: String) -> Option<Violation> {
    Some(Violation::new(Invariant::OneRecord, seen))
}
