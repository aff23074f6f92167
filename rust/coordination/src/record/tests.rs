use super::*;
use crate::testing::{both, entry, first, join, pod, slot, without_a, writer};

fn slots() -> impl Iterator<Item = Resource> {
    (0..8).map(slot)
}

fn group() -> Resource {
    Resource::Group(Arc::from("gateway"))
}

fn with_group() -> Record {
    let (name, candidates) = (Arc::from("gateway"), vec![pod("a"), pod("b")]);
    both().next(&Change::AddGroup { name, candidates }).unwrap()
}

#[test]
fn what_is_remembered_of_two_records_is_not_said_of_another_pair() {
    let next = without_a();
    for _ in 0..2 {
        assert_eq!(both().losers(&next), [writer("a", 1)]);
        assert_eq!(next.losers(&next), []);
        assert_eq!(next.check_follows(&both()), Ok(()));
        assert!(next.check_follows(&next).is_err());
    }
}

#[test]
fn nobody_owns_anything_before_the_first_process_joins() {
    assert!(slots().all(|slot| first().owner(&slot).is_none()));
    let one = join(&first(), "a", 1);
    assert!(slots().all(|slot| one.owner(&slot) == Some(writer("a", 1))));
}

#[test]
fn a_slot_keeps_its_term_while_its_process_does() {
    let (one, two) = (join(&first(), "a", 1), both());
    for slot in slots() {
        let stays = two.owner(&slot) == one.owner(&slot);
        let term = if stays { one.term(&slot).unwrap() } else { two.epoch() };
        assert_eq!(two.term(&slot), Some(term));
    }
    let again = join(&two, "a", 2);
    for slot in slots().filter(|slot| again.owner(slot) == Some(writer("a", 2))) {
        assert_eq!(again.term(&slot), Some(again.epoch()), "another process, another term");
    }
}

#[test]
fn losers_are_the_processes_that_own_less() {
    let two = both();
    assert_eq!(two.losers(&without_a()), [writer("a", 1)]);
    assert_eq!(two.losers(&join(&two, "b", 2)), [writer("b", 1)]);
    assert_eq!(two.losers(&two.next(&Change::Nothing).unwrap()), []);
    let nobody = without_a().next(&Change::Fail(writer("b", 1))).unwrap();
    assert_eq!(without_a().losers(&nobody), [writer("b", 1)], "also if nobody gets it");
}

#[test]
fn a_process_that_joins_again_does_not_undo_what_was_agreed_on_its_weight() {
    let weight = hashroute_core::Weight::new(3.0).unwrap();
    let reweighted = both().next(&Change::Reweight(pod("a"), weight)).unwrap();
    let again = join(&reweighted, "a", 2);
    let weight_of = |record: &Record| record.view().pods().iter().map(|it| it.weight).collect();
    let (before, after): (Vec<_>, Vec<_>) = (weight_of(&reweighted), weight_of(&again));
    assert_eq!(after, before, "what the process says of itself has a weight of 1");
}

#[test]
fn a_group_is_led_by_the_best_candidate_until_it_fails_or_is_moved() {
    let led = with_group();
    assert_eq!(led.owner(&group()), Some(writer("a", 1)));
    assert_eq!(led.term(&group()), Some(led.epoch()));
    let (name, leader) = (Arc::from("gateway"), pod("b"));
    let moved = led.next(&Change::Lead { group: name, leader }).unwrap();
    assert_eq!(moved.owner(&group()), Some(writer("b", 1)));
    assert_eq!(led.losers(&moved), [writer("a", 1)]);
    let failed = led.next(&Change::Fail(writer("a", 1))).unwrap();
    assert_eq!(failed.owner(&group()), Some(writer("b", 1)));
    let back = join(&failed, "a", 2);
    assert_eq!(back.owner(&group()), Some(writer("b", 1)), "who leads goes on leading");
    assert_eq!(back.term(&group()), failed.term(&group()));
}

