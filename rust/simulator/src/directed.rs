//! Schedules made for one question each, where the swarm would meet it rarely: the holes that a
//! review of the protocol found, and what closes them.

use std::time::Duration;

use hashroute_coordination::{Change, LeaseParameters, VoterId};

use crate::dice::Dice;
use crate::invariants::Violation;
use crate::plan::{Kind, Plan};
use crate::world::{World, entry};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Runs the schedule of the seed with a plan that was changed.
fn run(seed: u64, change: impl Fn(&mut Plan)) -> Result<(), Violation> {
    let mut dice = Dice::new(seed);
    let mut plan = Plan::swarm(&mut dice);
    change(&mut plan);
    World::new(dice, plan, None, false).run()
}

/// Three voters and so many pods where nothing fails by itself, after a second.
fn quiet(seed: u64, members: usize) -> World {
    let plan = Plan::quiet(LeaseParameters::TIGHT, members);
    let mut world = World::new(Dice::new(seed), plan, None, false);
    pass(&mut world, MS(1000));
    world
}

/// Lets time pass; nothing may break.
fn pass(world: &mut World, time: Duration) {
    let end = world.now + time;
    while world.advance(end).unwrap() {}
    world.now = end;
}

/// Without waits that follow from the length of a lease, a lease of any length needs disks that sync
/// within a tenth of a second: some of these make no record in the twelve seconds after the healing.
#[test]
fn slow_disks_make_changes_slow_and_do_not_stop_them() {
    for seed in 0..200 {
        let outcome = run(seed, |plan| {
            (plan.slow_disks, plan.sync_most) = (true, MS(200));
            plan.parameters = Plan::PATIENT;
            plan.look_at = plan.heal_at + MS(800);
            plan.end_at = plan.heal_at + MS(12_800);
            plan.kinds.retain(|kind| *kind != Kind::LoseDisk);
        });
        let broken = outcome.err().map(|violation| (violation.invariant, violation.at));
        assert_eq!(broken, None, "seed {seed}");
    }
}

/// Without asking other pods it would look for voters that are no more, for ever.
#[test]
fn a_pod_that_was_away_while_all_voters_were_replaced_finds_the_others() {
    let mut world = quiet(1, 3);
    let away = world.plan.voters;
    world.crash(away);
    pass(&mut world, MS(300));
    for old in (0..3).map(VoterId) {
        world.replace_by_fresh(old, away + 1);
        pass(&mut world, MS(300));
        let gone = world.place_of_voter(old).unwrap();
        world.crash(gone);
    }
    assert!(world.observed.latest().voters().iter().all(|voter| voter.id.0 > 2));
    world.restart(away, MS(0));
    pass(&mut world, MS(1000));
    assert_eq!(world.record_at(away).unwrap(), world.observed.latest());
    assert_eq!(world.observed.latest().writers().len(), 3);
}

/// Without the rule that who was replaced by another process of its pod takes part no more, the two
/// would take each other's place for ever: some twenty records in three seconds.
#[test]
fn two_processes_of_one_pod_do_not_fight_for_ever() {
    for seed in 0..20 {
        let mut world = quiet(seed, 2);
        let before = world.observed.latest().epoch().get();
        world.start_twin_of(world.plan.voters).unwrap();
        pass(&mut world, MS(3000));
        let records = world.observed.latest().epoch().get() - before;
        assert!((1..=6).contains(&records), "seed {seed}: {records} records");
        assert_eq!(world.observed.latest().writers().len(), 2);
    }
}

/// Without the rule that a majority of the voters to come must have been heard, a second slip of
/// the operator ends the cluster: two of three voters are then names that nobody answers to.
#[test]
fn one_wrong_address_after_another_does_not_end_the_cluster() {
    let mut world = quiet(3, 2);
    let member = world.plan.voters;
    for (slip, old) in [0, 1].map(VoterId).into_iter().enumerate() {
        let new = entry(1000 + slip as u128);
        world.wish(member, &Change::ReplaceVoter { old, new });
        pass(&mut world, MS(1000));
    }
    let reached = |id: &VoterId| world.place_of_voter(*id).is_some();
    let voters = world.observed.latest().voters().iter().map(|voter| voter.id);
    assert_eq!(voters.filter(reached).count(), 2, "the second was refused");
    let record = world.observed.latest().clone();
    let unwritable = |it: &_| world.writer_of(&record, it).is_none();
    assert!(!world.resources().iter().any(unwritable));
}

/// Without an age of what voters report, the word of one that was not heard for long would count
/// together with that of another, and end a lease that a majority grants.
#[test]
fn a_healthy_writer_is_not_replaced_because_of_an_old_report() {
    let mut world = quiet(4, 2);
    let [writer, other] = [3, 4];
    let record = world.observed.latest().clone();
    // Voter 0 says that the lease of the writer has run out, and then is not heard by the other.
    world.cut_one_way(writer, 0);
    pass(&mut world, MS(300));
    world.cut_one_way(0, other);
    world.mend_one_way(writer, 0);
    pass(&mut world, MS(400));
    // From now on voter 1 says so too: the writer's lease rests on voters 0 and 2.
    world.cut_one_way(writer, 1);
    pass(&mut world, MS(2000));
    assert_eq!(*world.observed.latest(), record, "nothing changes");
}
