//! A process that knows that its pod was removed, or that another process of its pod has taken its
//! place, takes part no more: no later record names it. Else a removal would be undone by whom it
//! was meant for.

use std::collections::BTreeSet;

use hashroute_coordination::{Incarnation, Record, Writer};

use super::{Invariant, Violation};

/// What each process has gone by.
#[derive(Clone, Default, Hash)]
pub(crate) struct Superseded {
    were_writers: BTreeSet<Incarnation>,
    /// Those that know.
    known: BTreeSet<Incarnation>,
}

impl Superseded {
    /// A process goes by this record.
    pub(crate) fn installed(&mut self, writer: &Writer, record: &Record) {
        if record.names(writer) {
            self.were_writers.insert(writer.incarnation);
            return;
        }
        let is_removed = record.view().index_of(writer.pod.as_str()).is_none();
        let is_replaced = record.writers().contains_key(&writer.pod);
        if self.were_writers.contains(&writer.incarnation) && (is_removed || is_replaced) {
            self.known.insert(writer.incarnation);
        }
    }

    /// The next record is this.
    pub(crate) fn followed(&self, record: &Record) -> Option<Violation> {
        let back =
            record.writers().iter().find(|(_, incarnation)| self.known.contains(incarnation));
        let (pod, _) = back?;
        let seen = format!("epoch {} names a process of {pod} that was superseded", record.epoch());
        Some(Violation::new(Invariant::Superseded, seen))
    }
}