#[test]
fn a_drained_pod_owns_nothing_and_its_next_process_does_again() {
    let drained = with_group().next(&Change::Drain(pod("a"))).unwrap();
    assert!(slots().all(|slot| drained.owner(&slot) == Some(writer("b", 1))));
    assert_eq!(drained.owner(&group()), Some(writer("b", 1)));
    assert!(drained.names(&writer("a", 1)), "it is a member all the same");
    let again = join(&drained, "a", 2);
    assert!(slots().any(|slot| again.owner(&slot) == Some(writer("a", 2))));
}

#[test]
fn what_cannot_be_changed_is_said() {
    let led = with_group();
    let (known, unknown): (Arc<str>, Arc<str>) = (Arc::from("gateway"), Arc::from("other"));
    let lead = |group: &Arc<str>, name: &str| {
        led.next(&Change::Lead { group: Arc::clone(group), leader: pod(name) }).unwrap_err().code()
    };
    assert_eq!(lead(&unknown, "a"), "unknown_group");
    assert_eq!(lead(&known, "x"), "no_writer");
    let three = join(&led, "c", 1);
    let stranger = Change::Lead { group: Arc::clone(&known), leader: pod("c") };
    assert_eq!(three.next(&stranger).unwrap_err().code(), "not_a_candidate");
    let again = Change::AddGroup { name: known, candidates: Vec::new() };
    let code = |change: &Change| led.next(change).unwrap_err().code();
    assert_eq!(code(&again), "duplicate_group");
    assert_eq!(code(&Change::Fail(writer("a", 2))), "no_writer");
    assert_eq!(code(&Change::Drain(pod("x"))), "unknown_pod");
    let (joining, incarnation) = (Pod::new(pod("a")), Incarnation(1));
    assert_eq!(code(&Change::Join { pod: joining, incarnation }), "already_writer");
    let replace = |old, new| Change::ReplaceVoter { old: VoterId(old), new: entry(new) };
    assert_eq!(code(&replace(9, 4)), "unknown_voter");
    assert_eq!(code(&replace(1, 2)), "voters");
}

#[test]
fn terms_that_the_history_does_not_give_may_not_follow() {
    let (before, after) = (both(), without_a());
    assert_eq!(after.check_follows(&before), Ok(()));
    assert!(before.check_follows(&before).is_err(), "not the next epoch");
    let terms = before.slot_terms().to_vec();
    let forged = Record::restore(RecordFields { terms, ..after.fields() }, None);
    assert!(forged.unwrap().check_follows(&before).is_err(), "terms of the owner before");
}

/// What is wrong with a record with a group that `change` has changed.
fn refused(change: impl FnOnce(&mut RecordFields)) -> &'static str {
    let mut fields = with_group().fields();
    change(&mut fields);
    let restored = Record::restore(fields, None);
    let Err(ChangeError::Malformed { what }) = restored else { panic!("not refused") };
    what
}

#[test]
fn what_is_restored_is_the_same_record() {
    let records = [first(), both(), without_a(), with_group()];
    for record in &records {
        for near in [None].into_iter().chain(records.iter().map(Some)) {
            let restored = Record::restore(record.fields(), near).unwrap();
            assert_eq!(restored, *record);
            assert_eq!(restored.table(), record.table(), "{near:?}");
        }
    }
}

#[test]
fn what_is_restored_is_checked() {
    let terms = "the terms are not one for each slot";
    assert_eq!(refused(|it| it.terms.truncate(7)), terms);
    let late = "a term is later than the epoch";
    assert_eq!(refused(|it| it.terms[3] = it.view.epoch().get() + 1), late);
    assert_eq!(refused(|it| it.groups[0].term = it.view.epoch().next().unwrap()), late);
    let stranger = "a writer is not in the view";
    assert_eq!(refused(|it| it.writers.extend([(pod("x"), Incarnation(1))])), stranger);
    let unsorted = "the groups are not sorted by name, or two have the same";
    assert_eq!(refused(|it| it.groups.push(it.groups[0].clone())), unsorted);
    let earlier = |it: &RecordFields| Group { name: Arc::from("a"), ..it.groups[0].clone() };
    assert_eq!(refused(|it| it.groups.push(earlier(it))), unsorted);
    let leader = "a leader is no candidate of its group, or has no writer";
    assert_eq!(refused(|it| it.groups[0].candidates.retain(|pod| pod.as_str() != "a")), leader);
    assert_eq!(refused(|it| it.writers.retain(|it, _| it.as_str() != "a")), leader);
}

