//! P1: the owner of a key depends on the view and the key alone.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test fails by panicking")]

mod twin;

use hashroute_core::{Epoch, Parameters, Pod, PodId, PodState, Ring, Slot, View, Weight};
use proptest::prelude::*;

fn pods() -> impl Strategy<Value = Vec<(String, u64)>> {
    let weight = prop_oneof![Just(1_000_000), 1_u64..5_000_000, 1..=Weight::MILLIONTHS_MAX];
    proptest::collection::btree_map("[a-z0-9é-]{1,12}", weight, 1..40)
        .prop_map(|pods| pods.into_iter().collect())
}

fn inputs() -> impl Strategy<Value = twin::Input> {
    let epsilon = prop_oneof![Just(0), Just(50_000), 0_u64..=10_000_000];
    let seed = prop_oneof![Just(0), any::<u64>()];
    (1..=10_u32, epsilon, seed, pods()).prop_map(|(bits, epsilon_millionths, seed, mut pods)| {
        pods.truncate(1 << bits);
        twin::Input { bits, epsilon_millionths, seed, pods }
    })
}

fn view_of(input: &twin::Input) -> View {
    let epsilon = input.epsilon_millionths as f64 / 1e6;
    let parameters = Parameters::new(1 << input.bits, epsilon, input.seed).unwrap();
    let pods = input.pods.iter().map(|(id, weight)| Pod {
        weight: Weight::new(*weight as f64 / 1e6).unwrap(),
        ..Pod::new(PodId::new(id).unwrap())
    });
    View::new(Epoch::new(1), parameters, pods.collect()).unwrap()
}

/// Many pods for the slots: they fill up early and push each other out again and again. The
/// largest weight makes times so coarse that pods visit a slot at the very same time.
#[test]
fn a_crowded_table_is_the_one_of_the_plain_specification() {
    for (epsilon_millionths, weights) in [
        (0, [1_000_000; 3]),
        (50_000, [Weight::MILLIONTHS_MAX; 3]),
        (20_000, [1_000_000, 2_000_000, 4_000_000]),
    ] {
        let pods = (0..200).zip(weights.into_iter().cycle());
        let pods = pods.map(|(number, weight)| (format!("pod-{number}"), weight)).collect();
        let input = twin::Input { bits: 12, epsilon_millionths, seed: 0, pods };
        let ring = Ring::build(view_of(&input)).unwrap();
        assert_eq!(ring.owners(), &twin::assign(&input).owners[..], "weights {weights:?}");
    }
}

proptest! {
    #[test]
    fn the_table_is_the_one_of_the_plain_specification(input in inputs()) {
        let ring = Ring::build(view_of(&input)).unwrap();
        let expected = twin::assign(&input);
        prop_assert_eq!(ring.owners(), &expected.owners[..]);
        prop_assert_eq!(ring.capacities(), &expected.capacities[..]);
        prop_assert_eq!(ring.digest(), expected.digest);
        for (slot, list) in (0..).zip(&expected.preferences) {
            let got = ring.preference(Slot::new(slot)).map(|pod| pod.get());
            prop_assert!(got.eq(list.iter().copied()), "slot {}", slot);
        }
    }

    #[test]
    fn the_order_in_which_pods_are_named_means_nothing(
        (input, shuffled) in inputs().prop_flat_map(|input| {
            let shuffled = Just(input.pods.clone()).prop_shuffle();
            (Just(input), shuffled)
        })
    ) {
        let ring = Ring::build(view_of(&input)).unwrap();
        let other = Ring::build(view_of(&twin::Input { pods: shuffled, ..input })).unwrap();
        prop_assert_eq!(ring.view(), other.view());
        prop_assert_eq!(ring.owners(), other.owners());
    }

    #[test]
    fn a_view_read_back_from_json_gives_the_same_table(input in inputs()) {
        let view = view_of(&input);
        let read = View::from_json(&view.to_json()).unwrap();
        prop_assert_eq!(&read, &view);
        prop_assert_eq!(read.to_json(), view.to_json());
        prop_assert_eq!(Ring::build(read).unwrap().digest(), Ring::build(view).unwrap().digest());
    }

    #[test]
    fn the_way_to_a_view_means_nothing(input in inputs(), extra in "[A-Z]{1,8}") {
        prop_assume!(input.pods.len() < 1 << input.bits);
        let view = view_of(&input);
        let guest = Pod::new(PodId::new(&extra).unwrap());
        let detour = view.with_pod(guest).unwrap().without_pod(&extra).unwrap();
        let (ring, other) = (Ring::build(view).unwrap(), Ring::build(detour).unwrap());
        prop_assert_eq!(ring.owners(), other.owners());
        prop_assert_eq!(ring.digest(), other.digest());
    }

    #[test]
    fn a_draining_pod_counts_as_much_as_a_removed_one(input in inputs()) {
        prop_assume!(input.pods.len() > 1);
        let view = view_of(&input);
        let id = view.pods()[0].id.clone();
        let removed = Ring::build(view.without_pod(id.as_str()).unwrap()).unwrap();
        for state in [PodState::Draining, PodState::Down] {
            let ring = Ring::build(view.with_state(id.as_str(), state).unwrap()).unwrap();
            prop_assert_eq!(ring.digest(), removed.digest());
        }
    }
}
