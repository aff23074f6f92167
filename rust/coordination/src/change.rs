//! What can be wished for the next record, and how it is made from the one before.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashroute_core::{Pod, PodId, PodState, View, Weight};

use crate::error::ChangeError;
use crate::planted::{Bug, Planted};
use crate::record::{
    Group, Incarnation, Parts, Record, Since, VoterEntry, VoterId, Writer, check_voters, ring_near,
    writers_by_pod,
};

/// A wish for the next record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing changes but the epoch. Decides what a proposer began and cannot finish, so that
    /// whoever released something for it may write again.
    Nothing,
    /// The process is dead or out of reach: its pod is down and has no writer.
    Fail(Writer),
    /// The pod's new process takes part; an unknown pod is added, a known one is active again, with
    /// the weight that the record has.
    Join {
        /// The pod as it describes itself.
        pod: Pod,
        /// Its process.
        incarnation: Incarnation,
    },
    /// The pod gives up everything it owns, and stays a member. Its next process joins as active.
    Drain(PodId),
    /// A pod that was drained owns its share again.
    Activate(PodId),
    /// The pod leaves the view. Its process takes part no more; another one joins.
    Remove(PodId),
    /// The pod gets another weight.
    Reweight(PodId, Weight),
    /// A group gets another leader.
    Lead {
        /// The group.
        group: Arc<str>,
        /// One of its candidates, with a writer.
        leader: PodId,
    },
    /// The leader of a group gives it up to the best of the other candidates that have a writer.
    StepDown {
        /// The group.
        group: Arc<str>,
        /// Who leads it. If it is another by then nothing is to be done.
        leader: PodId,
    },
    /// A group is added, led by its first candidate that has a writer.
    AddGroup {
        /// The name.
        name: Arc<str>,
        /// Who may lead, best first.
        candidates: Vec<PodId>,
    },
    /// One voter takes the place of another.
    ReplaceVoter {
        /// The one that leaves.
        old: VoterId,
        /// The one that comes.
        new: VoterEntry,
    },
}

impl Hash for Change {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not every part has a hash of its own, and nothing hashes many of them.
        format!("{self:?}").hash(state);
    }
}

impl Record {
    /// As [`Record::next`], with a wrong rule for the simulator.
    pub(crate) fn next_planted(
        &self,
        change: &Change,
        planted: Planted,
    ) -> Result<Self, ChangeError> {
        let mut draft = Draft::of(self);
        draft.make(change)?;
        if let Change::ReplaceVoter { new, .. } = change
            && planted.has(Bug::TwoVotersAtOnce)
        {
            draft.replace_another(new);
        }
        draft.finish(self, planted)
    }
}

/// The next record while it is being made.
struct Draft {
    view: View,
    voters: Vec<VoterEntry>,
    writers: BTreeMap<PodId, Incarnation>,
    groups: Vec<Group>,
}

impl Draft {
    fn of(record: &Record) -> Self {
        Self {
            view: record.0.view.clone(),
            voters: record.0.voters.clone(),
            writers: record.0.writers.clone(),
            groups: record.0.groups.clone(),
        }
    }

