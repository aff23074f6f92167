//! The founding of a cluster: its first record, and who has it.
use std::sync::Arc;

use hashroute_coordination::{ChangeError, ClusterId, LeaseParameters, Record, VoterEntry};
use hashroute_core::{Epoch, PodId, View};
use tonic::Code;

use super::call::{CallFailed, Called};
use super::{Description, told};
use crate::error::ChangeFailed;
use crate::proto;
use crate::wire::{Codec, cluster_id};

/// The voters of the first record, by the addresses by which they were asked.
pub(super) fn voters(
    cluster: &str,
    described: &[Description],
) -> Result<Vec<VoterEntry>, ChangeFailed> {
    let mut voters: Vec<VoterEntry> = Vec::with_capacity(described.len());
    for description in described {
        let entry = description.entry(cluster)?;
        if let Some(twin) = voters.iter().find(|other| other.id == entry.id) {
            let (one, other, id) = (&twin.address, &entry.address, entry.id.0);
            let message = format!(
                "{one} and {other} lead to the same voter {id:032x}: name each voter once, and give \
                 each its own directory"
            );
            return Err(told("same_voter", message));
        }
        voters.push(entry);
    }
    Ok(voters)
}

/// With etcd, one voter would stand for etcd itself, and of two none may fail.
pub(super) fn not_so_many(voters: usize) -> ChangeFailed {
    let message = format!(
        "{voters} voters are given: with engine = \"etcd\", name the 3 or 5 voters that grant leases, \
         or none, and leases lie in etcd, too"
    );
    told("voters", message)
}

/// The first record and its message. The same input gives the same record, and so the same
/// cluster.
pub(super) fn first(
    cluster: &str,
    lease: LeaseParameters,
    voters: Vec<VoterEntry>,
    view: &View,
    groups: &[(Arc<str>, Vec<PodId>)],
) -> Result<(Record, proto::Record), ChangeFailed> {
    let lease = lease.check().map_err(|error| told("lease_unsafe", error.to_string()))?;
    let view = View::new(Epoch::new(1), view.parameters(), view.pods().to_vec())
        .map_err(ChangeError::from)?;
    let make = |id, voters| Record::first_with_groups(id, lease, voters, &view, groups);
    let codec = Codec::new(cluster.to_owned());
    let draft = make(ClusterId(0), voters.clone())?;
    let record = make(cluster_id(cluster, &codec.record_out(&draft)), voters)?;
    let message = codec.record_out(&record);
    // What nobody could read must not be founded. (A codec that wrote it would remember it.)
    let read = Codec::new(cluster.to_owned()).record(&message);
    read.map_err(|error| told(error.code(), error.to_string()))?;
    Ok((record, message))
}

/// Whether the process has no record, or one of this founding.
pub(super) fn check_same(description: &Description, first: &Record) -> Result<(), ChangeFailed> {
    let Some(record) = &description.record else { return Ok(()) };
    if record.cluster() == first.cluster() {
        return Ok(());
    }
    let (address, id, epoch) = (&description.address, record.cluster().0, record.epoch());
    let message = format!(
        "{address} has a record of another founding already (cluster id {id:032x}, epoch {epoch}; \
         these settings give {:032x}). A cluster is founded once: repeat it with the settings that \
         it was founded with, or change its record",
        first.cluster().0
    );
    Err(told("founded_already", message))
}

/// Whether all who were told have taken it.
pub(super) fn check_told<'a>(
    answers: impl Iterator<Item = (&'a str, Called<proto::FoundResponse>)>,
) -> Result<(), ChangeFailed> {
    let (mut refused, mut unreachable) = (Vec::new(), Vec::new());
    for (address, answer) in answers {
        match answer {
            Ok(_) => {}
            Err(CallFailed::Told { code, message }) if code != Code::Unavailable => {
                refused.push(format!("{address}: {message}"));
            }
            Err(error) => unreachable.push(format!("{address}: {error}")),
        }
    }
    if !refused.is_empty() {
        return Err(told("found_refused", refused.join("; ")));
    }
    if !unreachable.is_empty() {
        let reason = format!("{}; repeat it to finish it", unreachable.join("; "));
        return Err(ChangeFailed::Unreachable { reason });
    }
    Ok(())
}
