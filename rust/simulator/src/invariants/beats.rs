//! Where the record lies in a register: a lease ends, in true time, before anybody may take its
//! holder's last beat for old; and no record takes anything from a writer that may still write and
//! has not stopped for it. On these two rests that there is one writer.
//!
//! The books are kept by what the register committed, and by true time: not by what anybody saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashroute_coordination::{Incarnation, Record, Writer};

use super::releases::Releases;
use super::{Invariant, Violation};

/// What the beats of each process allow.
#[derive(Clone, Default, Hash)]
pub(crate) struct Beats {
    /// Until when it may write because of a beat, once it knows that it was committed.
    writes_until: BTreeMap<Incarnation, Duration>,
    /// Before this nobody may take its last beat for old.
    fresh_until: BTreeMap<Incarnation, Duration>,
    renounced: BTreeSet<Incarnation>,
}

impl Beats {
    /// A beat of the process was committed.
    pub(crate) fn beat(&mut self, writer: &Writer, writes_until: Duration, fresh_until: Duration) {
        for (books, until) in
            [(&mut self.writes_until, writes_until), (&mut self.fresh_until, fresh_until)]
        {
            let known = books.entry(writer.incarnation).or_default();
            *known = until.max(*known);
        }
    }

    pub(crate) fn renounced(&mut self, writer: &Writer) {
        self.renounced.insert(writer.incarnation);
    }

    /// The lease of the process now ends at this true time.
    pub(crate) fn lease_grew(&self, writer: &Writer, end: Duration) -> Option<Violation> {
        let fresh = self.fresh_until.get(&writer.incarnation);
        if fresh.is_some_and(|fresh| end <= *fresh) {
            return None;
        }
        let seen =
            format!("{writer:?} holds a lease to {end:?}, and its beat may be old at {fresh:?}");
        Some(Violation::new(Invariant::LeasesWithinBeats, seen))
    }

    /// The register's record `before` is followed by `record`.
    pub(crate) fn followed(
        &self,
        now: Duration,
        releases: &Releases,
        before: &Record,
        record: &Record,
    ) -> Option<Violation> {
        let may_write = |writer: &Writer| {
            let until = self.writes_until.get(&writer.incarnation);
            !self.renounced.contains(&writer.incarnation) && until.is_some_and(|it| *it > now)
        };
        let mut live = before.losers(record).into_iter().filter(may_write);
        let loser = live.find(|writer| !releases.has_said(writer, record))?;
        let epoch = record.epoch();
        let seen =
            format!("epoch {epoch} takes from {loser:?}, which may write and has not stopped");
        Some(Violation::new(Invariant::TakenFromStopped, seen))
    }
}
