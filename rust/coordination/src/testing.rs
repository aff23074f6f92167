//! What the tests of this crate have in common: a small cluster, by hand.

use std::time::Duration;

use hashroute_core::{Epoch, Parameters, Pod, PodId, Slot, View};

use crate::change::Change;
use crate::lease::LeaseParameters;
use crate::message::{Ballot, FromVoter, Sequence, ToVoter};
use crate::record::{ClusterId, Incarnation, Record, Resource, VoterEntry, VoterId, Writer};
use crate::voter::{Voter, VoterAction, VoterState};

pub(crate) const L: Duration = LeaseParameters::TIGHT.ttl;

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn pod(name: &str) -> PodId {
    PodId::new(name).unwrap()
}

/// The first process of a pod, unless told otherwise.
pub(crate) fn writer(name: &str, incarnation: u64) -> Writer {
    Writer { pod: pod(name), incarnation: Incarnation(incarnation) }
}

pub(crate) fn entry(id: u128) -> VoterEntry {
    VoterEntry { id: VoterId(id), address: format!("voter-{id}:1") }
}

pub(crate) fn ballot(round: u64) -> Ballot {
    Ballot { round, proposer: round }
}

pub(crate) fn slot(index: u32) -> Resource {
    Resource::Slot(Slot::new(index))
}

/// Epoch 1: voters 1, 2 and 3, pods `a` and `b`, 8 slots, nobody takes part.
pub(crate) fn first() -> Record {
    let pods = vec![Pod::new(pod("a")), Pod::new(pod("b"))];
    let view = View::new(Epoch::new(1), Parameters::new(8, 0.05, 0).unwrap(), pods).unwrap();
    let voters = [1, 2, 3].map(entry).to_vec();
    Record::first(ClusterId(7), LeaseParameters::TIGHT, voters, &view).unwrap()
}

pub(crate) fn join(record: &Record, name: &str, incarnation: u64) -> Record {
    let (pod, incarnation) = (Pod::new(pod(name)), Incarnation(incarnation));
    record.next(&Change::Join { pod, incarnation }).unwrap()
}

/// Epoch 3: the first processes of `a` and of `b` take part.
pub(crate) fn both() -> Record {
    join(&join(&first(), "a", 1), "b", 1)
}

/// Epoch 4: `b` owns everything.
pub(crate) fn without_a() -> Record {
    both().next(&Change::Fail(writer("a", 1))).unwrap()
}

/// A voter with the record of epoch 3 that has been up for long.
pub(crate) fn voter() -> Voter {
    Voter::new(state(), Duration::ZERO)
}

pub(crate) fn state() -> VoterState {
    VoterState::first(VoterId(1), both())
}

/// Tells a voter something, as pod `b`; returns what it says, and checks that what is durable
/// comes first.
pub(crate) fn tell(voter: &mut Voter, now: Duration, message: ToVoter) -> Vec<FromVoter> {
    let mut said = Vec::new();
    for action in voter.handle(now, pod("b"), message) {
        match action {
            VoterAction::Persist(state) => {
                assert!(said.is_empty(), "what is durable comes before what is said");
                assert_eq!(*state, *voter.state());
            }
            VoterAction::AwaitDisk => assert!(said.is_empty(), "and so does waiting for it"),
            VoterAction::Send { message, .. } => said.push(message),
        }
    }
    said
}

pub(crate) fn renew(record: &Record, writer: &Writer, sequence: u64) -> ToVoter {
    let (epoch, writer) = (record.epoch(), writer.clone());
    ToVoter::Renew { epoch, writer, sequence: Sequence(sequence) }
}

pub(crate) fn accept(round: u64, record: Record, released: &[Writer]) -> ToVoter {
    ToVoter::Accept { ballot: ballot(round), record, released: released.to_vec() }
}

pub(crate) fn prepare(epoch: u64, round: u64, stop: &[Writer]) -> ToVoter {
    let (epoch, ballot) = (Epoch::new(epoch), ballot(round));
    ToVoter::Prepare { epoch, ballot, stop: stop.to_vec() }
}
