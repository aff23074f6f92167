//! What must hold at every step, one file an invariant, and what is observed to check it.

mod one_record;
mod one_writer;
mod store_order;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hashroute_coordination::{Bug, Record, Resource, VoterState, Writer};
use hashroute_core::Epoch;

use crate::world::Effect;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: the name of its file.
    pub invariant: &'static str,
    /// What was seen.
    pub seen: String,
    /// When, in true time.
    pub at: Duration,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, seen: String) -> Self {
        Self { invariant, seen, at: Duration::ZERO }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} broken at {:?}: {}", self.invariant, self.at, self.seen)
    }
}

/// Everything that an all-seeing observer knows.
pub(crate) struct Observed {
    pub(crate) bug: Option<Bug>,
    /// The record chosen for each epoch, from the first one on.
    chosen: BTreeMap<Epoch, Record>,
    votes: one_record::Votes,
    store: store_order::Store,
    broken: Option<Violation>,
}

impl Observed {
    pub(crate) fn new(genesis: Record, bug: Option<Bug>) -> Self {
        let chosen = BTreeMap::from([(genesis.epoch(), genesis)]);
        let (votes, store) = Default::default();
        Self { bug, chosen, votes, store, broken: None }
    }

    pub(crate) fn genesis(&self) -> &Record {
        let Some((_, record)) = self.chosen.first_key_value() else {
            unreachable!("has the first")
        };
        record
    }

    pub(crate) fn latest(&self) -> &Record {
        let Some((_, record)) = self.chosen.last_key_value() else { unreachable!("has the first") };
        record
    }

    /// A voter's state is on its disk.
    pub(crate) fn durable(&mut self, state: &VoterState) {
        let violation = one_record::voted(&mut self.votes, &mut self.chosen, state);
        self.note(violation);
        let violation = one_record::installed(&self.chosen, &state.installed);
        self.note(violation);
    }

    /// A member goes by this record.
    pub(crate) fn installed(&mut self, record: &Record) {
        let violation = one_record::installed(&self.chosen, record);
        self.note(violation);
    }

    /// A guard admitted a write.
    pub(crate) fn admitted(&mut self, writer: &Writer, record: &Record, resource: &Resource) {
        let violation = one_writer::admitted(&self.chosen, writer, record, resource);
        self.note(violation);
    }

    /// An effect arrived at the store.
    pub(crate) fn store(&mut self, effect: Effect) {
        let fenced = self.bug != Some(Bug::StoreUnfenced);
        let violation = store_order::arrived(&mut self.store, &self.chosen, effect, fenced);
        self.note(violation);
    }

    pub(crate) fn check(&mut self, now: Duration) -> Result<(), Violation> {
        match self.broken.take() {
            Some(violation) => Err(Violation { at: now, ..violation }),
            None => Ok(()),
        }
    }

    fn note(&mut self, violation: Option<Violation>) {
        if self.broken.is_none() {
            self.broken = violation;
        }
    }
}
