//! P3: no pod owns more than (1 + epsilon) times its fair share, rounded up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, View, Weight};
use proptest::prelude::*;

/// The bound, by exact arithmetic on the numbers as a user writes them.
fn bound(view: &View, pod: &Pod) -> u128 {
    let parameters = view.parameters();
    let sum: u128 = view.pods().iter().map(|pod| u128::from(pod.weight.millionths())).sum();
    let allowed = u128::from(parameters.slots())
        * u128::from(pod.weight.millionths())
        * u128::from(1_000_000 + parameters.epsilon_millionths());
    allowed.div_ceil(sum * 1_000_000).min(u128::from(parameters.slots()))
}

fn views() -> impl Strategy<Value = View> {
    let weight = prop_oneof![Just(1.0), 0.1..4.0_f64, 1e-6..1e6_f64];
    let epsilon = prop_oneof![Just(0.0), Just(0.05), 0.0..=10.0_f64];
    (1..=11_u32, epsilon, proptest::collection::vec(weight, 1..80)).prop_map(
        |(bits, epsilon, weights)| {
            let pods = weights.iter().take(1 << bits).enumerate().map(|(number, weight)| Pod {
                weight: Weight::new(*weight).unwrap(),
                ..Pod::new(PodId::new(&format!("pod-{number:02}")).unwrap())
            });
            let parameters = Parameters::new(1 << bits, epsilon, 0).unwrap();
            View::new(Epoch::new(1), parameters, pods.collect()).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn no_pod_exceeds_its_capacity_and_no_capacity_its_bound(view in views()) {
        let ring = Ring::build(view.clone()).unwrap();
        let slots = u64::from(view.parameters().slots());
        let mut counted = vec![0_u32; view.pods().len()];
        for owner in ring.owners() {
            counted[usize::from(*owner)] += 1;
        }
        prop_assert_eq!(&counted[..], ring.slot_counts());
        for (place, pod) in view.pods().iter().enumerate() {
            prop_assert!(counted[place] <= ring.capacities()[place]);
            prop_assert!(ring.capacities()[place] <= ring.bounds()[place]);
            prop_assert_eq!(u128::from(ring.bounds()[place]), bound(&view, pod));
        }
        let sum: u64 = ring.capacities().iter().copied().map(u64::from).sum();
        prop_assert!(sum >= slots);
        let shares: f64 = ring.shares().iter().sum();
        prop_assert!((shares - 1.0).abs() < 1e-9);
        let fair: f64 = ring.fair_shares().iter().sum();
        prop_assert!((fair - 1.0).abs() < 1e-9);
    }
}
