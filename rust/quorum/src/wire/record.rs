//! The record and its parts, in and out of messages.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{
    ClusterId, Group, Incarnation, LeaseParameters, Record, RecordFields, VoterEntry, VoterId,
    Writer,
};
use hashroute_core::{
    Addresses, Epoch, Parameters, Pod, PodId, PodState, View, ViewError, Weight, hash_key,
};

use super::error::WireError;
use super::limits::{CANDIDATES_MAX, GROUPS_MAX, NAME_BYTES_MAX, SLOTS_MAX};
use super::terms::{terms_in, terms_out};
use crate::proto;

/// Writes a record of this cluster.
pub(super) fn record_out(cluster: &str, record: &Record) -> proto::Record {
    proto::Record {
        cluster_id: cluster_id_out(record.cluster()),
        cluster: cluster.to_owned(),
        lease: Some(lease_out(record.parameters())),
        voters: record.voters().iter().map(voter_out).collect(),
        view: Some(view_out(record)),
        writers: record.writers().iter().map(named_out).collect(),
        groups: record.groups().iter().map(group_out).collect(),
        slot_terms: Some(terms_out(record.slot_terms())),
        table: table_hash(record),
    }
}

/// Reads a record of this cluster, and makes its ring: from that of `near`, if there is one.
pub(super) fn record_in(
    cluster: &str,
    message: &proto::Record,
    near: Option<&Record>,
) -> Result<Record, WireError> {
    if message.cluster != cluster {
        let (found, expected) = (clipped(&message.cluster), cluster.to_owned());
        return Err(WireError::OtherCluster { found, expected });
    }
    let id = ClusterId(id_in("cluster_id", &message.cluster_id)?);
    let voters = at_most("voters", &message.voters, 5)?;
    let view = view_in(message.view.as_ref().ok_or(missing("view"))?)?;
    let terms = message.slot_terms.as_ref().ok_or(missing("slot_terms"))?;
    let fields = RecordFields {
        cluster: id,
        parameters: lease_in(message.lease.as_ref().ok_or(missing("lease"))?)?,
        voters: voters.iter().map(voter_in).collect::<Result<_, _>>()?,
        writers: named_in(&message.writers)?,
        groups: groups_in(&message.groups)?,
        terms: terms_in(terms, view.parameters().slots())?,
        view,
    };
    let record = Record::restore(fields, near)?;
    let (found, expected) = (message.table, table_hash(&record));
    if found != expected {
        return Err(WireError::OtherTable { found, expected });
    }
    Ok(record)
}

/// What shows that both ends place keys alike: see the contract. Cheaper than the ring's digest,
/// which takes as long as a build, and would be waited for in every change of the record.
fn table_hash(record: &Record) -> u64 {
    let Some(ring) = record.ring() else { return 0 };
    let mut bytes = vec![0; ring.owners().len() * 2];
    for (place, owner) in bytes.as_chunks_mut().0.iter_mut().zip(ring.owners()) {
        *place = owner.to_le_bytes();
    }
    hash_key(&bytes)
}

pub(crate) fn cluster_id_out(id: ClusterId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

pub(crate) fn voter_id_out(id: VoterId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

pub(crate) fn voter_id_in(bytes: &[u8]) -> Result<VoterId, WireError> {
    id_in("voter_id", bytes).map(VoterId)
}

pub(crate) fn writer_out(writer: &Writer) -> proto::Writer {
    named_out((&writer.pod, &writer.incarnation))
}

pub(crate) fn writer_in(message: &proto::Writer) -> Result<Writer, WireError> {
    let pod = PodId::new(&message.pod)?;
    Ok(Writer { pod, incarnation: Incarnation(message.incarnation) })
}

pub(crate) fn voter_out(entry: &VoterEntry) -> proto::Voter {
    proto::Voter { id: voter_id_out(entry.id), address: entry.address.clone() }
}

pub(crate) fn voter_in(message: &proto::Voter) -> Result<VoterEntry, WireError> {
    let id = VoterId(id_in("voters.id", &message.id)?);
    Ok(VoterEntry { id, address: name("voters.address", &message.address)?.to_owned() })
}

/// Whether records may have this view: what a view alone may be is more.
pub(crate) fn check_view(view: &View) -> Result<(), WireError> {
    check_slots(view.parameters().slots())?;
    view.pods().iter().try_for_each(|pod| pod_in(&pod_out(pod)).map(drop))
}

/// Text of 1 to 255 bytes.
pub(super) fn name<'a>(field: &'static str, text: &'a str) -> Result<&'a str, WireError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(WireError::Length { field, bytes: text.len(), expected: "1 to 255" });
    }
    Ok(text)
}

