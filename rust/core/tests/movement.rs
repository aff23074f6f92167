//! P2 and P3 along the way: a change moves what it must, and every step is a valid table.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};

use hashroute_core::{
    Epoch, Move, Parameters, Plan, PlanOptions, Pod, PodId, PodState, Ring, Step, View, Weight,
};
use proptest::prelude::*;

fn pod(id: &str, weight: f64) -> Pod {
    Pod { weight: Weight::new(weight).unwrap(), ..Pod::new(PodId::new(id).unwrap()) }
}

fn view(bits: u32, epsilon: f64, weights: &[f64]) -> View {
    let pods = weights.iter().take(1 << bits).enumerate();
    let pods = pods.map(|(number, weight)| pod(&format!("pod-{number:02}"), *weight)).collect();
    View::new(Epoch::new(1), Parameters::new(1 << bits, epsilon, 0).unwrap(), pods).unwrap()
}

fn views() -> impl Strategy<Value = View> {
    let weight = prop_oneof![Just(1.0), Just(2.0), 0.1..4.0_f64];
    let epsilon = prop_oneof![Just(0.0), Just(0.05), 0.0..0.5_f64];
    (3..=10_u32, epsilon, proptest::collection::vec(weight, 2..40))
        .prop_map(|(bits, epsilon, weights)| view(bits, epsilon, &weights))
}

/// A view and one that somebody might turn it into.
fn changes() -> impl Strategy<Value = (View, View)> {
    (views(), 0..5_u32, any::<prop::sample::Index>(), 0.2..5.0_f64).prop_map(
        |(before, kind, pick, weight)| {
            let id = before.pods()[pick.index(before.pods().len())].id.to_string();
            let after = match kind {
                0 => before.without_pod(&id),
                1 => before.with_state(&id, PodState::Down),
                2 => before.with_weight(&id, Weight::new(weight).unwrap()),
                3 => before.with_pod(pod("a-new-pod", weight)),
                _ => before.without_pod(&id).and_then(|view| view.with_pod(pod("z", weight))),
            };
            // A join may be one pod too many for a few slots: then nothing changes.
            (before.clone(), after.unwrap_or(before))
        },
    )
}

fn ring(view: &View) -> Ring {
    Ring::build(view.clone()).unwrap()
}

fn owner_ids(ring: &Ring) -> Vec<String> {
    let pods = ring.view().pods();
    ring.owners().iter().map(|owner| pods[usize::from(*owner)].id.to_string()).collect()
}

fn planned_ids(plan: &Plan, steps: usize) -> Vec<String> {
    plan.apply(steps).iter().map(|owner| plan.pods()[usize::from(*owner)].to_string()).collect()
}

/// How many slots each pod owns.
fn loads(owners: &[String]) -> HashMap<&str, u32> {
    let mut loads = HashMap::new();
    for owner in owners {
        *loads.entry(owner.as_str()).or_insert(0) += 1;
    }
    loads
}

/// The larger bound of a pod in two rings.
fn bound(rings: [&Ring; 2], id: &str) -> u32 {
    let of = |ring: &Ring| ring.view().index_of(id).map_or(0, |pod| ring.bounds()[pod.as_usize()]);
    rings.map(of).into_iter().max().unwrap()
}

/// The pods that own slots before and are down after.
fn failed(before: &Ring, after: &Ring) -> HashSet<String> {
    let view = after.view();
    let state = |id: &str| view.index_of(id).and_then(|pod| view.pod(pod)).map(|pod| pod.state);
    let owners = owner_ids(before).into_iter();
    owners.filter(|id| state(id) == Some(PodState::Down)).collect()
}

