//! Something is lost, and somebody writes again, or nobody does.
use hashroute_coordination::{Change, WriteRefusal};

use crate::support::{
    DEFAULT, Host, PATIENCE, SLOW, await_shared, found, gateway, pair_and_witness, pod, slots, wait,
};

#[test]
fn nobody_writes_before_the_cluster_is_founded_and_each_slot_has_one_writer_after() {
    let witness = Host::voter(SLOW, &[], None);
    let one = Host::voter(SLOW, &[&witness], Some("pod-a"));
    let other = Host::voter(SLOW, &[&witness], Some("pod-b"));
    for host in [&one, &other] {
        assert_eq!(host.node().record(), None);
        assert!(host.node().is_stale());
        let refused = slots().all(|slot| {
            let untagged = host.node().guard().unwrap().admit(&slot, None);
            matches!(untagged, Err(WriteRefusal::NoLease))
        });
        assert!(refused, "no record, no lease");
    }
    let first = found(&[&witness, &one, &other]);
    await_shared(&one, &other);
    for host in [&one, &other, &witness] {
        wait("it knows the record", || {
            host.node().record().is_some_and(|record| record.writers().len() == 2)
        });
        assert_eq!(host.node().record().unwrap().cluster(), first.cluster());
        wait("it hears a majority", || !host.node().is_stale());
    }
    assert_eq!(found(&[&witness, &one, &other]), first, "founding again changes nothing");
}

#[test]
fn a_dead_pod_is_replaced_under_new_terms() {
    let (mut one, other, _witness) = pair_and_witness(DEFAULT);
    let before = other.node().record().unwrap();
    one.crash();
    wait("the other pod writes everything", || other.writes_everything());
    let after = other.node().record().unwrap();
    for slot in slots() {
        let kept = before.owner(&slot).is_some_and(|owner| owner.pod == pod("pod-b"));
        assert_eq!(
            before.term(&slot) == after.term(&slot),
            kept,
            "a term is new where the owner is"
        );
    }
    wait("the group is led", || other.admit(&gateway()).is_ok());
    one.start();
    await_shared(&one, &other);
}

#[test]
fn a_lost_witness_ends_no_lease_and_changes_go_on() {
    let (one, other, mut witness) = pair_and_witness(SLOW);
    witness.crash();
    let granted = |host: &Host| host.node().snapshot().voter.unwrap().grants;
    let before = [granted(&one), granted(&other)];
    wait("renewals are granted without the witness", || {
        assert!(slots().all(|slot| one.admit(&slot).is_ok() || other.admit(&slot).is_ok()));
        granted(&one) > before[0] + 10 && granted(&other) > before[1] + 10
    });
    let epoch = one.node().change(Change::Drain(pod("pod-a")), PATIENCE).unwrap();
    wait("the other pod writes everything", || other.writes_everything());
    assert!(other.epoch() >= Some(epoch));
}

#[test]
fn who_reaches_no_majority_stops_by_itself() {
    let (one, mut other, mut witness) = pair_and_witness(DEFAULT);
    assert!(slots().any(|slot| one.admit(&slot).is_ok()));
    other.crash();
    witness.crash();
    wait("the lease ends", || {
        slots().all(|slot| {
            let refused = one.admit(&slot).err();
            matches!(refused, Some(WriteRefusal::NoLease | WriteRefusal::NotOwner { .. }))
        })
    });
    wait("it says that it is stale", || one.node().is_stale());
    assert!(one.node().record().is_some(), "reads are still routed");
    witness.start();
    wait("it writes again when a majority is back", || one.writes_everything());
    wait("it is not stale any more", || !one.node().is_stale());
}
