//! The record: what the voters agree on for one epoch.

mod fields;
mod succession;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};

use hashroute_core::{Epoch, Pod, PodId, PodState, Ring, Slot, View};

use crate::change::Change;
use crate::error::ChangeError;
use crate::lease::LeaseParameters;
use crate::planted::Planted;

pub use fields::RecordFields;

/// Tells clusters apart, so that a message or a disk of another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

/// The name of one voter and its disk. A voter whose disk is lost comes back under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId(pub u128);

/// Tells the processes of one pod apart: drawn at random when a process starts, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// One process that may hold a lease.
#[derive(Clone, Debug, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// The pod.
    pub pod: PodId,
    /// Its process.
    pub incarnation: Incarnation,
}

impl PartialEq for Writer {
    /// The numbers first: they differ between any two processes, and are quicker to compare.
    fn eq(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation && self.pod == other.pod
    }
}

impl Hash for Writer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.pod, self.incarnation).hash(state);
    }
}

/// What has one writer at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A slot of the view: its owner writes.
    Slot(Slot),
    /// A named group of services, such as a FIX gateway pair: its leader writes.
    Group(Arc<str>),
}

/// A named set of pods of which one leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The name, unique in the record.
    pub name: Arc<str>,
    /// Who may lead, best first.
    pub candidates: Vec<PodId>,
    /// Who leads; none if no candidate has a writer.
    pub leader: Option<PodId>,
    /// The epoch at which the leader's present process got the group.
    pub term: Epoch,
}

/// One voter and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoterEntry {
    /// Its name.
    pub id: VoterId,
    /// `host:port` of its voter service.
    pub address: String,
}

/// What the voters agree on for one epoch: immutable, and cheap to clone.
#[derive(Clone)]
pub struct Record(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) cluster: ClusterId,
    pub(crate) parameters: LeaseParameters,
    pub(crate) voters: Vec<VoterEntry>,
    pub(crate) view: View,
    pub(crate) ring: Option<Ring>,
    pub(crate) writers: BTreeMap<PodId, Incarnation>,
    pub(crate) groups: Vec<Group>,
    pub(crate) terms: Vec<u64>,
    /// The writer of each pod of the view, in the view's order.
    pub(crate) by_pod: Vec<Option<Writer>>,
    /// Remembers [`Record::losers`] and [`Record::check_follows`] for one record before this one:
    /// they look at every slot, and are asked for again and again.
    pub(crate) since: Since,
}

/// What was found out about a record, and about it and the one before it.
#[derive(Default)]
pub(crate) struct Since {
    losers: OnceLock<(Weak<Parts>, Arc<[Writer]>)>,
    follows: OnceLock<(Weak<Parts>, Result<(), ChangeError>)>,
    number: OnceLock<u64>,
}

impl Record {
    /// The first record of a cluster, without groups: see [`Record::first_with_groups`].
    ///
    /// # Errors
    ///
    /// [`ChangeError::Voters`] unless 1, 3 or 5 different voters are given.
    pub fn first(
        cluster: ClusterId,
        parameters: LeaseParameters,
        voters: Vec<VoterEntry>,
        view: &View,
    ) -> Result<Self, ChangeError> {
        Self::first_with_groups(cluster, parameters, voters, view, &[])
    }

