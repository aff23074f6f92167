//! Planned changes: what moves, and what may not be noticed of it.
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hashroute_coordination::{Change, WriteRefusal};
use hashroute_quorum::ChangeFailed;

use crate::support::{
    DEFAULT, Host, PATIENCE, SLOW, await_shared, found, gateway, operator, pair_and_witness, pod,
    slot, slots, wait,
};

#[test]
fn a_drain_refuses_no_write_that_is_repeated_and_none_for_want_of_a_lease() {
    let (one, other, _witness) = pair_and_witness(SLOW);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut written, mut seen) = (0_u64, BTreeSet::new());
            let mut numbers = (0..256).cycle();
            while !is_over.load(Ordering::Acquire) {
                let resource = slot(numbers.next().unwrap());
                // As a router does: whom the newest record names, again and again.
                wait("the write is admitted somewhere", || {
                    for host in [&one, &other] {
                        match host.admit(&resource) {
                            Ok(admission) => {
                                assert!(admission.is_valid());
                                return true;
                            }
                            Err(WriteRefusal::NotOwner { .. }) => {}
                            Err(refusal) => drop(seen.insert(format!("{refusal:?}"))),
                        }
                    }
                    false
                });
                written += 1;
            }
            assert!(!seen.contains("NoLease"), "the lease went on: {seen:?}");
            written
        });
        let drained = one.node().drain(PATIENCE);
        is_over.store(true, Ordering::Release);
        assert!(writer.join().unwrap() > 0);
        drained.unwrap();
    });
    wait("the other pod writes everything", || other.writes_everything());
    assert!(slots().all(|slot| one.admit(&slot).is_err()));
    let member = one.node().snapshot().member.unwrap();
    assert!(member.is_named && member.slots == 0, "it stays a member: {member:?}");
}

#[test]
fn a_release_waits_for_the_writes_under_way() {
    let (one, other, _witness) = pair_and_witness(SLOW);
    let mine = slots().find(|slot| one.admit(slot).is_ok()).unwrap();
    let under_way = one.admit(&mine).unwrap();
    thread::scope(|scope| {
        let drain = scope.spawn(|| one.node().drain(PATIENCE));
        wait("the release begins", || matches!(one.admit(&mine), Err(WriteRefusal::Moving { .. })));
        let granted = || one.node().snapshot().voter.unwrap().grants;
        let before = granted();
        wait("time passes, in renewals", || {
            assert!(under_way.is_valid(), "what was admitted may end");
            assert!(other.admit(&mine).is_err(), "nobody else may begin");
            assert!(!drain.is_finished(), "the change waits");
            granted() > before + 4
        });
        drop(under_way);
        drain.join().unwrap().unwrap();
    });
    wait("the other pod writes it", || other.admit(&mine).is_ok());
}

#[test]
fn a_group_steps_down_to_the_other_candidate_and_back() {
    let (one, other, witness) = pair_and_witness(SLOW);
    let lead = |leader| Change::Lead { group: "gateway".into(), leader: pod(leader) };
    // Who came first leads; a better candidate that comes later does not put it out.
    one.node().change(lead("pod-a"), PATIENCE).unwrap();
    wait("the first leads", || one.admit(&gateway()).is_ok());
    other.node().change(lead("pod-b"), PATIENCE).unwrap();
    wait("the other leads", || other.admit(&gateway()).is_ok());
    wait("the first does not", || one.admit(&gateway()).is_err());
    // A process without a member of its own has another one make the change.
    witness.node().change(lead("pod-a"), PATIENCE).unwrap();
    wait("the first leads again", || one.admit(&gateway()).is_ok());
    let refused = one.node().change(lead("pod-x"), PATIENCE);
    assert_eq!(refused.map_err(|error| error.code().to_owned()), Err("no_writer".into()));
}

