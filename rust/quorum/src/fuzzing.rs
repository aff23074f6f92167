//! What the parsers of this crate promise, whatever the bytes. Each function is the body of a fuzz
//! target (`tools/fuzz.sh`) and of a bounded, seeded test; no release build has them.
use std::sync::Arc;

use hashroute_coordination::{
    Change, ClusterId, Incarnation, LeaseParameters, Record, VoterEntry, VoterId,
};
use hashroute_core::{Epoch, Parameters, Pod, PodId, View};
use prost::Message;

use crate::disk::fuzzing as disk;
use crate::proto;
use crate::wire::{Codec, change, change_out};

/// Bytes as every message that comes from outside, by the first of them: what is read can be
/// written, and is then read as the same.
///
/// # Panics
///
/// If that is not so.
pub fn quorum_wire(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let mut codec = Codec::new(CLUSTER.to_owned());
    match kind % 5 {
        0 => {
            let Ok(message) = proto::AttendRequest::decode(bytes) else { return };
            let Some(Ok(read)) = message.message.map(|it| codec.to_voter(it)) else { return };
            assert_eq!(fresh().to_voter(codec.to_voter_out(&read)), Ok(read));
        }
        1 => {
            let Ok(message) = proto::AttendResponse::decode(bytes) else { return };
            let Some(Ok(read)) = message.message.map(|it| codec.from_voter(it)) else { return };
            assert_eq!(fresh().from_voter(codec.from_voter_out(&read)), Ok(read));
        }
        2 => {
            let Ok(message) = proto::PeerMessage::decode(bytes) else { return };
            let Ok(read) = codec.to_peer(message) else { return };
            assert_eq!(fresh().to_peer(codec.to_peer_out(&read)), Ok(read));
        }
        3 => {
            let Ok(message) = proto::RecordChange::decode(bytes) else { return };
            let record = founded();
            let Ok(read) = change(&message, &record) else { return };
            let written = change_out(&read).expect("operators can ask for what they asked for");
            assert_eq!(change(&written, &record), Ok(read));
        }
        _ => {
            let Ok(message) = proto::Record::decode(bytes) else { return };
            let Ok(read) = codec.record(&message) else { return };
            assert_eq!(fresh().record(&codec.record_out(&read)), Ok(read));
        }
    }
}

/// Bytes as the files of a voter's disk: the newest that is whole is taken, or nothing.
///
/// # Panics
///
/// If another one is, or what is read cannot be written and read again.
pub fn quorum_disk(data: &[u8]) {
    disk::read_anything(data, &mut fresh());
}

fn fresh() -> Codec {
    Codec::new(CLUSTER.to_owned())
}

/// Epoch 2: pod `a` has joined.
fn founded() -> Record {
    let id = |name| PodId::new(name).expect("a name");
    let parameters = Parameters::new(8, 0.05, 0).expect("eight slots");
    let pods = ["a", "b"].map(|name| Pod::new(id(name))).to_vec();
    let view = View::new(Epoch::new(1), parameters, pods).expect("two pods");
    let groups = [(Arc::from("gateway"), vec![id("a"), id("b")])];
    let voters = vec![VoterEntry { id: VoterId(1), address: "voter-1:9010".to_owned() }];
    let (cluster, lease) = (ClusterId(7), LeaseParameters::DEFAULT);
    let first = Record::first_with_groups(cluster, lease, voters, &view, &groups);
    let join = Change::Join { pod: Pod::new(id("a")), incarnation: Incarnation(1) };
    first.and_then(|first| first.next(&join)).expect("a record")
}

/// The cluster of the seeds.
const CLUSTER: &str = "desk-7";

#[cfg(test)]
mod tests;
