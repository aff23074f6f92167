use super::*;
use crate::message::Sequence;
use crate::record::VoterId;
use crate::testing::{ballot, both, join, ms, pod, slot, without_a, writer};

/// A lease from zero.
fn lease() -> LeaseHolder {
    let mut lease = LeaseHolder::new(ms(0), Planted::default());
    lease.tick(ms(0), &both());
    for voter in [1, 2] {
        lease.renewed(ms(1), VoterId(voter), Sequence(1), &both());
    }
    lease
}

/// A slot that this pod owns in the record of both.
fn slot_of(name: &str) -> Resource {
    let owned = |resource: &Resource| both().owner(resource) == Some(writer(name, 1));
    (0..8).map(slot).find(owned).unwrap()
}

fn tag(record: &Record, resource: &Resource) -> WriteTag {
    WriteTag { epoch: record.epoch(), term: record.term(resource).unwrap() }
}

fn admit(
    guard: &Guard,
    now: Duration,
    resource: &Resource,
    tag: WriteTag,
) -> Result<Epoch, WriteRefusal> {
    guard.admit(now, &writer("a", 1), &both(), &lease(), resource, tag)
}

#[test]
fn the_owner_with_a_lease_admits_under_the_term_of_the_resource() {
    let (guard, mine) = (Guard::default(), slot_of("a"));
    let admitted = admit(&guard, ms(10), &mine, tag(&both(), &mine));
    assert_eq!(admitted, Ok(Epoch::new(2)), "since a joined");
    let over = lease().end().unwrap();
    assert_eq!(admit(&guard, over, &mine, tag(&both(), &mine)), Err(WriteRefusal::NoLease));
}

#[test]
fn what_another_owns_is_refused_with_its_owner() {
    let theirs = slot_of("b");
    let refusal = admit(&Guard::default(), ms(10), &theirs, tag(&both(), &theirs));
    let (epoch, owner) = (Epoch::new(3), Some(writer("b", 1)));
    assert_eq!(refusal, Err(WriteRefusal::NotOwner { resource: theirs, epoch, owner }));
}

#[test]
fn the_process_before_this_one_owned_it_and_this_one_does_not() {
    let (mine, again) = (slot_of("a"), join(&both(), "a", 2));
    let me = writer("a", 1);
    let refusal = Guard::default().admit(ms(10), &me, &again, &lease(), &mine, tag(&again, &mine));
    assert!(matches!(refusal, Err(WriteRefusal::NotOwner { .. })));
}

#[test]
fn older_terms_and_newer_epochs_are_refused() {
    let (guard, mine) = (Guard::default(), slot_of("a"));
    let stale = WriteTag { term: Epoch::new(1), ..tag(&both(), &mine) };
    let (expected, got) = (Epoch::new(2), Epoch::new(1));
    assert_eq!(admit(&guard, ms(10), &mine, stale), Err(WriteRefusal::StaleTerm { expected, got }));
    let newer = WriteTag { epoch: Epoch::new(4), ..tag(&both(), &mine) };
    let (installed, got) = (Epoch::new(3), Epoch::new(4));
    assert_eq!(admit(&guard, ms(10), &mine, newer), Err(WriteRefusal::Behind { installed, got }));
}

#[test]
fn what_was_released_is_refused_until_the_next_record() {
    let (mut guard, mine) = (Guard::default(), slot_of("a"));
    assert_eq!(guard.release(&without_a(), &pod("b"), ballot(1)), Release::Begun);
    let moving = Err(WriteRefusal::Moving { resource: mine.clone() });
    assert_eq!(admit(&guard, ms(10), &mine, tag(&both(), &mine)), moving);
    guard.installed();
    assert!(admit(&guard, ms(10), &mine, tag(&both(), &mine)).is_ok());
}

#[test]
fn what_a_release_leaves_goes_on() {
    let (mut guard, mine) = (Guard::default(), slot_of("a"));
    guard.release(&join(&both(), "b", 2), &pod("b"), ballot(1));
    assert!(admit(&guard, ms(10), &mine, tag(&both(), &mine)).is_ok());
}

#[test]
fn everybody_who_asked_for_this_record_is_told_when_its_writes_have_ended() {
    let mut guard = Guard::default();
    let other = join(&both(), "c", 1);
    guard.release(&without_a(), &pod("b"), ballot(1));
    assert_eq!(guard.release(&without_a(), &pod("c"), ballot(2)), Release::UnderWay);
    guard.release(&other, &pod("d"), ballot(3));
    let told = guard.quiesced(&without_a());
    assert_eq!(
        told,
        [(pod("b"), ballot(1)), (pod("c"), ballot(2))],
        "and not who asked for another"
    );
    assert_eq!(guard.release(&without_a(), &pod("b"), ballot(4)), Release::Done);
    assert_eq!(guard.release(&other, &pod("d"), ballot(5)), Release::UnderWay);
}

#[test]
fn releases_are_bounded() {
    let mut guard = Guard::default();
    for index in 0..RELEASES_MOST {
        let record = join(&both(), &format!("pod-{index}"), 1);
        assert_eq!(guard.release(&record, &pod("b"), ballot(1)), Release::Begun);
    }
    assert_eq!(guard.release(&join(&both(), "x", 1), &pod("b"), ballot(1)), Release::Refused);
}