proptest! {
    #[test]
    fn a_pod_that_leaves_moves_only_its_own_slots_and_what_the_bound_forces(
        before in views(), pick in any::<prop::sample::Index>(),
    ) {
        let left = before.pods()[pick.index(before.pods().len())].id.to_string();
        let (before, after) = (ring(&before), ring(&before.without_pod(&left).unwrap()));
        let (old, new) = (owner_ids(&before), owner_ids(&after));
        for (old, new) in old.iter().zip(&new) {
            if old == new || *old == left {
                continue;
            }
            // Another pod lost this slot. Either the bound pushed it out, and it is full; or the
            // slot went to a pod that visits it earlier, which the bound had kept from it.
            let loser = after.view().index_of(old).unwrap();
            let full = after.slot_counts()[loser.as_usize()] == after.capacities()[loser.as_usize()];
            let winner = before.view().index_of(new).unwrap();
            let was_full = before.slot_counts()[winner.as_usize()]
                == before.capacities()[winner.as_usize()];
            prop_assert!(full || was_full);
        }
    }

    #[test]
    fn without_a_bound_exactly_the_least_moves(
        weights in proptest::collection::vec(0.5..2.0_f64, 2..30),
        pick in any::<prop::sample::Index>(),
    ) {
        // With epsilon 10 no pod of these is ever full.
        let all = view(10, 10.0, &weights);
        let left = all.pods()[pick.index(all.pods().len())].id.to_string();
        let (with, without) = (ring(&all), ring(&all.without_pod(&left).unwrap()));
        for (old, new) in owner_ids(&with).iter().zip(&owner_ids(&without)) {
            prop_assert_eq!(old == new, *old != left);
        }
        let leave = with.plan(&without, None).unwrap();
        prop_assert_eq!(leave.moved_slots(), leave.least_slots());
        let join = without.plan(&with, None).unwrap();
        prop_assert_eq!(join.moved_slots(), join.least_slots());
    }

    #[test]
    fn a_plan_leads_from_one_table_to_the_other_within_every_bound(
        (before, after) in changes(), slots_per_step in 1_u32..64,
    ) {
        let (before, after) = (ring(&before), ring(&after));
        let slots = before.view().parameters().slots();
        // A step of all slots always has a plan; a smaller one where there is a place to spare.
        let plan = match before.plan(&after, Some(slots_per_step)) {
            Ok(plan) => plan,
            Err(_) => {
                let spare: u32 = after.view().pods().iter().map(|pod| {
                    bound([&before, &after], pod.id.as_str())
                }).sum();
                prop_assert_eq!(spare, slots, "refused although there is room");
                before.plan(&after, Some(slots)).unwrap()
            }
        };
        let old = owner_ids(&before);
        prop_assert_eq!(&planned_ids(&plan, 0), &old);
        let mut table = old.clone();
        for step in 0..plan.steps().len() {
            let moves = &plan.steps()[step].moves;
            prop_assert!(!moves.is_empty());
            let distinct: HashSet<_> = moves.iter().map(|one| one.slot).collect();
            prop_assert_eq!(distinct.len(), moves.len());
            for one in moves {
                let owner = &mut table[one.slot.get() as usize];
                prop_assert_eq!(&*owner, plan.pods()[one.from.as_usize()].as_str());
                *owner = plan.pods()[one.to.as_usize()].to_string();
            }
            prop_assert_eq!(&planned_ids(&plan, step + 1), &table);
            for (id, load) in loads(&table) {
                prop_assert!(load <= bound([&before, &after], id), "{} after step {}", id, step);
            }
        }
        prop_assert_eq!(&table, &owner_ids(&after));
        let moved = old.iter().zip(&table).filter(|(old, new)| old != new).count();
        prop_assert_eq!(plan.moved_slots() as usize, moved);
        prop_assert!(plan.least_slots() <= plan.moved_slots());
    }

    #[test]
    fn a_step_never_moves_more_than_it_may(
        (before, after) in changes(), slots_per_step in 1_u32..64,
    ) {
        let (before, after) = (ring(&before), ring(&after));
        if let Ok(plan) = before.plan(&after, Some(slots_per_step)) {
            // What failed does not wait for its step.
            for step in plan.steps().iter().skip(usize::from(!failed(&before, &after).is_empty())) {
                prop_assert!(step.moves.len() <= slots_per_step as usize);
            }
        }
    }

    #[test]
    fn what_failed_goes_first_and_the_rest_of_the_change_keeps_to_its_limits(
        before in views(),
        failing in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
        joins in any::<bool>(),
        slots_per_step in 1_u32..64,
        warm_up_steps in 1_u32..5,
    ) {
        let mut down = before.clone();
        for pick in failing {
            let id = before.pods()[pick.index(before.pods().len())].id.to_string();
            down = down.with_state(&id, PodState::Down).unwrap();
        }
        let after = match joins {
            true => down.with_pod(pod("a-new-pod", 1.0)).unwrap(),
            false => down,
        };
        let Ok(after) = Ring::build(after) else { return Ok(()) };
        let before = ring(&before);
        let lost = failed(&before, &after);
        // A pod that owned nothing has nothing to lose: it goes with the rest of the change.
        let down = lost.iter().fold(before.view().clone(), |view, id| {
            view.with_state(id, PodState::Down).unwrap()
        });
        let options = PlanOptions { slots_per_step: Some(slots_per_step), warm_up_steps };
        // From the table without them on there may be no room to move a slot at a time.
        let Ok(plan) = before.plan_with(&after, options) else { return Ok(()) };

        prop_assert!(lost.is_empty() || !plan.steps().is_empty());
        for step in 1..=plan.steps().len() {
            let table = planned_ids(&plan, step);
            prop_assert!(lost.is_empty() || !table.iter().any(|id| lost.contains(id)));
        }
        if let Ok(without) = Ring::build(down)
            && !lost.is_empty()
        {
            prop_assert_eq!(planned_ids(&plan, 1), owner_ids(&without));
            for step in &plan.steps()[1..] {
                prop_assert!(step.moves.len() <= slots_per_step as usize);
            }
            // The rest is the plan from there; unless a pod that is down at the end, and owned
            // nothing at the start, got a slot on the way, which that plan would call a failure.
            if failed(&without, &after).is_empty() {
                let rest = without.plan_with(&after, options).unwrap();
                let sizes = |steps: &[Step]| -> Vec<usize> {
                    steps.iter().map(|step| step.moves.len()).collect()
                };
                prop_assert_eq!(sizes(&plan.steps()[1..]), sizes(rest.steps()));
            }
        } else if !lost.is_empty() {
            prop_assert_eq!(plan.steps().len(), 1, "nobody is left who could wait");
        }
        prop_assert_eq!(planned_ids(&plan, plan.steps().len()), owner_ids(&after));
        prop_assert!(plan.least_slots() <= plan.moved_slots());
    }

    #[test]
    fn a_failure_is_one_step_and_the_plan_back_undoes_it((before, after) in changes()) {
        let (before, after) = (ring(&before), ring(&after));
        let there = before.plan(&after, None).unwrap();
        prop_assert!(there.steps().len() <= 1);
        let back = after.plan(&before, None).unwrap();
        prop_assert_eq!(planned_ids(&back, 0), planned_ids(&there, 1));
        prop_assert_eq!(planned_ids(&back, 1), planned_ids(&there, 0));
        prop_assert_eq!(back.moved_slots(), there.moved_slots());
    }

    #[test]
    fn a_plan_made_again_after_a_crash_goes_on_where_it_stopped(
        (before, after) in changes(), slots_per_step in 1_u32..64, done in 0_usize..40,
    ) {
        let options = PlanOptions { slots_per_step: Some(slots_per_step), warm_up_steps: 3 };
        if let Ok(plan) = ring(&before).plan_with(&ring(&after), options) {
            // Another process knows the two views, the options and the number of steps done.
            let read = |view: &View| ring(&View::from_json(&view.to_json()).unwrap());
            let again = read(&before).plan_with(&read(&after), options).unwrap();
            let mut table = planned_ids(&again, done);
            prop_assert_eq!(&table, &planned_ids(&plan, done));
            for one in again.steps().iter().skip(done).flat_map(|step| &step.moves) {
                table[one.slot.get() as usize] = again.pods()[one.to.as_usize()].to_string();
            }
            prop_assert_eq!(table, owner_ids(&ring(&after)));
        }
    }

    #[test]
    fn a_joining_pod_takes_its_share_over_the_steps_of_its_warm_up(
        before in views(), slots_per_step in prop::option::of(1_u32..64), warm_up_steps in 1_u32..9,
    ) {
        let Ok(after) = before.with_pod(pod("a-new-pod", 1.0)) else { return Ok(()) };
        let (before, after) = (ring(&before), ring(&after));
        let options = PlanOptions { slots_per_step, warm_up_steps };
        if let Ok(plan) = before.plan_with(&after, options) {
            let index = after.view().index_of("a-new-pod").unwrap();
            let share = after.slot_counts()[index.as_usize()];
            for step in plan.steps() {
                let joins = |one: &&Move| plan.pods()[one.to.as_usize()].as_str() == "a-new-pod";
                let gained: u32 = step.moves.iter().filter(joins).map(|_| 1).sum();
                prop_assert!(gained <= share.div_ceil(warm_up_steps).max(1));
            }
        }
    }
}

