//! A change of the record: read, said to a process that can make it, and what comes of it.
use hashroute_coordination::{Change as RecordChange, Record, VoterEntry, VoterId};
use hashroute_core::Epoch;
use serde::Deserialize;
use tonic::Code;

use super::call::{CallFailed, Caller};
use super::{Description, told};
use crate::error::{CallError, ChangeFailed};
use crate::proto;
use crate::proto::make_change_response::Result as Made;
use crate::proto::record_change::Change;
use crate::wire::{self, voter_id_out, voter_out};

/// The JSON of a change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Asked {
    Drain { pod: String },
    Activate { pod: String },
    Remove { pod: String },
    Reweight { pod: String, weight: f64 },
    Lead { group: String, leader: Option<String> },
    AddGroup { name: String, candidates: Vec<String> },
    ReplaceVoter { old: String, new: String },
}

pub(super) fn parse(document: &str) -> Result<Asked, ChangeFailed> {
    let malformed = |error: serde_json::Error| {
        told("change_malformed", format!("the change is not what is expected: {error}"))
    };
    serde_json::from_str(document).map_err(malformed)
}

/// The message of a change. That of a voter's replacement has no ids: see [`replace_voter`].
pub(super) fn message(asked: &Asked) -> proto::RecordChange {
    let change = match asked {
        Asked::Drain { pod } => Change::Drain(proto::DrainMember { pod: pod.clone() }),
        Asked::Activate { pod } => Change::Activate(proto::ActivateMember { pod: pod.clone() }),
        Asked::Remove { pod } => Change::Remove(proto::RemoveMember { pod: pod.clone() }),
        Asked::Reweight { pod, weight } => {
            Change::Reweight(proto::ReweightMember { pod: pod.clone(), weight: *weight })
        }
        Asked::Lead { group, leader } => {
            let leader = leader.clone().unwrap_or_default();
            Change::Lead(proto::LeadGroup { group: group.clone(), leader })
        }
        Asked::AddGroup { name, candidates } => {
            let (name, candidates) = (name.clone(), candidates.clone());
            Change::AddGroup(proto::AddGroup { name, candidates })
        }
        Asked::ReplaceVoter { .. } => Change::ReplaceVoter(proto::ReplaceVoter::default()),
    };
    proto::RecordChange { change: Some(change) }
}

/// The change that a document describes, as a process makes it of the record that it goes by.
pub(crate) fn read(document: &str, record: &Record) -> Result<RecordChange, ChangeFailed> {
    let asked = parse(document)?;
    if matches!(asked, Asked::ReplaceVoter { .. }) {
        let message = "a voter is replaced by `hashroute quorum replace-voter`, which asks the new \
                       one who it is";
        return Err(told("change_malformed", message.to_owned()));
    }
    wire::change(&message(&asked), record).map_err(|error| told(error.code(), error.to_string()))
}

/// The voter of this id or address.
pub(super) fn voter(record: &Record, named: &str) -> Result<VoterId, ChangeFailed> {
    let id = u128::from_str_radix(named, 16).ok().filter(|_| named.len() == 32);
    let is_meant = |entry: &&VoterEntry| Some(entry.id.0) == id || entry.address == named;
    let mut meant = record.voters().iter().filter(is_meant);
    let Some(voter) = meant.next() else {
        let voters = record.voters().iter();
        let voters: Vec<String> =
            voters.map(|entry| format!("{:032x} at {}", entry.id.0, entry.address)).collect();
        let message = format!("no voter {named:?} in the record; it has {}", voters.join(", "));
        return Err(told("unknown_voter", message));
    };
    if meant.next().is_some() {
        let message = format!("two voters of the record are at {named}: name the one by its id");
        return Err(told("unknown_voter", message));
    }
    Ok(voter.id)
}

/// The message that puts the process that was described in the place of `old`.
pub(super) fn replace_voter(
    cluster: &str,
    record: &Record,
    old: VoterId,
    new: &Description,
) -> Result<proto::RecordChange, ChangeFailed> {
    let entry = new.entry(cluster)?;
    if record.has_voter(entry.id) {
        let (address, id) = (&entry.address, entry.id.0);
        let message = format!("the process at {address} is voter {id:032x} of the record already");
        return Err(told("already_a_voter", message));
    }
    if let Some(other) = new.record.as_ref().filter(|it| it.cluster() != record.cluster()) {
        let (address, id) = (&entry.address, other.cluster().0);
        let message = format!(
            "the process at {address} has a record of another founding (cluster id {id:032x}): give \
             it an empty directory"
        );
        return Err(told("other_cluster", message));
    }
    let (old_id, new) = (voter_id_out(old), Some(voter_out(&entry)));
    let change = Change::ReplaceVoter(proto::ReplaceVoter { old_id, new });
    Ok(proto::RecordChange { change: Some(change) })
}

pub(super) fn no_record(described: &[Result<Description, CallError>]) -> ChangeFailed {
    let failed: Vec<String> =
        described.iter().filter_map(|it| it.as_ref().err()).map(CallError::to_string).collect();
    if failed.len() == described.len() {
        return ChangeFailed::Unreachable { reason: failed.join("; ") };
    }
    let message = "the cluster has no record yet: found it with `hashroute quorum init`";
    told("no_record", message.to_owned())
}

/// Asks one process after another until one has an answer that counts.
pub(super) async fn make(
    cluster: &str,
    callers: &[Caller],
    change: proto::RecordChange,
) -> Result<Epoch, ChangeFailed> {
    let (version, cluster) = (proto::Version::Version1.into(), cluster.to_owned());
    let request = proto::MakeChangeRequest { version, cluster, change: Some(change) };
    let mut reasons = Vec::new();
    for caller in callers {
        let unknown = || {
            let patience_ms = u64::try_from(caller.timeout().as_millis()).unwrap_or(u64::MAX);
            ChangeFailed::Unknown { patience_ms }
        };
        match caller.make_change(request.clone()).await {
            Ok(proto::MakeChangeResponse { result: Some(Made::Epoch(epoch)) }) => {
                return Ok(Epoch::new(epoch));
            }
            Ok(proto::MakeChangeResponse { result: Some(Made::Refused(refused)) }) => {
                return Err(told(&refused.code, refused.message));
            }
            // Of an answer that says nothing it is not known what it means.
            Ok(proto::MakeChangeResponse { result: None }) | Err(CallFailed::Unknown(_)) => {
                return Err(unknown());
            }
            Err(CallFailed::Told { code, message }) if code != Code::Unavailable => {
                return Err(told(code_name(code), format!("{}: {message}", caller.address())));
            }
            Err(error) => reasons.push(format!("{}: {error}", caller.address())),
        }
    }
    Err(ChangeFailed::Unreachable { reason: reasons.join("; ") })
}

/// The stable name of what a process refuses for another reason than the record.
fn code_name(code: Code) -> &'static str {
    if code == Code::InvalidArgument {
        "invalid_argument"
    } else if code == Code::Unimplemented {
        "not_a_voter"
    } else {
        "failed_precondition"
    }
}
