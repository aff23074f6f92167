use std::time::Duration;

use hashroute_coordination::{
    Change, ClusterId, Incarnation, LeaseParameters, Record, VoterEntry, VoterId,
};
use hashroute_core::{Addresses, Epoch, Parameters, Pod, PodId, Ring, View, hash_key};
use hashroute_dataplane::error::Outcome;
use hashroute_dataplane::fleet::{LoadBound, Transport};
use hashroute_dataplane::health::Event as PodEvent;
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::retry::{Failure, Progress};
use hashroute_dataplane::write::{GaveUp, GroupName, Target, Why};

use super::{NoWriter, Router, RouterSettings, Turn, WriteRequest};
use crate::settings::RetrySettings;
use crate::writing::Goal;

const PATIENCE: Duration = Duration::from_secs(60);
const WHOLE: Progress = Progress { response_started: false, replayable: true };
const KEY: &[u8] = b"AAPL";

fn id(name: &str) -> PodId {
    PodId::new(name).unwrap()
}

fn pod(name: &str, port: u16) -> Pod {
    let addresses = Addresses { grpc: Some(format!("127.0.0.1:{port}")), zmq: None };
    Pod { addresses, ..Pod::new(id(name)) }
}

/// Pods a and b, of which none has joined; a may lead the group.
fn first() -> Record {
    let parameters = Parameters::new(64, 0.05, 0).unwrap();
    let pods = vec![pod("a", 1), pod("b", 2)];
    let view = View::new(Epoch::new(1), parameters, pods).unwrap();
    let lease = LeaseParameters {
        ttl: Duration::from_millis(300),
        renewal_interval: Duration::from_millis(50),
        drift_ppm: 1_000,
        margin: Duration::from_millis(10),
    };
    let voter = VoterEntry { id: VoterId(1), address: "127.0.0.1:9".into() };
    let record = Record::first(ClusterId(1), lease, vec![voter], &view).unwrap();
    let candidates = vec![id("a")];
    record.next(&Change::AddGroup { name: "gateway".into(), candidates }).unwrap()
}

fn join(record: &Record, name: &str, port: u16, process: u64) -> Record {
    let (pod, incarnation) = (pod(name, port), Incarnation(process));
    record.next(&Change::Join { pod, incarnation }).unwrap()
}

fn both() -> Record {
    join(&join(&first(), "a", 1, 1), "b", 2, 2)
}

/// A router that goes by `record`, whose pods nobody probes.
fn router(record: &Record) -> Router {
    let ring = Ring::build(both().view().clone()).unwrap();
    let settings = RouterSettings {
        transport: Transport::Grpc,
        load: LoadBound::new(1.0, 0).unwrap(),
        probes: None,
        retry: RetrySettings {
            attempts_max: 3,
            budget_ratio: 0.0,
            budget_reserve: 10,
            buffer_bytes: 0,
        },
    };
    let router = Router::start(ring, settings).unwrap();
    router.state.apply_record(record.clone()).unwrap();
    router
}

fn goal() -> Goal {
    Goal::Key(hash_key(KEY))
}

fn owner(record: &Record) -> String {
    let ring = record.ring().unwrap();
    record.view().pod(ring.owner_of_key(KEY)).unwrap().id.to_string()
}

/// Where the write is sent: the pod, its address, and the tag's epoch and term.
#[track_caller]
fn sent(turn: Turn) -> (String, String, u64, u64) {
    let Turn::Send(route, _permit) = turn else { panic!("not sent: {turn:?}") };
    let (pod, address) = (route.pod().unwrap().id.to_string(), route.address().unwrap());
    (pod, address.to_owned(), route.epoch().get(), route.term().get())
}

fn refused(write: &mut WriteRequest, refusal: Refusal, epoch: u64) -> Turn {
    let epoch = Some(Epoch::new(epoch));
    write.refused(Refused { refusal, epoch }, WHOLE)
}

#[test]
fn a_write_goes_to_the_owner_with_its_term_whatever_its_health_and_load() {
    let record = both();
    let router = router(&record);
    let name = owner(&record);
    router.observe(&name, PodEvent::ConnectionLost);
    let mut kept = Vec::new();
    for _ in 0..20 {
        let (route, permit) = router.choose_writer(&goal()).unwrap();
        assert_eq!(route.pod().unwrap().id.as_str(), name);
        assert_eq!(permit.pod_id().as_str(), name, "it counts as in flight where it is");
        assert_eq!(route.epoch(), record.epoch());
        let slot = record.ring().unwrap().slot(KEY);
        assert_eq!(route.target(), &Target::Slot(slot));
        assert_eq!(route.term().get(), record.slot_terms()[slot.get() as usize]);
        kept.push(permit);
    }
    assert_eq!(router.fleet().in_flight(), 20);
    drop(kept);
    assert_eq!(router.fleet().in_flight(), 0);
}

#[test]
fn a_record_that_shares_a_ring_is_routed_by_its_own_addresses_and_epoch() {
    let before = both();
    let router = router(&before);
    let name = owner(&before);
    let moved = join(&before, &name, 77, 3);
    router.state.apply_record(moved.clone()).unwrap();
    let (route, _permit) = router.choose(Some(KEY)).unwrap();
    assert_eq!(route.address(), Some("127.0.0.1:77"));
    assert_eq!(route.epoch(), moved.epoch());
    assert_eq!(route.term(), moved.epoch(), "another process of the pod has another term");
}

#[test]
fn an_older_record_is_not_gone_back_to() {
    let (older, newer) = (first(), both());
    let router = router(&newer);
    assert!(router.state.apply_record(older).is_err());
    assert!(router.state.apply_record(newer.clone()).is_err());
    assert_eq!(router.record().unwrap().epoch(), newer.epoch());
}

