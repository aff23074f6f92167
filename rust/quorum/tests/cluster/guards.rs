//! The guard of a process that is its own cluster.
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hashroute_coordination::{WriteRefusal, WriteTag};
use hashroute_core::Epoch;

use crate::support::{Host, SLOW, found, slot, slots, wait};

/// One voter and one pod, in one process.
fn alone() -> Host {
    let host = Host::voter(SLOW, &[], Some("pod-a"));
    found(&[&host]);
    wait("it writes everything", || host.writes_everything());
    host
}

#[test]
fn each_refusal_is_counted_and_says_what_is_wrong() {
    let host = alone();
    let (guard, record) = (host.node().guard().unwrap(), host.node().record().unwrap());
    let (epoch, term) = (record.epoch(), record.term(&slot(1)).unwrap());
    let admission = guard.admit(&slot(1), Some(WriteTag { epoch, term })).unwrap();
    assert_eq!((admission.epoch(), admission.term()), (epoch, term));
    assert!(admission.is_valid());
    let untagged = guard.admit(&slot(1), None).unwrap();
    assert_eq!(untagged.term(), term);
    let newer = WriteTag { epoch: epoch.next().unwrap(), term };
    assert!(matches!(guard.admit(&slot(1), Some(newer)), Err(WriteRefusal::Behind { .. })));
    let older = WriteTag { epoch: Epoch::new(1), term: Epoch::new(1) };
    assert!(matches!(guard.admit(&slot(1), Some(older)), Err(WriteRefusal::StaleTerm { .. })));
    let unknown = hashroute_coordination::Resource::Group("nobody".into());
    assert!(matches!(guard.admit(&unknown, None), Err(WriteRefusal::NotOwner { .. })));
    let member = host.node().snapshot().member.unwrap();
    assert_eq!(member.under_way, 2);
    for (reason, count) in [("behind", 1), ("stale-term", 1), ("not-owner", 1)] {
        assert!(member.refused[reason] >= count, "{reason}: {:?}", member.refused);
    }
    drop((admission, untagged));
    assert_eq!(host.node().snapshot().member.unwrap().under_way, 0);
}

#[test]
fn a_stop_waits_for_what_is_under_way_and_admits_nothing_more() {
    let host = alone();
    let guard = host.node().guard().unwrap();
    let under_way = guard.admit(&slot(1), None).unwrap();
    let is_stopped = AtomicBool::new(false);
    let mut host = host;
    thread::scope(|scope| {
        let stop = scope.spawn(|| {
            host.stop();
            is_stopped.store(true, Ordering::Release);
        });
        wait("nothing is admitted any more", || guard.admit(&slot(1), None).is_err());
        assert!(under_way.is_valid(), "what was admitted may end");
        assert!(!is_stopped.load(Ordering::Acquire), "the stop waits");
        drop(under_way);
        stop.join().unwrap();
    });
    assert!(slots().all(|slot| matches!(guard.admit(&slot, None), Err(WriteRefusal::NoLease))));
}

#[test]
fn a_stop_that_cannot_wait_says_so_and_a_crash_leaves_nothing_valid() {
    let mut host = alone();
    let guard = host.node().guard().unwrap();
    let under_way = guard.admit(&slot(1), None).unwrap();
    assert!(!host.take().stop(Duration::ZERO), "something was under way");
    assert!(!under_way.is_valid());
    host.start();
    wait("it writes again", || host.writes_everything());
    let guard = host.node().guard().unwrap();
    let under_way = guard.admit(&slot(2), None).unwrap();
    host.crash();
    assert!(!under_way.is_valid());
    assert!(guard.admit(&slot(2), None).is_err());
}

#[test]
fn writes_from_many_threads_are_all_counted() {
    let host = alone();
    let guard = host.node().guard().unwrap();
    let before = host.node().snapshot().member.unwrap().admitted;
    thread::scope(|scope| {
        for thread in 0..4 {
            let guard = guard.clone();
            scope.spawn(move || {
                for number in 0..1_000 {
                    let admission = guard.admit(&slot((thread * 64 + number) % 256), None);
                    assert!(admission.unwrap().is_valid());
                }
            });
        }
    });
    let member = host.node().snapshot().member.unwrap();
    assert_eq!((member.admitted - before, member.under_way), (4_000, 0));
}
