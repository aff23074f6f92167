//! What must hold at every step, one file an invariant, and what is observed to check it.
//!
//! The observer sees everything: true time, every disk, every message. It keeps books of its own
//! and never asks a state machine what that believes, except whether it would admit a write.

mod beats;
mod chosen;
mod guard_terms;
mod lease_held;
mod nothing_forgotten;
mod one_record;
mod one_writer;
mod register;
mod releases;
mod stale_routes;
mod store_order;
mod superseded;
mod votes_and_grants;

use std::fmt;
use std::time::Duration;

use hashroute_coordination::{Ballot, Bug, Change, Record, Resource, VoterState, WriteTag, Writer};
use hashroute_core::Epoch;

use crate::number::number;
use crate::world::Effect;
use chosen::Chosen;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// One record is chosen an epoch, and nobody goes by another.
    OneRecord,
    /// No write is admitted by one who may have been replaced.
    OneWriter,
    /// The terms under which guards admit writes of a resource never fall.
    GuardTerms,
    /// A store sees no term fall, and each term's writes are its owner's.
    StoreOrder,
    /// The agreed changes are one history, in the order of real time.
    Register,
    /// Writes routed by an old owner's term are refused.
    StaleRoutes,
    /// Who released admits nothing, and has nothing under way.
    Releases,
    /// A voter votes only when what it granted has run out, and grants nothing against its vote.
    VotesAndGrants,
    /// Who admits a write holds a lease.
    LeaseHeld,
    /// A lease ends before the guards of a majority do.
    LeasesWithinGuards,
    /// No promise, vote or record is forgotten.
    NothingForgotten,
    /// A lease ends before anybody may take its holder's last beat for old.
    LeasesWithinBeats,
    /// A record takes nothing from a writer that may write and has not stopped.
    TakenFromStopped,
    /// Who knows that it was removed or replaced is named by no record again.
    Superseded,
    /// Who has done what is due has nothing more to do at that instant.
    NothingDue,
    /// With a quorum connected and quiet, every resource is writable again.
    Recovery,
}

impl Invariant {
    /// Whether users would see it broken. The others guard rules that these rest on; they break
    /// earlier, and more often.
    #[must_use]
    pub fn is_visible(self) -> bool {
        matches!(
            self,
            Self::OneRecord
                | Self::OneWriter
                | Self::GuardTerms
                | Self::StoreOrder
                | Self::Register
                | Self::StaleRoutes
                | Self::Superseded
                | Self::Recovery
        )
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which promise.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
    /// When, in true time.
    pub at: Duration,
}

impl Violation {
    pub(crate) fn new(invariant: Invariant, seen: String) -> Self {
        Self { invariant, seen, at: Duration::ZERO }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} broken at {:?}: {}", self.invariant, self.at, self.seen)
    }
}

/// Who admitted a write, by which record, and its number.
pub(crate) struct Admission<'a> {
    pub(crate) writer: &'a Writer,
    pub(crate) record: &'a Record,
    pub(crate) number: u64,
}

/// Everything that an all-seeing observer knows.
#[derive(Clone, Hash)]
pub(crate) struct Observed {
    pub(crate) bug: Option<Bug>,
    /// Whether only what users would see is checked.
    visible_only: bool,
    /// The record chosen for each epoch, from the first one on.
    chosen: Chosen,
    votes: one_record::Votes,
    guard_terms: guard_terms::Terms,
    leases: lease_held::Leases,
    store: store_order::Store,
    grants: votes_and_grants::Grants,
    disks: nothing_forgotten::Disks,
    releases: releases::Releases,
    changes: register::Changes,
    beats: beats::Beats,
    superseded: superseded::Superseded,
    broken: Option<Violation>,
}

impl Observed {
    pub(crate) fn new(genesis: Record, bug: Option<Bug>, visible_only: bool) -> Self {
        Self {
            bug,
            visible_only,
            chosen: Chosen::new(genesis),
            votes: one_record::Votes::default(),
            guard_terms: guard_terms::Terms::default(),
            leases: lease_held::Leases::default(),
            store: store_order::Store::default(),
            grants: votes_and_grants::Grants::default(),
            disks: nothing_forgotten::Disks::default(),
            releases: releases::Releases::default(),
            changes: register::Changes::default(),
            beats: beats::Beats::default(),
            superseded: superseded::Superseded::default(),
            broken: None,
        }
    }

