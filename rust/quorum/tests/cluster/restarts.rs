//! Processes that end and come back, with and without their disks.
use std::time::{Duration, Instant};

use hashroute_coordination::{Change, VoterEntry, VoterId};
use hashroute_quorum::LeaseSettings;

use crate::support::{DEFAULT, Host, PATIENCE, SLOW, await_shared, pair_and_witness, wait};

fn voter_id(host: &Host) -> String {
    host.node().snapshot().voter.unwrap().id
}

#[test]
fn a_process_that_stops_in_good_order_is_replaced_without_waiting_for_its_lease() {
    let lease = LeaseSettings { ttl_us: 8_000_000, ..SLOW };
    let (mut one, other, _witness) = pair_and_witness(lease);
    // Voters that have just begun wait for as long as a lease before they judge anybody.
    wait("the voters are past their quiet time", || {
        other.node().snapshot().member.unwrap().lease_age_ms.unwrap_or_default() > 9_000.0
    });
    let began = Instant::now();
    one.stop();
    wait("the other pod writes everything", || other.writes_everything());
    assert!(
        began.elapsed() < Duration::from_micros(lease.ttl_us) / 2,
        "no lease can have run out yet: it was renounced"
    );
}

#[test]
fn a_process_comes_back_with_its_disk_as_the_voter_that_it_was() {
    let (mut one, mut other, witness) = pair_and_witness(DEFAULT);
    let (id, epoch) = (voter_id(&one), one.epoch());
    one.crash();
    wait("the other pod writes everything", || other.writes_everything());
    one.start();
    assert_eq!(voter_id(&one), id);
    assert!(one.epoch() >= epoch, "it knows what it knew");
    await_shared(&one, &other);
    // Its vote counts: without it there is no majority now.
    other.crash();
    wait("the first pod writes everything", || one.writes_everything());
    drop(witness);
}

#[test]
fn a_whole_cluster_comes_back_from_its_disks() {
    let (mut one, mut other, mut witness) = pair_and_witness(DEFAULT);
    let epoch = witness.epoch();
    one.crash();
    other.crash();
    witness.crash();
    witness.start();
    assert!(witness.epoch() >= epoch);
    one.start();
    other.start();
    await_shared(&one, &other);
}

#[test]
fn a_voter_without_its_disk_counts_for_nothing_until_it_takes_the_place_of_the_lost_one() {
    let (mut one, mut other, mut witness) = pair_and_witness(DEFAULT);
    let old = voter_id(&witness);
    let address = witness.address();
    witness.crash();
    std::fs::remove_dir_all(witness.directory()).unwrap();
    std::fs::create_dir(witness.directory()).unwrap();
    witness.start();
    let new = voter_id(&witness);
    assert_ne!(new, old, "a lost disk is another voter");
    let entry = |id: &str| VoterEntry {
        id: VoterId(u128::from_str_radix(id, 16).unwrap()),
        address: address.clone(),
    };
    wait("the others say that somebody else is there", || {
        one.node().snapshot().warnings.iter().any(|warning| warning.contains(&new))
    });
    let change = Change::ReplaceVoter { old: entry(&old).id, new: entry(&new) };
    one.node().change(change, PATIENCE).unwrap();
    wait("the new voter votes", || witness.node().snapshot().voter.unwrap().is_voter);
    // It does: without it there is no majority now.
    other.crash();
    wait("the first pod writes everything", || one.writes_everything());
    one.crash();
    other.start();
    one.start();
    await_shared(&one, &other);
}