#[test]
fn the_first_record_has_the_groups_and_nobody_leads_them_until_one_joins() {
    let before = first();
    let found = |groups: &[(Arc<str>, Vec<PodId>)]| {
        let (cluster, parameters) = (before.cluster(), before.parameters());
        let (voters, view) = (before.voters().to_vec(), before.view());
        Record::first_with_groups(cluster, parameters, voters, view, groups)
    };
    let gateway = (Arc::from("gateway"), vec![pod("b"), pod("a")]);
    let engine = (Arc::from("engine"), vec![pod("a")]);
    let founded = found(&[gateway.clone(), engine]).unwrap();
    let names: Vec<&str> = founded.groups().iter().map(|group| &*group.name).collect();
    assert_eq!(names, ["engine", "gateway"], "sorted");
    assert_eq!(founded.owner(&group()), None);
    let one = join(&founded, "a", 1);
    assert_eq!(one.check_follows(&founded), Ok(()));
    assert_eq!(one.owner(&group()), Some(writer("a", 1)), "the best one is not there");
    let twice = found(&[gateway.clone(), gateway]);
    assert_eq!(twice.unwrap_err().code(), "duplicate_group");
    assert_eq!(found(&[]), Ok(before.clone()));
}

#[test]
fn a_leader_that_steps_down_is_followed_by_the_best_of_the_others() {
    let led = with_group();
    let step_down = |record: &Record, leader: &str| {
        record.next(&Change::StepDown { group: Arc::from("gateway"), leader: pod(leader) })
    };
    let after = step_down(&led, "a").unwrap();
    assert_eq!(after.owner(&group()), Some(writer("b", 1)));
    assert_eq!(after.term(&group()), Some(after.epoch()));
    assert_eq!(led.losers(&after), [writer("a", 1)]);
    // Asked for twice it moves the group once: the second time somebody else leads.
    assert_eq!(step_down(&after, "a").unwrap_err().code(), "not_the_leader");
    let back = step_down(&after, "b").unwrap();
    assert_eq!(back.owner(&group()), Some(writer("a", 1)), "the best candidate leads again");
    let alone = led.next(&Change::Drain(pod("b"))).unwrap();
    assert_eq!(step_down(&alone, "a").unwrap_err().code(), "no_other_candidate");
    let nowhere = Change::StepDown { group: Arc::from("other"), leader: pod("a") };
    assert_eq!(led.next(&nowhere).unwrap_err().code(), "unknown_group");
}

#[test]
fn a_drain_can_be_undone_without_a_restart() {
    let drained = both().next(&Change::Drain(pod("a"))).unwrap();
    assert!(slots().all(|slot| drained.owner(&slot) == Some(writer("b", 1))));
    let again = drained.next(&Change::Activate(pod("a"))).unwrap();
    for slot in slots() {
        assert_eq!(again.owner(&slot), both().owner(&slot), "the same slots");
        let moved = again.owner(&slot) != drained.owner(&slot);
        assert_eq!(again.term(&slot) == Some(again.epoch()), moved);
    }
    let down = without_a().next(&Change::Activate(pod("a")));
    assert_eq!(down.unwrap_err().code(), "no_writer", "a dead one has to join");
    assert_eq!(both().next(&Change::Activate(pod("x"))).unwrap_err().code(), "unknown_pod");
}