/// A list that is not too long.
pub(super) fn at_most<'a, T>(
    field: &'static str,
    list: &'a [T],
    count_max: usize,
) -> Result<&'a [T], WireError> {
    if list.len() > count_max {
        return Err(WireError::TooMany { field, count: list.len(), count_max });
    }
    Ok(list)
}

/// Of no record's epoch is 0 the number: it stands for none.
pub(super) fn epoch_in(field: &'static str, number: u64) -> Result<Epoch, WireError> {
    if number == 0 {
        return Err(WireError::Number { field, got: number, expected: "1 or more" });
    }
    Ok(Epoch::new(number))
}

pub(super) fn missing(field: &'static str) -> WireError {
    WireError::Missing { field }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn pods_in(field: &'static str, names: &[String]) -> Result<Vec<PodId>, WireError> {
    let names = at_most(field, names, CANDIDATES_MAX)?;
    let pods: Result<_, ViewError> = names.iter().map(|name| PodId::new(name)).collect();
    Ok(pods?)
}

/// The digest of the record's table as documents have it; empty if it has none.
pub(crate) fn digest(record: &Record) -> String {
    record.ring().map_or_else(String::new, |ring| format!("{:016x}", ring.digest()))
}

/// As much of a text of somebody else's as goes into an error.
fn clipped(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).collect()
}

fn id_in(field: &'static str, bytes: &[u8]) -> Result<u128, WireError> {
    let wrong = |_| WireError::Length { field, bytes: bytes.len(), expected: "16" };
    bytes.try_into().map(u128::from_be_bytes).map_err(wrong)
}

fn lease_out(lease: LeaseParameters) -> proto::Lease {
    proto::Lease {
        ttl_ns: nanos(lease.ttl),
        renewal_interval_ns: nanos(lease.renewal_interval),
        drift_ppm: lease.drift_ppm,
        margin_ns: nanos(lease.margin),
    }
}

fn lease_in(message: &proto::Lease) -> Result<LeaseParameters, WireError> {
    let lease = LeaseParameters {
        ttl: Duration::from_nanos(message.ttl_ns),
        renewal_interval: Duration::from_nanos(message.renewal_interval_ns),
        drift_ppm: message.drift_ppm,
        margin: Duration::from_nanos(message.margin_ns),
    };
    Ok(lease.check()?)
}

fn named_out((pod, incarnation): (&PodId, &Incarnation)) -> proto::Writer {
    proto::Writer { pod: pod.to_string(), incarnation: incarnation.0 }
}

fn named_in(messages: &[proto::Writer]) -> Result<BTreeMap<PodId, Incarnation>, WireError> {
    let mut writers = BTreeMap::new();
    for message in at_most("writers", messages, View::PODS_MAX)? {
        let Writer { pod, incarnation } = writer_in(message)?;
        if writers.insert(pod, incarnation).is_some() {
            return Err(WireError::Twice { field: "writers", entry: message.pod.clone() });
        }
    }
    Ok(writers)
}

fn group_out(group: &Group) -> proto::Group {
    proto::Group {
        name: group.name.to_string(),
        candidates: group.candidates.iter().map(PodId::to_string).collect(),
        leader: group.leader.as_ref().map(PodId::to_string),
        term: group.term.get(),
    }
}