#[test]
fn without_a_quorum_nobody_may_write() {
    let settings = router(&both()).settings().clone();
    let ring = Ring::build(both().view().clone()).unwrap();
    let router = Router::start(ring, settings).unwrap();
    assert_eq!(router.choose_writer(&goal()).unwrap_err(), NoWriter::NotFollowing);
}

#[test]
fn a_group_is_written_at_its_leader_and_at_nobody_if_it_has_none() {
    let record = both();
    let router = router(&record);
    let group = |name| Goal::Group(GroupName::new(name).unwrap());
    let (route, _permit) = router.choose_writer(&group("gateway")).unwrap();
    assert_eq!(route.pod().unwrap().id.as_str(), "a");
    assert_eq!(route.term(), record.group("gateway").unwrap().term);
    assert!(matches!(
        router.choose_writer(&group("other")),
        Err(NoWriter::NoOwner { epoch, .. }) if epoch == record.epoch()
    ));
}

#[test]
fn a_write_waits_for_an_owner_and_goes_to_the_first_that_there_is() {
    let none = first();
    let router = router(&none);
    let mut write = router.write(goal(), false, PATIENCE);
    let turn = write.begin();
    assert!(
        matches!(turn, Turn::Wait { record, .. } if record == none.epoch().next().unwrap()),
        "{turn:?}"
    );
    assert!(matches!(write.resumed(), Turn::Wait { .. }), "nothing has changed yet");
    let joined = join(&none, "b", 2, 2);
    router.state.apply_record(joined.clone()).unwrap();
    let epoch = joined.epoch().get();
    assert_eq!(sent(write.resumed()), ("b".into(), "127.0.0.1:2".into(), epoch, epoch));
}

#[test]
fn a_refused_write_follows_the_record_that_refused_it() {
    let before = both();
    let router = router(&before);
    let mut write = router.write(goal(), false, PATIENCE);
    let (first_pod, ..) = sent(write.begin());
    let after = before.next(&Change::Drain(id(&first_pod))).unwrap();
    let turn = refused(&mut write, Refusal::NotOwner, after.epoch().get());
    assert!(matches!(turn, Turn::Wait { record, .. } if record == after.epoch()), "{turn:?}");
    router.state.apply_record(after.clone()).unwrap();
    let (next_pod, _, epoch, term) = sent(write.resumed());
    assert_ne!(next_pod, first_pod);
    assert_eq!((epoch, term), (after.epoch().get(), after.epoch().get()));
}

#[test]
fn what_is_not_tagged_right_would_be_refused_again() {
    let router = router(&both());
    let mut write = router.write(goal(), false, PATIENCE);
    sent(write.begin());
    let turn = refused(&mut write, Refusal::Untagged, 3);
    let (outcome, refusal, why) = (Outcome::NotApplied, Some(Refusal::Untagged), Why::Final);
    let end = GaveUp { outcome, refusal, why };
    assert!(matches!(turn, Turn::Fail(gave_up) if gave_up == end), "{turn:?}");
}

#[test]
fn a_write_whose_owner_changes_while_it_waits_for_its_answer_is_told_so() {
    let before = both();
    let router = router(&before);
    for idempotent in [false, true] {
        let mut write = router.write(goal(), idempotent, PATIENCE);
        let (pod, ..) = sent(write.begin());
        assert!(!write.has_moved());
        let epoch = router.record().unwrap();
        router.state.apply_record(epoch.next(&Change::Drain(id(&pod))).unwrap()).unwrap();
        assert!(write.has_moved());
        let turn = write.moved(WHOLE);
        if idempotent {
            assert_ne!(sent(turn).0, pod);
            assert!(!write.has_moved());
        } else {
            assert!(matches!(turn, Turn::Stay { until: Some(_) }), "{turn:?}");
            // The other pod is drained next, so this one has to own something again.
            let back = join(&router.record().unwrap(), &pod, 1, 9);
            router.state.apply_record(back).unwrap();
        }
    }
}

#[test]
fn a_lost_write_is_unknown_unless_it_may_be_repeated() {
    let router = router(&both());
    let mut write = router.write(goal(), false, PATIENCE);
    sent(write.begin());
    let turn = write.failed(Failure::Lost, WHOLE);
    let (outcome, refusal, why) = (Outcome::Unknown, None, Why::MayBeApplied);
    let end = GaveUp { outcome, refusal, why };
    assert!(matches!(turn, Turn::Fail(gave_up) if gave_up == end), "{turn:?}");
    let mut write = router.write(goal(), true, PATIENCE);
    sent(write.begin());
    assert!(matches!(write.failed(Failure::Lost, WHOLE), Turn::Wait { .. }));
    assert_eq!(write.outcome(false), Outcome::Unknown);
}

#[test]
fn a_pod_without_an_address_for_the_transport_is_sent_nothing() {
    let record = first();
    let pod = Pod::new(id("a"));
    let joined = record.next(&Change::Join { pod, incarnation: Incarnation(1) }).unwrap();
    let router = router(&joined);
    assert!(matches!(router.choose_writer(&goal()), Err(NoWriter::NoOwner { .. })));
    assert_eq!(router.fleet().in_flight(), 0);
}

#[test]
fn every_change_wakes_who_waits_for_one() {
    let router = router(&first());
    let seen = router.wait_for_change(0, Duration::ZERO);
    router.state.apply_record(both()).unwrap();
    assert_eq!(router.wait_for_change(seen, PATIENCE), seen + 1);
    router.observe("a", PodEvent::ConnectionLost);
    assert_eq!(router.wait_for_change(seen + 1, PATIENCE), seen + 2);
    router.nudge();
    assert_eq!(router.wait_for_change(seen + 2, PATIENCE), seen + 3);
}
