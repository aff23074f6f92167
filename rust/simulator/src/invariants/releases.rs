//! Who said that it released a resource admits no write of it until the next record counts, and
//! has none under way: so a planned move leaves no write behind that the store would have to
//! refuse.

use std::collections::BTreeMap;

use hashroute_coordination::{Record, Resource, Writer};

use super::{Invariant, Violation};

/// What was released, and what is under way.
#[derive(Default)]
pub(crate) struct Releases {
    /// What each process released, and has not seen decided.
    said: BTreeMap<Writer, Vec<Record>>,
    /// The writes that were admitted and have not ended.
    under_way: BTreeMap<u64, (Writer, Resource)>,
}

impl Releases {
    pub(crate) fn said(&mut self, writer: &Writer, record: &Record) -> Option<Violation> {
        let lost = |resource: &Resource| record.owner(resource).as_ref() != Some(writer);
        let left = self.under_way.values().find(|(by, resource)| by == writer && lost(resource));
        let violation = left.map(|(_, resource)| {
            broken(format!("{writer:?} released {resource:?} with a write of it under way"))
        });
        self.said.entry(writer.clone()).or_default().push(record.clone());
        violation
    }

    pub(crate) fn installed(&mut self, writer: &Writer, record: &Record) {
        if let Some(said) = self.said.get_mut(writer) {
            said.retain(|released| released.epoch() > record.epoch());
        }
    }

    pub(crate) fn admitted(
        &mut self,
        writer: &Writer,
        resource: &Resource,
        effect: u64,
    ) -> Option<Violation> {
        self.under_way.insert(effect, (writer.clone(), resource.clone()));
        let mut said = self.said.get(writer)?.iter();
        said.any(|record| record.owner(resource).as_ref() != Some(writer))
            .then(|| broken(format!("{writer:?} released {resource:?} and admits a write of it")))
    }

    pub(crate) fn ended(&mut self, effect: u64) {
        self.under_way.remove(&effect);
    }
}

fn broken(seen: String) -> Violation {
    Violation::new(Invariant::Releases, seen)
}