    fn make(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::Nothing => Ok(()),
            Change::Fail(writer) => self.fail(writer),
            Change::Join { pod, incarnation } => self.join(pod, *incarnation),
            Change::Drain(pod) => {
                self.leave_groups(pod);
                self.set_view(|view| view.with_state(pod.as_str(), PodState::Draining))
            }
            Change::Activate(pod) => self.activate(pod),
            Change::Remove(pod) => {
                self.writers.remove(pod);
                self.leave_groups(pod);
                self.set_view(|view| view.without_pod(pod.as_str()))
            }
            Change::Reweight(pod, weight) => {
                self.set_view(|view| view.with_weight(pod.as_str(), *weight))
            }
            Change::Lead { group, leader } => self.lead(group, leader),
            Change::StepDown { group, leader } => self.step_down(group, leader),
            Change::AddGroup { name, candidates } => self.add_group(name, candidates),
            Change::ReplaceVoter { old, new } => self.replace_voter(*old, new),
        }
    }

    fn finish(self, before: &Record, planted: Planted) -> Result<Record, ChangeError> {
        let pods = self.view.pods().to_vec();
        let view = View::new(before.epoch().next()?, self.view.parameters(), pods)?;
        let ring = ring_near(&view, Some(before));
        let draft = Record(Arc::new(Parts {
            cluster: before.0.cluster,
            parameters: before.0.parameters,
            voters: self.voters,
            by_pod: writers_by_pod(&view, &self.writers),
            view,
            ring,
            writers: self.writers,
            groups: self.groups,
            terms: Vec::new(),
            since: Since::default(),
        }));
        let (terms, groups) =
            (draft.terms_after(before, planted).collect(), draft.groups_after(before));
        let parts = Arc::try_unwrap(draft.0)
            .map_err(|_| ChangeError::Malformed { what: "the draft is shared" })?;
        Ok(Record(Arc::new(Parts { terms, groups, ..parts })))
    }

    fn fail(&mut self, writer: &Writer) -> Result<(), ChangeError> {
        if self.writers.get(&writer.pod) != Some(&writer.incarnation) {
            return Err(ChangeError::NoWriter { pod: writer.pod.to_string() });
        }
        self.writers.remove(&writer.pod);
        self.leave_groups(&writer.pod);
        self.set_view(|view| view.with_state(writer.pod.as_str(), PodState::Down))
    }

    fn join(&mut self, pod: &Pod, incarnation: Incarnation) -> Result<(), ChangeError> {
        let known = self.view.pods().iter().find(|other| other.id == pod.id);
        // What was agreed on its weight outlives the process: only a change of it changes it.
        let weight = known.map_or(pod.weight, |known| known.weight);
        let joined = Pod { state: PodState::Active, weight, ..pod.clone() };
        let pods = self.view.pods().iter().filter(|other| other.id != pod.id).cloned();
        let pods = pods.chain([joined]).collect();
        if self.writers.get(&pod.id) == Some(&incarnation) {
            return Err(ChangeError::AlreadyWriter { pod: pod.id.to_string() });
        }
        self.view = View::new(self.view.epoch(), self.view.parameters(), pods)?;
        self.writers.insert(pod.id.clone(), incarnation);
        self.fill_groups();
        Ok(())
    }

    fn activate(&mut self, pod: &PodId) -> Result<(), ChangeError> {
        let is_known = self.view.index_of(pod.as_str()).is_some();
        if is_known && !self.writers.contains_key(pod) {
            // Its next process joins as active.
            return Err(ChangeError::NoWriter { pod: pod.to_string() });
        }
        self.set_view(|view| view.with_state(pod.as_str(), PodState::Active))?;
        self.fill_groups();
        Ok(())
    }

    fn lead(&mut self, name: &str, leader: &PodId) -> Result<(), ChangeError> {
        if !self.writers.contains_key(leader) {
            return Err(ChangeError::NoWriter { pod: leader.to_string() });
        }
        let group = self.group_mut(name)?;
        if !group.candidates.contains(leader) {
            return Err(ChangeError::NotACandidate {
                pod: leader.to_string(),
                group: name.to_owned(),
            });
        }
        group.leader = Some(leader.clone());
        Ok(())
    }

    fn step_down(&mut self, name: &str, leader: &PodId) -> Result<(), ChangeError> {
        let (pod, group) = (leader.to_string(), name.to_owned());
        let found = self.group_mut(name)?;
        if found.leader.as_ref() != Some(leader) {
            return Err(ChangeError::NotTheLeader { pod, group });
        }
        let candidates = found.candidates.clone();
        let others = candidates.iter().filter(|other| *other != leader);
        let heir = best(others, &self.writers, &self.view);
        let heir = heir.ok_or(ChangeError::NoOtherCandidate { pod, group })?;
        self.group_mut(name)?.leader = Some(heir);
        Ok(())
    }

    fn group_mut(&mut self, name: &str) -> Result<&mut Group, ChangeError> {
        let found = self.groups.iter_mut().find(|group| &*group.name == name);
        found.ok_or_else(|| ChangeError::UnknownGroup { group: name.to_owned() })
    }

    fn add_group(&mut self, name: &Arc<str>, candidates: &[PodId]) -> Result<(), ChangeError> {
        if self.groups.iter().any(|group| group.name == *name) {
            return Err(ChangeError::DuplicateGroup { group: name.to_string() });
        }
        let (name, candidates) = (Arc::clone(name), candidates.to_vec());
        self.groups.push(Group { name, candidates, leader: None, term: self.view.epoch() });
        self.groups.sort_by(|one, other| one.name.cmp(&other.name));
        self.fill_groups();
        Ok(())
    }

    fn replace_voter(&mut self, old: VoterId, new: &VoterEntry) -> Result<(), ChangeError> {
        let place = self
            .voters
            .iter()
            .position(|entry| entry.id == old)
            .ok_or(ChangeError::UnknownVoter { voter: old })?;
        self.voters[place] = new.clone();
        check_voters(&self.voters)
    }

    /// For the wrong protocol that replaces two at once.
    fn replace_another(&mut self, new: &VoterEntry) {
        let other = self.voters.iter_mut().find(|entry| entry.id != new.id);
        if let Some(other) = other {
            *other = VoterEntry { id: VoterId(!new.id.0), address: String::new() };
        }
    }

    fn leave_groups(&mut self, pod: &PodId) {
        for group in &mut self.groups {
            if group.leader.as_ref() == Some(pod) {
                let others = group.candidates.iter().filter(|other| *other != pod);
                group.leader = best(others, &self.writers, &self.view);
            }
        }
    }

    fn fill_groups(&mut self) {
        for group in self.groups.iter_mut().filter(|group| group.leader.is_none()) {
            group.leader = best(group.candidates.iter(), &self.writers, &self.view);
        }
    }

    fn set_view(
        &mut self,
        change: impl FnOnce(&View) -> Result<View, hashroute_core::ViewError>,
    ) -> Result<(), ChangeError> {
        self.view = change(&self.view)?;
        Ok(())
    }
}

/// The first of the candidates that has a writer and is not on its way out.
fn best<'a>(
    mut candidates: impl Iterator<Item = &'a PodId>,
    writers: &BTreeMap<PodId, Incarnation>,
    view: &View,
) -> Option<PodId> {
    let stays = |pod: &PodId| {
        let index = view.index_of(pod.as_str());
        index.and_then(|index| view.pod(index)).is_some_and(|pod| pod.state.owns_slots())
    };
    candidates.find(|pod| writers.contains_key(*pod) && stays(pod)).cloned()
}