    pub(crate) fn genesis(&self) -> &Record {
        self.chosen.genesis()
    }

    pub(crate) fn latest(&self) -> &Record {
        self.chosen.latest()
    }

    /// The latest record, and the one before it.
    pub(crate) fn last_two(&self) -> impl Iterator<Item = &Record> {
        self.chosen.last_two()
    }

    /// A voter's state is on its disk.
    pub(crate) fn durable(&mut self, state: &VoterState) {
        let violation = one_record::goes_by(&self.chosen, &state.installed);
        self.note(violation);
        let violation = nothing_forgotten::durable(&mut self.disks, state);
        self.note(violation);
    }

    /// A voter in this state says that it accepted what was proposed in this ballot; its disk holds
    /// `disk`.
    pub(crate) fn accepted(&mut self, ballot: Ballot, state: &VoterState, disk: &VoterState) {
        let violation = nothing_forgotten::said(&mut self.disks, ballot, disk);
        self.note(violation);
        let violation = one_record::voted(&mut self.votes, &mut self.chosen, ballot, [disk, state]);
        self.note(violation);
    }

    /// A voter starts with what its disk holds.
    pub(crate) fn voter_starts(&mut self, state: &VoterState) {
        let violation = nothing_forgotten::starts(&self.disks, state);
        self.note(violation);
    }

    /// A voter granted a renewal: it guards the writer until this true time.
    pub(crate) fn granted(&mut self, state: &VoterState, writer: &Writer, until: Duration) {
        let violation = votes_and_grants::granted(&mut self.grants, state, writer, until);
        self.note(violation);
    }

    /// A voter votes for what its state says it accepted.
    pub(crate) fn votes(&mut self, now: Duration, state: &VoterState, released: &[Writer]) {
        let violation = votes_and_grants::votes(&self.grants, now, state, released);
        self.note(violation);
        let violation = self.releases.count(state, released);
        self.note(violation);
    }

    /// The process of this writer has renounced.
    pub(crate) fn renounced(&mut self, writer: &Writer) {
        self.grants.renounced(writer);
        self.leases.renounced(writer);
        self.beats.renounced(writer);
    }

    /// A register has committed a beat: because of it its process may write until one true time,
    /// and nobody may take it for old before the other.
    pub(crate) fn beat(&mut self, writer: &Writer, writes_until: Duration, fresh_until: Duration) {
        self.beats.beat(writer, writes_until, fresh_until);
    }

    /// The lease of `writer` now ends at this true time, because of its beats.
    pub(crate) fn lease_grew_by_beats(&mut self, writer: &Writer, end: Duration) {
        self.leases.grew(writer, end);
        let violation = self.beats.lease_grew(writer, end);
        self.note(violation);
    }

    /// A register has committed this record.
    pub(crate) fn committed(&mut self, now: Duration, record: &Record) {
        let violation = self.superseded.followed(record);
        self.note(violation);
        let (releases, before) = (&self.releases, self.chosen.latest());
        let violation = if before.voters().len() > 1 {
            votes_and_grants::followed(&self.grants, now, releases, before, record)
        } else {
            self.beats.followed(now, releases, before, record)
        };
        self.note(violation);
        let violation = one_record::committed(&mut self.chosen, record);
        self.note(violation);
    }

    /// A member goes by this record of a register.
    pub(crate) fn installed_of_register(&mut self, writer: &Writer, record: &Record) {
        self.superseded.installed(writer, record);
        self.installed(writer, record);
    }

    /// An intent for this record was withdrawn: who stopped for it may go on.
    pub(crate) fn withdrawn(&mut self, record: &Record) {
        self.releases.withdrawn(record);
    }

    /// A process is about to say that it has stopped for this record.
    pub(crate) fn says_released(&mut self, writer: &Writer, record: &Record) {
        let Some(before) = self.chosen.before(record.epoch()) else { return };
        let violation = self.releases.left_since(writer, before, record);
        self.note(violation);
    }

    /// A register has committed that the process has stopped for this record.
    pub(crate) fn released_in_register(&mut self, writer: &Writer, record: &Record) {
        self.releases.committed(writer, record);
    }