fn groups_in(messages: &[proto::Group]) -> Result<Vec<Group>, WireError> {
    let candidates: usize = messages.iter().map(|group| group.candidates.len()).sum();
    if candidates > CANDIDATES_MAX {
        let (field, count, count_max) = ("groups.candidates", candidates, CANDIDATES_MAX);
        return Err(WireError::TooMany { field, count, count_max });
    }
    at_most("groups", messages, GROUPS_MAX)?.iter().map(group_in).collect()
}

fn group_in(message: &proto::Group) -> Result<Group, WireError> {
    Ok(Group {
        name: Arc::from(name("groups.name", &message.name)?),
        candidates: pods_in("groups.candidates", &message.candidates)?,
        leader: message.leader.as_deref().map(PodId::new).transpose()?,
        term: epoch_in("groups.term", message.term)?,
    })
}

fn view_out(record: &Record) -> proto::View {
    let (view, parameters) = (record.view(), record.view().parameters());
    proto::View {
        epoch: view.epoch().get(),
        slots: parameters.slots(),
        epsilon: parameters.epsilon(),
        seed: parameters.seed(),
        pods: view.pods().iter().map(pod_out).collect(),
        digest: String::new(),
    }
}

fn view_in(message: &proto::View) -> Result<View, WireError> {
    check_slots(message.slots)?;
    let parameters = Parameters::new(message.slots.into(), message.epsilon, message.seed)?;
    let pods = at_most("view.pods", &message.pods, View::PODS_MAX)?;
    let pods = pods.iter().map(pod_in).collect::<Result<_, _>>()?;
    Ok(View::new(epoch_in("view.epoch", message.epoch)?, parameters, pods)?)
}

fn check_slots(slots: u32) -> Result<(), WireError> {
    if slots > SLOTS_MAX {
        let (field, got) = ("view.slots", u64::from(slots));
        return Err(WireError::Number { field, got, expected: "at most 1048576" });
    }
    Ok(())
}

fn pod_out(pod: &Pod) -> proto::Pod {
    let state = match pod.state {
        PodState::Joining => proto::PodState::Joining,
        PodState::Active => proto::PodState::Active,
        PodState::Draining => proto::PodState::Draining,
        PodState::Down => proto::PodState::Down,
    };
    let Addresses { grpc, zmq } = pod.addresses.clone();
    proto::Pod {
        id: pod.id.to_string(),
        weight: Some(pod.weight.as_f64()),
        zone: pod.zone.as_deref().map(str::to_owned),
        state: state.into(),
        addresses: Some(proto::Addresses { grpc, zmq }),
    }
}

fn pod_in(message: &proto::Pod) -> Result<Pod, WireError> {
    let state = match proto::PodState::try_from(message.state) {
        Ok(proto::PodState::Joining) => PodState::Joining,
        Ok(proto::PodState::Active) => PodState::Active,
        Ok(proto::PodState::Draining) => PodState::Draining,
        Ok(proto::PodState::Down) => PodState::Down,
        Ok(proto::PodState::Unspecified) | Err(_) => return Err(missing("pods.state")),
    };
    let addresses = message.addresses.clone().unwrap_or_default();
    let (grpc, zmq) = (addresses.grpc.as_deref(), addresses.zmq.as_deref());
    for (field, text) in
        [("pods.zone", message.zone.as_deref()), ("pods.grpc", grpc), ("pods.zmq", zmq)]
    {
        let bytes = text.map_or(0, str::len);
        if bytes > NAME_BYTES_MAX {
            return Err(WireError::Length { field, bytes, expected: "at most 255" });
        }
    }
    Ok(Pod {
        id: PodId::new(&message.id)?,
        weight: message.weight.map_or(Ok(Weight::ONE), Weight::new)?,
        zone: message.zone.as_deref().map(Arc::from),
        state,
        addresses: Addresses { grpc: addresses.grpc, zmq: addresses.zmq },
    })
}
