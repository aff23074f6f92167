//! The record: what the voters agree on for one epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};

use hashroute_core::{Epoch, Pod, PodId, PodState, Ring, Slot, View};

use crate::change::Change;
use crate::error::ChangeError;
use crate::lease::LeaseParameters;
use crate::planted::{Bug, Planted};

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
        check_voters(&voters)?;
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
        let (ring, writers) = (None, BTreeMap::new());
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

    /// The writers that own something here and do not own all of it in `next`, in order.
    ///
    /// Cost: one look at every slot; after the first time a copy, if it is the same two records.
    #[must_use]
    pub fn losers(&self, next: &Self) -> Vec<Writer> {
        self.shared_losers(next).to_vec()
    }

    /// The same without a copy.
    pub(crate) fn shared_losers(&self, next: &Self) -> Arc<[Writer]> {
        let found = next.0.since.losers.get_or_init(|| self.with_losers(next));
        if std::ptr::eq(found.0.as_ptr(), Arc::as_ptr(&self.0)) {
            return Arc::clone(&found.1);
        }
        self.with_losers(next).1
    }

    fn with_losers(&self, next: &Self) -> (Weak<Parts>, Arc<[Writer]>) {
        let writers = &self.0.by_pod;
        let (was_by_pod, is_by_pod) = numbered(writers, &next.0.by_pod);
        let mut loses = vec![false; writers.len()];
        for (was, is) in self.table().iter().zip(next.table()) {
            let (pod, is) = (usize::from(*was), is_by_pod[usize::from(*is)]);
            loses[pod] |= was_by_pod[pod].is_some() && was_by_pod[pod] != is;
        }
        if next.table().is_empty() {
            self.table().iter().for_each(|was| loses[usize::from(*was)] = true);
        }
        for group in &self.0.groups {
            let resource = Resource::Group(Arc::clone(&group.name));
            let Some(leader) = &group.leader else { continue };
            if let Some(index) = self.0.view.index_of(leader.as_str())
                && self.writer_of(&resource) != next.writer_of(&resource)
            {
                loses[index.as_usize()] = true;
            }
        }
        let writers = writers.iter().zip(loses);
        let losers = writers.filter_map(|(writer, lost)| writer.clone().filter(|_| lost));
        (Arc::downgrade(&self.0), losers.collect())
    }

    /// The record that follows this one when `change` is made.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] if the change names what is not there, or leads to no valid view.
    pub fn next(&self, change: &Change) -> Result<Self, ChangeError> {
        self.next_planted(change, Planted::default())
    }

    /// Checks that this record may follow `before`: the next epoch of the same cluster, at most one
    /// voter replaced, and the terms of exactly those resources new that have another writer.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Malformed`], saying which of these does not hold.
    pub fn check_follows(&self, before: &Self) -> Result<(), ChangeError> {
        self.check_follows_planted(before, Planted::default())
    }

    pub(crate) fn check_follows_planted(
        &self,
        before: &Self,
        planted: Planted,
    ) -> Result<(), ChangeError> {
        let found = self.0.since.follows.get_or_init(|| {
            (Arc::downgrade(&before.0), self.compare_with_planted(before, planted))
        });
        if std::ptr::eq(found.0.as_ptr(), Arc::as_ptr(&before.0)) {
            return found.1.clone();
        }
        self.compare_with_planted(before, planted)
    }

    fn compare_with_planted(&self, before: &Self, planted: Planted) -> Result<(), ChangeError> {
        let malformed = |what| Err(ChangeError::Malformed { what });
        if self.cluster() != before.cluster() || self.parameters() != before.parameters() {
            return malformed("the record is of another cluster");
        }
        if before.epoch().next().ok() != Some(self.epoch()) {
            return malformed("the epoch is not the next one");
        }
        if self.table().len() != before.table().len()
            && !self.table().is_empty()
            && !before.table().is_empty()
        {
            return malformed("the number of slots is another");
        }
        let new_voters = self.voters().iter().filter(|entry| !before.has_voter(entry.id)).count();
        let most = if planted.has(Bug::TwoVotersAtOnce) { 2 } else { 1 };
        if new_voters > most || self.voters().len() != before.voters().len() {
            return malformed("more than one voter is replaced");
        }
        if self.terms_after(before, planted) != self.0.terms
            || self.groups_after(before) != self.0.groups
        {
            return malformed("a term is not the one that the owners' history gives");
        }
        Ok(())
    }

    /// The writers, by the ids of their pods.
    pub(crate) fn writers_in_order(&self) -> impl Iterator<Item = &Writer> {
        self.0.by_pod.iter().flatten()
    }

    fn table(&self) -> &[u16] {
        self.0.ring.as_ref().map_or(&[], Ring::owners)
    }

    /// A slot keeps its term while its writer stays; every other one begins its term here.
    pub(crate) fn terms_after(&self, before: &Self, planted: Planted) -> Vec<u64> {
        let mut terms = vec![self.epoch().get(); self.0.view.parameters().slots() as usize];
        let (old, new) = (&before.0.by_pod, &self.0.by_pod);
        let (was_by_pod, is_by_pod) = if planted.has(Bug::TermReused) {
            let pods = |writers: &[Option<Writer>]| -> Vec<_> {
                writers.iter().map(|writer| writer.as_ref().map(|it| it.pod.clone())).collect()
            };
            numbered(&pods(old), &pods(new))
        } else {
            numbered(old, new)
        };
        let tables = before.table().iter().zip(self.table());
        for ((term, kept), (was, is)) in terms.iter_mut().zip(&before.0.terms).zip(tables) {
            let (was, is) = (was_by_pod[usize::from(*was)], is_by_pod[usize::from(*is)]);
            if is.is_some() && was == is {
                *term = *kept;
            }
        }
        terms
    }

    /// The same for groups.
    pub(crate) fn groups_after(&self, before: &Self) -> Vec<Group> {
        let mut groups = self.0.groups.clone();
        for group in &mut groups {
            let resource = Resource::Group(Arc::clone(&group.name));
            let owner = self.writer_of(&resource);
            let kept = before.group(&group.name).filter(|_| owner.is_some());
            group.term = match kept {
                Some(old) if before.writer_of(&resource) == owner => old.term,
                Some(_) | None => self.epoch(),
            };
        }
        groups
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

/// Equal ones get equal numbers, in both lists: to compare who has a slot before and after, slot by
/// slot, without a look at any name.
fn numbered<T: Ord>(one: &[Option<T>], other: &[Option<T>]) -> (Numbers, Numbers) {
    let different: BTreeSet<&T> = one.iter().chain(other).flatten().collect();
    let number_of: BTreeMap<&T, u32> = different.into_iter().zip(0..).collect();
    let numbers = |list: &[Option<T>]| -> Numbers {
        list.iter().map(|it| it.as_ref().and_then(|it| number_of.get(it).copied())).collect()
    };
    (numbers(one), numbers(other))
}

/// By pod; none where there is no writer.
type Numbers = Vec<Option<u32>>;

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
