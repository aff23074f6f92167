//! What operators ask for, in and out of messages.
use std::sync::Arc;

use hashroute_coordination::{Change, ChangeError, Group, Record};
use hashroute_core::{PodId, Weight};

use super::error::WireError;
use super::limits::{CANDIDATES_MAX, GROUPS_MAX};
use super::record::{
    at_most, missing, name, pods_in, voter_id_in, voter_id_out, voter_in, voter_out,
};
use crate::proto;
use crate::proto::record_change::Change as Asked;

/// Writes a change; none for what operators cannot ask for.
pub(crate) fn change_out(change: &Change) -> Option<proto::RecordChange> {
    let change = match change {
        Change::Drain(pod) => Asked::Drain(proto::DrainMember { pod: pod.to_string() }),
        Change::Activate(pod) => Asked::Activate(proto::ActivateMember { pod: pod.to_string() }),
        Change::Remove(pod) => Asked::Remove(proto::RemoveMember { pod: pod.to_string() }),
        Change::Reweight(pod, weight) => {
            Asked::Reweight(proto::ReweightMember { pod: pod.to_string(), weight: weight.as_f64() })
        }
        Change::Lead { group, leader } => {
            Asked::Lead(proto::LeadGroup { group: group.to_string(), leader: leader.to_string() })
        }
        Change::StepDown { group, .. } => {
            Asked::Lead(proto::LeadGroup { group: group.to_string(), leader: String::new() })
        }
        Change::AddGroup { name, candidates } => Asked::AddGroup(proto::AddGroup {
            name: name.to_string(),
            candidates: candidates.iter().map(PodId::to_string).collect(),
        }),
        Change::ReplaceVoter { old, new } => Asked::ReplaceVoter(proto::ReplaceVoter {
            old_id: voter_id_out(*old),
            new: Some(voter_out(new)),
        }),
        Change::Nothing | Change::Fail(_) | Change::Join { .. } => return None,
    };
    Some(proto::RecordChange { change: Some(change) })
}

/// Reads a change that is to be made to `record`: a step-down, which names no leader, gets the
/// candidate after the present one.
pub(crate) fn change_in(
    message: &proto::RecordChange,
    record: &Record,
) -> Result<Change, WireError> {
    Ok(match message.change.as_ref().ok_or(missing("change"))? {
        Asked::Drain(it) => Change::Drain(PodId::new(&it.pod)?),
        Asked::Activate(it) => Change::Activate(PodId::new(&it.pod)?),
        Asked::Remove(it) => Change::Remove(PodId::new(&it.pod)?),
        Asked::Reweight(it) => Change::Reweight(PodId::new(&it.pod)?, Weight::new(it.weight)?),
        Asked::Lead(it) => lead(it, record)?,
        Asked::AddGroup(it) => add_group(it, record)?,
        Asked::ReplaceVoter(it) => Change::ReplaceVoter {
            old: voter_id_in(&it.old_id)?,
            new: voter_in(it.new.as_ref().ok_or(missing("replace_voter.new"))?)?,
        },
    })
}

fn lead(message: &proto::LeadGroup, record: &Record) -> Result<Change, WireError> {
    let unknown = || ChangeError::UnknownGroup { group: message.group.clone() };
    let group = record.group(name("lead.group", &message.group)?).ok_or_else(unknown)?;
    let leader = if message.leader.is_empty() {
        let none = || WireError::NoOtherCandidate { group: message.group.clone() };
        next_candidate(group, record).ok_or_else(none)?
    } else {
        PodId::new(&message.leader)?
    };
    Ok(Change::Lead { group: Arc::clone(&group.name), leader })
}

/// The first after the leader, and round to those before it, that has a writer and stays.
fn next_candidate(group: &Group, record: &Record) -> Option<PodId> {
    let leader = group.leader.as_ref();
    let place = group.candidates.iter().position(|pod| Some(pod) == leader);
    let (before, after) = group.candidates.split_at(place.map_or(0, |place| place + 1));
    let stays = |pod: &&PodId| {
        let index = record.view().index_of(pod.as_str());
        let pod = index.and_then(|index| record.view().pod(index));
        pod.is_some_and(|it| it.state.owns_slots() && record.writers().contains_key(&it.id))
    };
    after.iter().chain(before).filter(|pod| Some(*pod) != leader).find(stays).cloned()
}

fn add_group(message: &proto::AddGroup, record: &Record) -> Result<Change, WireError> {
    at_most("groups", record.groups(), GROUPS_MAX - 1)?;
    let candidates = pods_in("add_group.candidates", &message.candidates)?;
    let others: usize = record.groups().iter().map(|group| group.candidates.len()).sum();
    if others + candidates.len() > CANDIDATES_MAX {
        let (field, count_max) = ("groups.candidates", CANDIDATES_MAX);
        return Err(WireError::TooMany { field, count: others + candidates.len(), count_max });
    }
    Ok(Change::AddGroup { name: Arc::from(name("add_group.name", &message.name)?), candidates })
}
