//! Who said that it released a resource admits no write of it until the next record counts, and
//! has none under way: so a planned move leaves no write behind that the store would have to
//! refuse.

use std::collections::BTreeMap;

use hashroute_coordination::{Record, Resource, VoterState, Writer};
use hashroute_core::Epoch;

use super::chosen::Chosen;
use super::{Invariant, Violation};

/// What was released, and what is under way.
#[derive(Clone, Default, Hash)]
pub(crate) struct Releases {
    /// What each process released.
    said: Vec<(Writer, Record)>,
    /// What each process goes by: what it released up to there is decided.
    epochs: BTreeMap<Writer, Epoch>,
    /// The writes that were admitted and have not ended.
    under_way: BTreeMap<u64, (Writer, Resource)>,
}

impl Releases {
    /// What was released for a record that is decided was decided with it.
    pub(super) fn forget(&mut self, chosen: &Chosen) {
        let latest = chosen.latest().epoch();
        self.said.retain(|(_, record)| record.epoch() >= latest);
    }

    pub(crate) fn said(&mut self, writer: &Writer, record: &Record) -> Option<Violation> {
        if self.epochs.get(writer) >= Some(&record.epoch()) {
            // Another record was decided meanwhile.
            return None;
        }
        let lost = |resource: &Resource| record.writer_of(resource) != Some(writer);
        let violation = self.left(writer, lost);
        self.said.push((writer.clone(), record.clone()));
        violation
    }

    /// A register holds the word of the process that it released what it loses in the record.
    pub(crate) fn committed(&mut self, writer: &Writer, record: &Record) {
        self.said.push((writer.clone(), record.clone()));
    }

    /// Whether a write of what the process loses by `record`, which follows `before`, is under way.
    /// Of what it lost before that, by the end of its lease, writes may be: nobody waits for those.
    pub(crate) fn left_since(
        &self,
        writer: &Writer,
        before: &Record,
        record: &Record,
    ) -> Option<Violation> {
        self.left(writer, |resource| {
            before.writer_of(resource) == Some(writer) && record.writer_of(resource) != Some(writer)
        })
    }

    fn left(&self, writer: &Writer, lost: impl Fn(&Resource) -> bool) -> Option<Violation> {
        let left = self.under_way.values().find(|(by, resource)| by == writer && lost(resource));
        left.map(|(_, resource)| {
            broken(format!("{writer:?} released {resource:?} with a write of it under way"))
        })
    }

    /// Whether the process released what it loses in the record.
    pub(crate) fn has_said(&self, writer: &Writer, record: &Record) -> bool {
        self.said.iter().any(|it| it.0 == *writer && it.1 == *record)
    }

    /// What was released for this record was released in vain.
    pub(crate) fn withdrawn(&mut self, record: &Record) {
        self.said.retain(|it| it.1 != *record);
    }

    /// A voter votes, counting on these releases: each was said, and for this very record.
    pub(crate) fn count(&self, state: &VoterState, released: &[Writer]) -> Option<Violation> {
        let (_, record) = state.accepted.as_ref()?;
        let writer = released.iter().find(|writer| !self.has_said(writer, record))?;
        Some(broken(format!("a vote counts on {writer:?}, who did not release for that record")))
    }

    pub(crate) fn installed(&mut self, writer: &Writer, record: &Record) {
        self.epochs.insert(writer.clone(), record.epoch());
    }

    pub(crate) fn admitted(
        &mut self,
        writer: &Writer,
        resource: &Resource,
        effect: u64,
    ) -> Option<Violation> {
        self.under_way.insert(effect, (writer.clone(), resource.clone()));
        let decided = self.epochs.get(writer).copied();
        let mut standing = self.said.iter().rev();
        let lost = standing.any(|(by, record)| {
            by == writer
                && Some(record.epoch()) > decided
                && record.writer_of(resource) != Some(writer)
        });
        lost.then(|| broken(format!("{writer:?} released {resource:?} and admits a write of it")))
    }

    pub(crate) fn ended(&mut self, effect: u64) {
        self.under_way.remove(&effect);
    }
}

fn broken(seen: String) -> Violation {
    Violation::new(Invariant::Releases, seen)
}