#[test]
fn operators_change_the_record_through_any_voter() {
    let (one, other, witness) = pair_and_witness(SLOW);
    let before = one.node().record().unwrap();
    let reweight = r#"{"reweight": {"pod": "pod-b", "weight": 3}}"#;
    let epoch = operator(&[&witness]).change(reweight).unwrap();
    wait("everybody goes by it", || one.epoch() >= Some(epoch) && other.epoch() >= Some(epoch));
    let moved =
        slots().filter(|slot| before.owner(slot) != one.node().record().unwrap().owner(slot));
    assert!(moved.count() > 0);
    let refused = operator(&[&one]).change(r#"{"reweight": {"pod": "pod-x", "weight": 3}}"#);
    assert!(matches!(refused, Err(ChangeFailed::Told { .. } | ChangeFailed::Refused(_))));
}

#[test]
fn a_removed_pod_stays_away_until_it_starts_again() {
    let (mut one, other, _witness) = pair_and_witness(SLOW);
    other.node().change(Change::Remove(pod("pod-a")), PATIENCE).unwrap();
    wait("the other pod writes everything", || other.writes_everything());
    wait("the removed process says so", || {
        one.node().snapshot().warnings.iter().any(|warning| warning.contains("was removed"))
    });
    let refused = one.node().change(Change::Drain(pod("pod-a")), PATIENCE);
    assert!(refused.is_err(), "it makes no changes of its own pod any more");
    // It still follows the record: its routers do not go by an old one.
    let epoch = other
        .node()
        .change(Change::Reweight(pod("pod-b"), hashroute_core::Weight::new(2.0).unwrap()), PATIENCE)
        .unwrap();
    wait("the removed process follows", || one.epoch() >= Some(epoch));
    assert_eq!(other.node().record().unwrap().view().index_of("pod-a"), None);
    one.stop();
    one.start();
    await_shared(&one, &other);
}

#[test]
fn a_process_whose_pod_has_another_one_leaves_it_alone_and_still_follows() {
    let witness = Host::voter(DEFAULT, &[], None);
    let spare = Host::voter(DEFAULT, &[&witness], None);
    let other = Host::voter(DEFAULT, &[&witness, &spare], Some("pod-b"));
    let voters = [&witness, &spare, &other];
    found(&voters);
    let first = Host::without_vote(DEFAULT, &voters, Some("pod-a"));
    await_shared(&first, &other);
    let second = Host::without_vote(DEFAULT, &voters, Some("pod-a"));
    await_shared(&second, &other);
    wait("the first process says so", || {
        let warnings = first.node().snapshot().warnings;
        warnings.iter().any(|warning| warning.contains("has taken the place of this one"))
    });
    let heavier = hashroute_core::Weight::new(2.0).unwrap();
    let epoch = other.node().change(Change::Reweight(pod("pod-b"), heavier), PATIENCE).unwrap();
    wait("the first process follows", || first.epoch() >= Some(epoch));
    assert!(slots().all(|slot| first.admit(&slot).is_err()));
    await_shared(&second, &other);
}

/// The voter of a process that has left goes on, and answers the next process of its pod as any other.
#[test]
fn a_process_that_has_another_one_in_its_place_goes_on_voting_for_it() {
    let (first, other, witness) = pair_and_witness(DEFAULT);
    let second = Host::without_vote(DEFAULT, &[&first, &other, &witness], Some("pod-a"));
    await_shared(&second, &other);
    wait("all three voters answer", || {
        let voters = second.node().snapshot().voters;
        voters.len() == 3 && voters.iter().all(|it| it.round_trip_ms.is_some())
    });
}

#[test]
fn a_pod_that_nobody_knows_joins() {
    let (one, other, witness) = pair_and_witness(SLOW);
    let mut third = Host::without_vote(SLOW, &[&witness], None);
    third.crash();
    let view = third.settings.view.with_pod(hashroute_core::Pod::new(pod("pod-c"))).unwrap();
    third.settings.view = view;
    third.settings.pod = Some("pod-c".into());
    third.start();
    wait("the third pod writes something", || slots().any(|slot| third.admit(&slot).is_ok()));
    wait("and each slot has one writer", || {
        slots().all(|slot| {
            [&one, &other, &third].iter().filter(|host| host.admit(&slot).is_ok()).count() == 1
        })
    });
}
