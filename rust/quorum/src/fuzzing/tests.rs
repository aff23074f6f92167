//! The bodies on a bounded number of mutated seeds.
use bounded::run;

use super::*;

#[path = "../../../../fuzz/bounded.rs"]
mod bounded;

macro_rules! seeds {
    ($target:literal: $($name:literal),+) => {
        [$(include_bytes!(concat!("../../../../fuzz/seeds/", $target, "/", $name)).as_slice()),+]
    };
}

const WIRE: [&[u8]; 5] =
    seeds!("quorum_wire": "accept", "promised", "ask_release", "replace_voter", "record");
const DISK: [&[u8]; 3] = seeds!("quorum_disk": "known", "newcomer", "raw");

#[test]
fn wire() {
    run(quorum_wire, &WIRE);
}

#[test]
fn disk() {
    run(quorum_disk, &DISK);
}

#[test]
fn the_seeds_are_whole() {
    let [accept, promised, ask, replace, record] = WIRE.map(|seed| &seed[1..]);
    let mut codec = fresh();
    let message = proto::AttendRequest::decode(accept).unwrap().message.unwrap();
    assert!(codec.to_voter(message).is_ok());
    let message = proto::AttendResponse::decode(promised).unwrap().message.unwrap();
    assert!(codec.from_voter(message).is_ok());
    assert!(codec.to_peer(proto::PeerMessage::decode(ask).unwrap()).is_ok());
    let message = proto::RecordChange::decode(replace).unwrap();
    assert!(change(&message, &founded()).is_ok());
    assert!(codec.record(&proto::Record::decode(record).unwrap()).is_ok());
    assert!(DISK.iter().all(|seed| crate::disk::fuzzing::is_whole(seed, &mut codec)));
}
