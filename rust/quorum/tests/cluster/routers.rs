//! Processes that follow the record.
use hashroute_coordination::Change;
use hashroute_core::Weight;
use hashroute_quorum::ChangeFailed;

use crate::support::{Host, PATIENCE, SLOW, pair_and_witness, pod, wait};

#[test]
fn a_router_is_told_each_record_and_knows_when_it_hears_nothing() {
    let (mut one, mut other, mut witness) = pair_and_witness(SLOW);
    let router = Host::without_vote(SLOW, &[&witness], None);
    let mut records = router.node().records();
    wait("it has a record", || records.borrow().is_some());
    wait("it hears a majority", || !router.node().is_stale());
    let reweight = Change::Reweight(pod("pod-b"), Weight::new(2.0).unwrap());
    let epoch = one.node().change(reweight, PATIENCE).unwrap();
    wait("it is told of the change", || {
        records.borrow_and_update().as_ref().is_some_and(|record| record.epoch() >= epoch)
    });
    assert!(router.node().guard().is_none());
    wait("each voter knows what it told the router", || {
        let voter = witness.node().snapshot().voter.unwrap();
        voter.routers.values().any(|sent| *sent >= epoch.get())
    });
    let drained = router.node().change(Change::Drain(pod("pod-b")), PATIENCE).unwrap();
    wait("it is told of its own change", || router.epoch() >= Some(drained));
    other.crash();
    witness.crash();
    wait("it knows that its record may be old", || router.node().is_stale());
    assert!(router.epoch() >= Some(drained), "it routes by it all the same");
    one.crash();
    let failed = router.node().change(Change::Drain(pod("pod-a")), PATIENCE);
    assert!(
        matches!(failed, Err(ChangeFailed::Unreachable { .. } | ChangeFailed::Told { .. })),
        "{failed:?}"
    );
    witness.start();
    one.start();
    wait("it hears a majority again", || !router.node().is_stale());
}
