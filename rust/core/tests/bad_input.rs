//! Input at and beyond the limits: the right answer, or the error that says what was expected.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod twin;

use hashroute_core::{
    Advice, Epoch, Parameters, PlanError, Pod, PodId, Ring, Slot, View, ViewError, Weight,
};

fn pod(id: &str, weight: f64) -> Pod {
    Pod { weight: Weight::new(weight).unwrap(), ..Pod::new(PodId::new(id).unwrap()) }
}

fn view(slots: u64, epsilon: f64, pods: Vec<Pod>) -> View {
    View::new(Epoch::new(1), Parameters::new(slots, epsilon, 0).unwrap(), pods).unwrap()
}

fn ring(slots: u64, epsilon: f64, pods: Vec<Pod>) -> Ring {
    Ring::build(view(slots, epsilon, pods)).unwrap()
}

fn numbered(pods: usize) -> Vec<Pod> {
    (0..pods).map(|number| pod(&format!("pod-{number:05}"), 1.0)).collect()
}

/// The same table by the plain specification.
fn twin_owners(view: &View) -> Vec<u16> {
    let pods = view.pods().iter().map(|pod| (pod.id.to_string(), pod.weight.millionths()));
    let input = twin::Input {
        bits: view.parameters().slots().trailing_zeros(),
        epsilon_millionths: view.parameters().epsilon_millionths(),
        seed: view.parameters().seed(),
        pods: pods.collect(),
    };
    twin::assign(&input).owners
}

#[test]
fn weights_over_a_range_of_a_million_million_are_kept_apart() {
    let weights = [1e-6, 1e-3, 1.0, 1e3, 1e6];
    let pods = || weights.iter().enumerate().map(|(n, weight)| pod(&format!("p{n}"), *weight));
    for (slots, epsilon) in [(2048, 0.05), (2048, 0.0), (1 << 17, 0.05)] {
        let ring = ring(slots, epsilon, pods().collect());
        // All but a thousandth belongs to the heaviest, and the lightest have no room at all.
        assert!(u64::from(ring.slot_counts()[4]) >= slots * 998 / 1000, "{:?}", ring.slot_counts());
        let without = ring.view().advice();
        assert!(
            without
                .iter()
                .any(|one| matches!(one, Advice::NoCapacity { pod } if pod.as_str() == "p0"))
        );
        if slots == 2048 {
            assert_eq!(ring.owners(), twin_owners(ring.view()));
        }
    }
    for (weight, code) in [(1e-7, "weight_out_of_range"), (1.2e6, "weight_out_of_range")] {
        assert_eq!(Weight::new(weight).unwrap_err().code(), code);
    }
}

#[test]
fn as_many_pods_as_a_view_can_hold_share_as_many_slots() {
    let full = ring(1 << 16, 0.05, numbered(View::PODS_MAX));
    assert_eq!(full.slot_counts().iter().sum::<u32>(), 1 << 16);
    assert!(full.slot_counts().iter().zip(full.bounds()).all(|(count, bound)| count <= bound));
    let one_more = full.view().with_pod(pod("one-more", 1.0)).unwrap_err();
    assert_eq!(one_more, ViewError::TooManyPods { pods: 65_536, pods_max: 65_535 });
    // One leaves, by the short way and by the long one.
    let view = full.view().without_pod("pod-00007").unwrap();
    let followed = full.follow(view.clone()).unwrap();
    assert_eq!(followed.owners(), Ring::build(view).unwrap().owners());
    let list: Vec<_> = followed.preference(Slot::new(5)).take(5).collect();
    assert_eq!(list.len(), 5);
}

#[test]
fn epsilon_may_be_nothing_or_ten() {
    for weights in [&[1.0; 7][..], &[1.0, 2.0, 4.0, 0.5, 3.0, 3.0, 9.0]] {
        let pods = || weights.iter().enumerate().map(|(n, weight)| pod(&format!("p{n}"), *weight));
        let tight = ring(1024, 0.0, pods().collect());
        assert_eq!(tight.capacities().iter().sum::<u32>(), 1024, "no slack anywhere");
        assert_eq!(tight.capacities(), tight.slot_counts());
        let loose = ring(1024, 10.0, pods().collect());
        assert!(loose.slot_counts().iter().zip(loose.bounds()).all(|(count, bound)| count < bound));
        for ring in [tight, loose] {
            assert_eq!(ring.owners(), twin_owners(ring.view()));
        }
    }
    for epsilon in [-0.000_001, 10.000_001] {
        let refused = Parameters::new(1024, epsilon, 0).unwrap_err();
        assert_eq!(refused, ViewError::EpsilonOutOfRange { epsilon });
    }
}

