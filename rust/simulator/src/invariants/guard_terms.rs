//! The terms under which guards admit writes of a resource never fall, over all pods: else a
//! service that numbers its writes by term could see an old writer after a new one.

use std::collections::BTreeMap;

use hashroute_coordination::Resource;
use hashroute_core::Epoch;

use super::{Invariant, Violation};

/// The highest term under which a write of each resource was admitted anywhere.
#[derive(Clone, Default, Hash)]
pub(crate) struct Terms(BTreeMap<Resource, Epoch>);

impl Terms {
    /// A guard admitted a write under this term.
    pub(crate) fn admitted(&mut self, resource: &Resource, term: Epoch) -> Option<Violation> {
        let highest = self.0.entry(resource.clone()).or_insert(term);
        if term >= *highest {
            *highest = term;
            return None;
        }
        let seen = format!("{resource:?}: a write was admitted under term {term} after {highest}");
        Some(Violation::new(Invariant::GuardTerms, seen))
    }
}