    /// The first record of a cluster. No process takes part yet, so every pod that would own slots
    /// is down until its first process joins: a pod that owns slots has a writer, always. For the
    /// same reason no group, given as its name and its candidates, best first, has a leader.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Voters`] unless 1, 3 or 5 different voters are given, and
    /// [`ChangeError::DuplicateGroup`].
    pub fn first_with_groups(
        cluster: ClusterId,
        parameters: LeaseParameters,
        voters: Vec<VoterEntry>,
        view: &View,
        groups: &[(Arc<str>, Vec<PodId>)],
    ) -> Result<Self, ChangeError> {
        let mut pods = view.pods().to_vec();
        for pod in pods.iter_mut().filter(|pod| pod.state.owns_slots()) {
            pod.state = PodState::Down;
        }
        let view = View::new(view.epoch(), view.parameters(), pods)?;
        let term = view.epoch();
        let terms = vec![term.get(); view.parameters().slots() as usize];
        let group = |(name, candidates): &(Arc<str>, Vec<PodId>)| Group {
            name: Arc::clone(name),
            candidates: candidates.clone(),
            leader: None,
            term,
        };
        let mut groups: Vec<Group> = groups.iter().map(group).collect();
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(twins) = groups.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(ChangeError::DuplicateGroup { group: twins[0].name.to_string() });
        }
        let writers = BTreeMap::new();
        let fields = RecordFields { cluster, parameters, voters, view, writers, groups, terms };
        Self::restore(fields, None)
    }

    /// The cluster that the record belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }

    /// The epoch that the record was agreed for.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.view.epoch()
    }

    /// The numbers of the cluster's leases.
    #[must_use]
    pub fn parameters(&self) -> LeaseParameters {
        self.0.parameters
    }

    /// Who votes on the next record, and counts for leases of this one.
    #[must_use]
    pub fn voters(&self) -> &[VoterEntry] {
        &self.0.voters
    }

    /// Whether `voter` votes on the next record.
    #[must_use]
    pub fn has_voter(&self, voter: VoterId) -> bool {
        self.0.voters.iter().any(|entry| entry.id == voter)
    }

    /// How many voters are more than half of them.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.0.voters.len() / 2 + 1
    }

    /// The pods and their shares.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// The ring of the view; none if no pod may own slots.
    #[must_use]
    pub fn ring(&self) -> Option<&Ring> {
        self.0.ring.as_ref()
    }

    /// The process of each pod that may write.
    #[must_use]
    pub fn writers(&self) -> &BTreeMap<PodId, Incarnation> {
        &self.0.writers
    }

    /// The groups, sorted by name.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.0.groups
    }

    /// The term of each slot.
    #[must_use]
    pub fn slot_terms(&self) -> &[u64] {
        &self.0.terms
    }

    /// Whether this very process is the writer of its pod.
    #[must_use]
    pub fn names(&self, writer: &Writer) -> bool {
        self.writers_in_order().any(|named| named == writer)
    }

    /// The group of this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        let place = self.0.groups.binary_search_by(|group| (*group.name).cmp(name)).ok()?;
        self.0.groups.get(place)
    }

    /// Who may write the resource under this record, if anybody may.
    #[must_use]
    pub fn owner(&self, resource: &Resource) -> Option<Writer> {
        self.writer_of(resource).cloned()
    }

    /// The same without a copy, for whoever asks at every write.
    #[must_use]
    pub fn writer_of(&self, resource: &Resource) -> Option<&Writer> {
        let index = match resource {
            Resource::Slot(slot) => self.0.ring.as_ref()?.owner(*slot),
            Resource::Group(name) => {
                self.0.view.index_of(self.group(name)?.leader.as_ref()?.as_str())?
            }
        };
        self.0.by_pod.get(index.as_usize())?.as_ref()
    }

    /// The epoch at which the present owner of the resource got it: the fencing token.
    #[must_use]
    pub fn term(&self, resource: &Resource) -> Option<Epoch> {
        match resource {
            Resource::Slot(slot) => self.0.terms.get(slot.get() as usize).copied().map(Epoch::new),
            Resource::Group(name) => self.group(name).map(|group| group.term),
        }
    }

    /// The record that follows this one when `change` is made.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if the change names what is not there, or leads to no valid view.
    pub fn next(&self, change: &Change) -> Result<Self, ChangeError> {
        self.next_planted(change, Planted::default())
    }

    /// The writers, by the ids of their pods.
    pub(crate) fn writers_in_order(&self) -> impl Iterator<Item = &Writer> {
        self.0.by_pod.iter().flatten()
    }

    fn table(&self) -> &[u16] {
        self.0.ring.as_ref().map_or(&[], Ring::owners)
    }
}

impl PartialEq for Record {
    /// Two records are equal if they are one value, whoever made them.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.cluster == other.0.cluster
                && self.0.parameters == other.0.parameters
                && self.0.voters == other.0.voters
                && self.0.view == other.0.view
                && self.0.writers == other.0.writers
                && self.0.groups == other.0.groups
                && self.0.terms == other.0.terms)
    }
}

impl Eq for Record {}

impl Hash for Record {
    /// Of what differs between the records of one cluster; worked out once.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let number = self.0.since.number.get_or_init(|| {
            let mut state = DefaultHasher::new();
            self.epoch().hash(&mut state);
            self.0.voters.hash(&mut state);
            for pod in self.0.view.pods() {
                (&pod.id, pod.weight, pod.state).hash(&mut state);
            }
            (&self.0.writers, &self.0.groups, &self.0.terms).hash(&mut state);
            state.finish()
        });
        number.hash(state);
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Record")
            .field("epoch", &self.epoch().get())
            .field("voters", &self.0.voters.iter().map(|entry| entry.id.0).collect::<Vec<_>>())
            .field("writers", &self.0.writers)
            .field("groups", &self.0.groups)
            .finish_non_exhaustive()
    }
}

/// The writer of each pod of the view, in the view's order.
pub(crate) fn writers_by_pod(
    view: &View,
    writers: &BTreeMap<PodId, Incarnation>,
) -> Vec<Option<Writer>> {
    let writer = |pod: &Pod| {
        let incarnation = *writers.get(&pod.id)?;
        Some(Writer { pod: pod.id.clone(), incarnation })
    };
    view.pods().iter().map(writer).collect()
}

/// The ring of the view; none if no pod may own slots. A table that is as before is shared, with the
/// view that it was made of.
pub(crate) fn ring_near(view: &View, near: Option<&Record>) -> Option<Ring> {
    let Some(ring) = near.and_then(Record::ring) else { return Ring::build(view.clone()).ok() };
    if same_table(ring.view(), view) {
        return Some(ring.clone());
    }
    ring.follow(view.clone()).ok()
}

/// Whether both views give every slot to the same pod: what the table depends on is the same.
fn same_table(one: &View, other: &View) -> bool {
    let enters = |view: &View| -> Vec<_> {
        let pods = view.pods().iter();
        pods.map(|pod| (pod.id.clone(), pod.weight, pod.state.owns_slots())).collect()
    };
    one.parameters() == other.parameters() && enters(one) == enters(other)
}

pub(crate) fn check_voters(voters: &[VoterEntry]) -> Result<(), ChangeError> {
    let mut ids: Vec<VoterId> = voters.iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != voters.len() || !matches!(ids.len(), 1 | 3 | 5) {
        return Err(ChangeError::Voters { voters: voters.len(), different: ids.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