#[test]
fn slots_may_be_from_two_to_a_million() {
    for bits in 1..=20 {
        let slots = 1_u64 << bits;
        let ring = ring(slots, 0.05, numbered(2));
        assert_eq!(ring.slot_counts().iter().map(|count| u64::from(*count)).sum::<u64>(), slots);
        assert_eq!(u64::from(ring.slot(b"AAPL").get()), 0xdfb0_aa5c_25cc_e8c5 >> (64 - bits));
        for slot in [0, slots / 2, slots - 1].map(|slot| Slot::new(u32::try_from(slot).unwrap())) {
            let list: Vec<u16> = ring.preference(slot).map(|pod| pod.get()).collect();
            assert_eq!(list.len(), 2);
            assert_eq!(list[0], ring.owner(slot).get());
            assert_eq!(list[1], 1 - list[0]);
        }
        if bits <= 11 {
            assert_eq!(ring.owners(), twin_owners(ring.view()));
        }
    }
    assert_eq!(Parameters::new(1, 0.05, 0), Err(ViewError::SlotsOutOfRange { slots: 1 }));
    let crowd = View::new(Epoch::new(1), Parameters::new(2, 0.05, 0).unwrap(), numbered(3));
    assert_eq!(crowd.unwrap_err(), ViewError::MorePodsThanSlots { pods: 3, slots: 2 });
}

const LOW_TWINS: [&str; 2] = ["pod-38792", "pod-98176"];
const HIGH_TWINS: [&str; 2] = ["pod-12919", "pod-72691"];

/// Ids whose XXH3-64 agree in the low or in the high 32 bits, found by search: whoever keeps but
/// half of the hash takes them for one pod.
#[test]
fn ids_that_collide_under_half_of_the_hash_are_pods_of_their_own() {
    for [one, other] in [LOW_TWINS, HIGH_TWINS] {
        let (a, b) =
            (hashroute_core::hash_key(one.as_bytes()), hashroute_core::hash_key(other.as_bytes()));
        assert_ne!(a, b);
        assert!(a >> 32 == b >> 32 || a & 0xFFFF_FFFF == b & 0xFFFF_FFFF);
        let ring = ring(2048, 0.05, vec![pod(one, 1.0), pod(other, 1.0), pod("third", 1.0)]);
        assert_eq!(ring.owners(), twin_owners(ring.view()));
        let pods = ring.view().pods();
        for slot in (0..2048).map(Slot::new) {
            let list: Vec<&str> =
                ring.preference(slot).map(|pod| pods[pod.as_usize()].id.as_str()).collect();
            assert!(list.contains(&one) && list.contains(&other));
        }
        let fair = 2048.0 / 3.0;
        for count in ring.slot_counts() {
            assert!(f64::from(*count) > 0.8 * fair, "{:?}", ring.slot_counts());
        }
        let without = ring.view().without_pod(one).unwrap();
        assert_eq!(
            ring.follow(without.clone()).unwrap().owners(),
            Ring::build(without).unwrap().owners()
        );
    }
}

#[test]
fn a_document_of_a_later_release_says_its_version() {
    let later =
        ring(64, 0.05, numbered(2)).view().to_json().replace("\"version\":1", "\"version\":2");
    assert_eq!(View::from_json(&later), Err(ViewError::UnsupportedVersion { version: 2 }));
}

#[test]
fn a_plan_for_another_ring_is_refused() {
    let before = ring(256, 0.05, numbered(5));
    let after = before.follow(before.view().without_pod("pod-00002").unwrap()).unwrap();
    let plan = before.plan(&after, Some(16)).unwrap();
    for steps in [0, 1, plan.steps().len()] {
        assert_eq!(plan.apply_to(&before, steps).unwrap(), plan.apply(steps));
    }
    // The ring that it leads to, one of other pods, one of more slots, one of the same numbers.
    let other = ring(256, 0.05, (0..5).map(|n| pod(&format!("other-{n}"), 1.0)).collect());
    let moved = plan.moved_slots();
    assert_eq!(plan.apply_to(&after, 1), Err(PlanError::OtherRing { slots: moved }));
    assert_eq!(plan.apply_to(&other, 1), Err(PlanError::OtherRing { slots: 256 }));
    let finer = ring(512, 0.05, numbered(5));
    assert!(
        matches!(plan.apply_to(&finer, 1), Err(PlanError::OtherRing { slots }) if slots >= 256)
    );
    assert_eq!(finer.plan(&before, None), Err(PlanError::SlotsDiffer { from: 512, to: 256 }));
    let refused = plan.apply_to(&after, 1).unwrap_err();
    assert_eq!(refused.code(), "other_ring");
    assert!(refused.to_string().contains("plan again from the ring in use"));
}