    /// A member has just done what was due, and more is due at the same instant.
    pub(crate) fn restless(&mut self, writer: &Writer) {
        let seen = format!("{writer:?} has done what was due, and is to do it again at once");
        self.note(Some(Violation::new(Invariant::NothingDue, seen)));
    }

    /// The lease of `writer`, who goes by `record`, now ends at this true time.
    pub(crate) fn lease_grew(&mut self, writer: &Writer, record: &Record, end: Duration) {
        self.leases.grew(writer, end);
        let violation = votes_and_grants::lease_grew(&self.grants, writer, record, end);
        self.note(violation);
    }

    /// A member goes by this record.
    pub(crate) fn installed(&mut self, writer: &Writer, record: &Record) {
        self.releases.installed(writer, record);
        let violation = one_record::goes_by(&self.chosen, record);
        self.note(violation);
    }

    /// Every write of a process that was admitted before it was asked to release what it loses in
    /// this record has ended.
    pub(crate) fn quiesced(&mut self, writer: &Writer, record: &Record) {
        let violation = self.releases.said(writer, record);
        self.note(violation);
    }

    /// A writer said that it released what it loses in this record.
    pub(crate) fn released(&mut self, writer: &Writer, record: &Record) {
        let violation = self.releases.said(writer, record);
        self.note(violation);
    }

    /// A guard admitted a write with this tag, under this term.
    pub(crate) fn admitted(
        &mut self,
        now: Duration,
        by: &Admission<'_>,
        resource: &Resource,
        tag: WriteTag,
        term: Epoch,
    ) {
        let Admission { writer, record, number } = *by;
        let violation = one_writer::admitted(&self.chosen, writer, record, resource);
        self.note(violation);
        let violation = self.guard_terms.admitted(resource, term);
        self.note(violation);
        let violation = self.leases.admitted(now, writer, resource);
        self.note(violation);
        let violation = stale_routes::admitted(record, resource, tag);
        self.note(violation);
        let violation = self.releases.admitted(writer, resource, number);
        self.note(violation);
    }

    /// What a writer that goes by `record` owns by it, and later records give to others.
    pub(crate) fn lost<'a>(
        &'a self,
        writer: &'a Writer,
        record: &'a Record,
    ) -> impl Iterator<Item = Resource> + 'a {
        one_writer::lost(&self.chosen, writer, record)
    }

    /// A write arriving at this very instant would be admitted.
    pub(crate) fn would_admit(&mut self, writer: &Writer, record: &Record, resource: &Resource) {
        let violation = one_writer::admitted(&self.chosen, writer, record, resource);
        self.note(violation);
    }

    /// The effect of a write is at the store, or will never be.
    pub(crate) fn ended(&mut self, effect: u64) {
        self.releases.ended(effect);
    }

    /// An effect arrived at the store.
    pub(crate) fn store(&mut self, effect: &Effect) {
        self.ended(effect.number);
        let fenced = self.bug != Some(Bug::StoreUnfenced);
        let violation = store_order::arrived(&mut self.store, &self.chosen, effect, fenced);
        self.note(violation);
    }

    /// Somebody asks this member for a change.
    pub(crate) fn asked(&mut self, writer: &Writer, change: &Change) {
        let latest = self.latest().epoch();
        self.changes.asked(writer, change, latest);
    }

    /// The member says that it is made.
    pub(crate) fn made(&mut self, writer: &Writer, change: &Change, epoch: Epoch) {
        let violation = register::made(&mut self.changes, &self.chosen, writer, change, epoch);
        self.note(violation);
    }

    pub(crate) fn check(&mut self, now: Duration) -> Result<(), Violation> {
        match self.broken.take() {
            Some(violation) => Err(Violation { at: now, ..violation }),
            None => Ok(()),
        }
    }

    /// A number that differs between two observers that know different things.
    pub(crate) fn fingerprint(&self) -> u64 {
        number(self)
    }

    /// Drops what nothing that is still to come can break, so that a search meets fewer states.
    pub(crate) fn forget(&mut self, now: Duration) {
        self.votes.forget(&self.chosen);
        self.grants.forget(now);
        self.leases.forget(now);
        self.releases.forget(&self.chosen);
    }

    fn note(&mut self, violation: Option<Violation>) {
        let counts = |violation: &Violation| violation.invariant.is_visible() || !self.visible_only;
        if self.broken.is_none() {
            self.broken = violation.filter(counts);
        }
    }
}
