//! What voters said of leases that have run out, as who hears it keeps it.

use std::time::Duration;

use crate::record::{Record, VoterId, Writer};

/// What each voter last said of leases that have run out.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Reports(Vec<Report>);

/// What a voter said, and when that was heard.
#[derive(Clone, Debug, Hash)]
struct Report {
    by: VoterId,
    at: Duration,
    lapsed: Vec<Writer>,
}

impl Reports {
    /// What a voter says takes the place of what it said before.
    pub(crate) fn told(&mut self, at: Duration, by: VoterId, lapsed: Vec<Writer>) {
        let report = Report { by, at, lapsed };
        match self.0.iter_mut().find(|known| known.by == by) {
            Some(known) => *known = report,
            None => self.0.push(report),
        }
    }

    /// What was said of an earlier record says nothing about the next one.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Writers of the record whose leases have run out at a majority of its voters. What was said
    /// more than a lease ago does not count: it may be so no more.
    pub(crate) fn lapsed<'a>(
        &'a self,
        now: Duration,
        record: &'a Record,
    ) -> impl Iterator<Item = &'a Writer> {
        let (majority, ttl) = (record.majority(), record.parameters().ttl);
        let reports = move || {
            let fresh = self.0.iter().filter(move |report| now < report.at + ttl);
            fresh.filter(|report| record.has_voter(report.by)).map(|report| &report.lapsed)
        };
        // Nearly always nobody is reported.
        let enough = reports().filter(|lapsed| !lapsed.is_empty()).count() >= majority;
        let writers = record.writers_in_order().filter(move |_| enough);
        writers.filter(move |writer| {
            reports().filter(|lapsed| lapsed.contains(writer)).count() >= majority
        })
    }
}
