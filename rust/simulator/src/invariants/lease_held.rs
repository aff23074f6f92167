//! Who admits a write holds a lease, in true time: one that has run out, or was given up, admits
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashroute_coordination::{Incarnation, Resource, Writer};

use super::{Invariant, Violation};

/// Until when each process may write.
#[derive(Clone, Default, Hash)]
pub(crate) struct Leases {
    ends: BTreeMap<Incarnation, Duration>,
    renounced: BTreeSet<Incarnation>,
}

impl Leases {
    /// Who has no lease is the same as who never had one.
    pub(super) fn forget(&mut self, now: Duration) {
        self.ends.retain(|_, end| *end > now);
    }

    /// The lease of the process now ends at this true time.
    pub(crate) fn grew(&mut self, writer: &Writer, end: Duration) {
        self.ends.insert(writer.incarnation, end);
    }

    pub(crate) fn renounced(&mut self, writer: &Writer) {
        self.renounced.insert(writer.incarnation);
    }

    /// The process admitted a write.
    pub(crate) fn admitted(
        &self,
        now: Duration,
        writer: &Writer,
        resource: &Resource,
    ) -> Option<Violation> {
        let end = self.ends.get(&writer.incarnation);
        let renounced = self.renounced.contains(&writer.incarnation);
        if !renounced && end.is_some_and(|end| now < *end) {
            return None;
        }
        let seen = format!(
            "{writer:?} admits a write of {resource:?}, and its lease ended at {end:?}{}",
            if renounced { "; it had renounced" } else { "" }
        );
        Some(Violation::new(Invariant::LeaseHeld, seen))
    }
}