/// Pods of weight 1 in zones in turn.
fn zoned(pods: u32, zones: u32) -> View {
    let pods = (0..pods).map(|number| Pod {
        zone: Some(format!("zone-{}", number % zones).as_str().into()),
        ..pod(&format!("pod-{number:02}"), 1.0)
    });
    View::new(Epoch::new(1), Parameters::new(4096, 0.05, 0).unwrap(), pods.collect()).unwrap()
}

#[test]
fn no_step_takes_more_than_half_of_its_slots_from_one_zone() {
    let before = ring(&zoned(12, 3));
    for (after, slots_per_step) in [(9, 100), (10, 7), (11, 1), (15, 64)] {
        let after = ring(&zoned(after, 3));
        let plan = before.plan(&after, Some(slots_per_step)).unwrap();
        for step in plan.steps() {
            let mut left = HashMap::new();
            for one in &step.moves {
                let pod = before.view().index_of(plan.pods()[one.from.as_usize()].as_str());
                let zone = before.view().pod(pod.unwrap()).unwrap().zone.clone();
                *left.entry(zone).or_insert(0) += 1;
            }
            assert!(left.values().all(|left| *left <= slots_per_step.div_ceil(2)), "{left:?}");
        }
        assert_eq!(planned_ids(&plan, plan.steps().len()), owner_ids(&after));
    }
    // A failure is still one step: there is nothing left to spare.
    assert_eq!(before.plan(&ring(&zoned(9, 3)), None).unwrap().steps().len(), 1);
}
