//! What the tests of this crate have in common: records as a cluster's history makes them.
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{
    Ballot, Change, ClusterId, Incarnation, LeaseParameters, Record, VoterEntry, VoterId, Writer,
};
use hashroute_core::{Addresses, Epoch, Parameters, Pod, PodId, PodState, View, Weight};
use proptest::prelude::*;

pub(crate) mod certificates;
pub(crate) mod server;

pub(crate) const CLUSTER: &str = "desk-7";

pub(crate) fn pod(name: &str) -> PodId {
    PodId::new(name).unwrap()
}

pub(crate) fn entry(id: u128) -> VoterEntry {
    VoterEntry { id: VoterId(id), address: format!("voter-{id}:9010") }
}

/// Epoch 1: voters 1, 2 and 3, pods `a` and `b`, 8 slots, a group of both pods.
pub(crate) fn first() -> Record {
    let pods = vec![Pod::new(pod("a")), Pod::new(pod("b"))];
    let view = View::new(Epoch::new(1), Parameters::new(8, 0.05, 0).unwrap(), pods).unwrap();
    let groups = [(Arc::from("gateway"), vec![pod("a"), pod("b")])];
    let voters = [1, 2, 3].map(entry).to_vec();
    let lease = LeaseParameters::DEFAULT;
    Record::first_with_groups(ClusterId(7), lease, voters, &view, &groups).unwrap()
}

pub(crate) fn join(record: &Record, name: &str, incarnation: u64) -> Record {
    let (pod, incarnation) = (Pod::new(pod(name)), Incarnation(incarnation));
    record.next(&Change::Join { pod, incarnation }).unwrap()
}

/// Epoch 3: both pods have a writer, and `a` leads the group.
pub(crate) fn both() -> Record {
    join(&join(&first(), "a", 1), "b", 1)
}

prop_compose! {
    /// A pod of one of a few names, so that histories meet the same one again.
    fn pods()(
        name in prop::sample::select(vec!["a", "b", "c", "d", "é", "pod-6"]),
        weight in 0.000_001..10.0_f64,
        zone in prop::option::of("[a-z]{0,3}"),
        state in prop::sample::select(PodState::ALL.to_vec()),
        grpc in prop::option::of("[a-z0-9.:]{0,20}"),
        zmq in prop::option::of("tcp://[a-z]{1,9}:1"),
    ) -> Pod {
        let (zone, addresses) = (zone.map(Arc::from), Addresses { grpc, zmq });
        Pod { id: pod(name), weight: Weight::new(weight).unwrap(), zone, state, addresses }
    }
}

/// A change; many of them make no sense for the record that they meet.
pub(crate) fn changes() -> impl Strategy<Value = Change> {
    let writer = || {
        (pods(), 0..3_u64)
            .prop_map(|(pod, it)| Writer { pod: pod.id, incarnation: Incarnation(it) })
    };
    let group =
        || prop::sample::select(vec!["gateway", "risk", "engine"]).prop_map(Arc::<str>::from);
    prop_oneof![
        1 => Just(Change::Nothing),
        1 => writer().prop_map(Change::Fail),
        4 => (pods(), 0..3_u64)
            .prop_map(|(pod, it)| Change::Join { pod, incarnation: Incarnation(it) }),
        1 => pods().prop_map(|pod| Change::Drain(pod.id)),
        1 => pods().prop_map(|pod| Change::Remove(pod.id)),
        1 => pods().prop_map(|pod| Change::Reweight(pod.id, pod.weight)),
        1 => (group(), pods()).prop_map(|(group, pod)| Change::Lead { group, leader: pod.id }),
        1 => (group(), prop::collection::vec(pods(), 0..4)).prop_map(|(name, pods)| {
            Change::AddGroup { name, candidates: pods.into_iter().map(|pod| pod.id).collect() }
        }),
        1 => (1..6_u128, 1..9_u128)
            .prop_map(|(old, new)| Change::ReplaceVoter { old: VoterId(old), new: entry(new) }),
    ]
}

prop_compose! {
    fn leases()(ttl in 100..600_000_u64, part in 10..40_u64, margin in 0..20_u64, drift_ppm in 0..2_000_u32)
    -> LeaseParameters {
        let millis = Duration::from_millis;
        LeaseParameters {
            ttl: millis(ttl),
            renewal_interval: millis(ttl / part),
            drift_ppm,
            margin: millis(margin),
        }
    }
}

prop_compose! {
    fn founded()(
        cluster in any::<u128>(),
        lease in leases(),
        voters in prop::sample::select(vec![1_u128, 3, 5]),
        slots in 3..9_u32,
        epsilon in 0.0..2.0_f64,
        seed in any::<u64>(),
        pods in prop::collection::btree_map(pods().prop_map(|pod| pod.id), pods(), 1..5),
    ) -> Record {
        let parameters = Parameters::new(1 << slots, epsilon, seed).unwrap();
        let pods = pods.into_iter().map(|(id, pod)| Pod { id, ..pod }).collect();
        let view = View::new(Epoch::new(1), parameters, pods).unwrap();
        let (cluster, voters) = (ClusterId(cluster), (1..=voters).map(entry).collect());
        Record::first(cluster, lease.check().unwrap(), voters, &view).unwrap()
    }
}

prop_compose! {
    /// A record that a history of changes leads to.
    pub(crate) fn records()(first in founded(), changes in prop::collection::vec(changes(), 0..12))
    -> Record {
        changes.iter().fold(first, |record, change| record.next(change).unwrap_or(record))
    }
}

prop_compose! {
    pub(crate) fn ballots()(round in any::<u64>(), proposer in any::<u64>()) -> Ballot {
        Ballot { round, proposer }
    }
}

prop_compose! {
    pub(crate) fn writers()(pod in pods(), incarnation in any::<u64>()) -> Writer {
        Writer { pod: pod.id, incarnation: Incarnation(incarnation) }
    }
}
