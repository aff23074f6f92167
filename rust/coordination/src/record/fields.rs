//! A record as it travels and lies on disks.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashroute_core::{PodId, View};

use super::{
    ClusterId, Group, Incarnation, Parts, Record, Since, VoterEntry, check_voters, ring_near,
    writers_by_pod,
};
use crate::error::ChangeError;
use crate::lease::LeaseParameters;

/// All that a record says, as it travels and lies on disks: the rest follows from it.
#[derive(Clone, Debug)]
pub struct RecordFields {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The numbers of the cluster's leases.
    pub parameters: LeaseParameters,
    /// Who votes on the next record.
    pub voters: Vec<VoterEntry>,
    /// The pods and their shares; its epoch is the record's.
    pub view: View,
    /// The process of each pod that may write.
    pub writers: BTreeMap<PodId, Incarnation>,
    /// The groups, sorted by name.
    pub groups: Vec<Group>,
    /// The term of each slot.
    pub terms: Vec<u64>,
}

impl RecordFields {
    fn check(&self) -> Result<(), ChangeError> {
        let Self { view, writers, groups, terms, .. } = self;
        check_voters(&self.voters)?;
        let malformed = |what| Err(ChangeError::Malformed { what });
        if terms.len() != view.parameters().slots() as usize {
            return malformed("the terms are not one for each slot");
        }
        let epoch = view.epoch().get();
        let is_late = |term: u64| term > epoch;
        if terms.iter().any(|term| is_late(*term)) || groups.iter().any(|it| is_late(it.term.get()))
        {
            return malformed("a term is later than the epoch");
        }
        if !writers.keys().all(|pod| view.index_of(pod.as_str()).is_some()) {
            return malformed("a writer is not in the view");
        }
        if groups.windows(2).any(|pair| pair[0].name >= pair[1].name) {
            return malformed("the groups are not sorted by name, or two have the same");
        }
        let leads = |group: &Group, leader: &PodId| {
            group.candidates.contains(leader) && writers.contains_key(leader)
        };
        if groups.iter().any(|group| group.leader.as_ref().is_some_and(|it| !leads(group, it))) {
            return malformed("a leader is no candidate of its group, or has no writer");
        }
        Ok(())
    }
}

impl Record {
    /// A record as it was read from a disk or a message. `near` is one of about the same view, if
    /// there is one: the ring is made from its ring, in a part of the time.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Voters`], or [`ChangeError::Malformed`], saying which rule is broken: the
    /// terms are one for each slot of this view, and none is later than its epoch; a writer is a
    /// pod of the view; groups are sorted by name, and who leads one is a candidate with a writer.
    pub fn restore(fields: RecordFields, near: Option<&Self>) -> Result<Self, ChangeError> {
        fields.check()?;
        let RecordFields { cluster, parameters, voters, view, writers, groups, terms } = fields;
        let ring = ring_near(&view, near);
        let by_pod = writers_by_pod(&view, &writers);
        let since = Since::default();
        let parts = Parts {
            cluster,
            parameters,
            voters,
            view,
            ring,
            writers,
            groups,
            terms,
            by_pod,
            since,
        };
        Ok(Self(Arc::new(parts)))
    }

    /// What [`Record::restore`] makes this record of.
    #[must_use]
    pub fn fields(&self) -> RecordFields {
        let Parts { cluster, parameters, voters, view, writers, groups, terms, .. } = &*self.0;
        RecordFields {
            cluster: *cluster,
            parameters: *parameters,
            voters: voters.clone(),
            view: view.clone(),
            writers: writers.clone(),
            groups: groups.clone(),
            terms: terms.clone(),
        }
    }
}
