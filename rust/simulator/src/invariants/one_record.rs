//! At most one record is chosen for an epoch, epochs have no gap, each record may follow the one
//! before, and nobody goes by a record that was not chosen. Else two halves of a cluster would
//! each be right.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashroute_coordination::{Ballot, Record, Resource, VoterId, VoterState};
use hashroute_core::{Epoch, Slot};

use super::chosen::Chosen;
use super::{Invariant, Violation};

/// Who accepted what in which ballot.
#[derive(Clone, Default, Hash)]
pub(crate) struct Votes(BTreeMap<(Epoch, Ballot), (Record, Vec<VoterId>)>);

impl Votes {
    /// Ballots of epochs that are decided may still be counted by who does not know; but who votes
    /// for another record than was chosen is found out by the next majority, which needs them. So
    /// only those long decided are dropped.
    pub(super) fn forget(&mut self, chosen: &Chosen) {
        let latest = chosen.latest().epoch();
        self.0.retain(|(epoch, _), _| *epoch >= latest);
    }
}

/// A voter says that it votes in this ballot, for what one of these states of it says: does it make a
/// record chosen, and may it?
pub(crate) fn voted(
    votes: &mut Votes,
    chosen: &mut Chosen,
    ballot: Ballot,
    states: [&VoterState; 2],
) -> Option<Violation> {
    let (record, id) = states.iter().find_map(|state| Some((state.vote(ballot)?, state.id)))?;
    let epoch = record.epoch();
    let before = chosen.before(epoch)?;
    let (accepted, voters) =
        votes.0.entry((epoch, ballot)).or_insert_with(|| (record.clone(), Vec::new()));
    if accepted != record {
        return broken(format!("two records in {ballot:?} of epoch {epoch}"));
    }
    if !before.has_voter(id) || voters.contains(&id) {
        return None;
    }
    voters.push(id);
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
            let violation = follows(before, record);
            chosen.push(record.clone());
            violation
        }
    }
}

/// A register has committed a record: may it follow the one before?
pub(crate) fn committed(chosen: &mut Chosen, record: &Record) -> Option<Violation> {
    let before = chosen.latest();
    if before.epoch().next().ok() != Some(record.epoch()) {
        let (epoch, latest) = (record.epoch(), before.epoch());
        return broken(format!("epoch {epoch} was committed right after {latest}"));
    }
    let violation = follows(before, record);
    chosen.push(record.clone());
    violation
}

/// What a record must have in common with the one before it, worked out once more: at most one
/// voter is another; a resource has its old term if its writer is the same, and begins a new one if
/// not; and a pod that owns slots has a writer.
fn follows(before: &Record, record: &Record) -> Option<Violation> {
    let epoch = record.epoch();
    let replaced = record.voters().iter().filter(|entry| !before.has_voter(entry.id)).count();
    if replaced > 1 || record.voters().len() != before.voters().len() {
        return broken(format!("epoch {epoch} replaces {replaced} voters at once"));
    }
    let pods = record.view().pods().iter();
    let mut owners = pods.filter(|pod| pod.state.owns_slots()).map(|pod| &pod.id);
    if let Some(pod) = owners.find(|pod| !record.writers().contains_key(pod)) {
        return broken(format!("epoch {epoch} gives slots to {pod}, which has no writer"));
    }
    let slots = (0..record.view().parameters().slots()).map(|slot| Resource::Slot(Slot::new(slot)));
    let groups = record.groups().iter().map(|group| Resource::Group(Arc::clone(&group.name)));
    let wrong = |resource: &Resource| {
        let owner = record.writer_of(resource);
        let stays = owner.is_some() && owner == before.writer_of(resource);
        let expected = before.term(resource).filter(|_| stays).unwrap_or(epoch);
        record.term(resource) != Some(expected)
    };
    let resource = slots.chain(groups).find(wrong)?;
    broken(format!("epoch {epoch} has a wrong term for {resource:?}"))
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
