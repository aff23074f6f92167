//! A ring that follows another is the ring that would have been built, whatever happened before.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hashroute_core::{
    Epoch, Parameters, Pod, PodId, PodState, Ring, Slot, View, ViewError, Weight, hash_key,
};

/// What happens in a history, from one seed.
struct Dice {
    seed: u64,
    throws: u64,
}

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.throws += 1;
        let word = self.seed ^ self.throws.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        usize::try_from(hash_key(&word.to_le_bytes()) % bound as u64).unwrap()
    }
}

/// A family of histories.
struct Story {
    bits: u32,
    epsilon: f64,
    pods: usize,
    weights: &'static [f64],
    seed: u64,
}

impl Story {
    fn pod(&self, number: usize, dice: &mut Dice) -> Pod {
        let weight = self.weights[dice.below(self.weights.len())];
        let id = PodId::new(&format!("pod-{number}")).unwrap();
        Pod { weight: Weight::new(weight).unwrap(), ..Pod::new(id) }
    }

    fn first(&self, dice: &mut Dice) -> Ring {
        let pods = (0..self.pods).map(|number| self.pod(number, dice)).collect();
        let parameters = Parameters::new(1 << self.bits, self.epsilon, self.seed).unwrap();
        Ring::build(View::new(Epoch::new(1), parameters, pods).unwrap()).unwrap()
    }

    /// A view to which `view` might change, with a few changes at once now and then.
    fn next(&self, view: &View, number: usize, dice: &mut Dice) -> Result<View, ViewError> {
        let pod = &view.pods()[dice.below(view.pods().len())];
        let id = pod.id.as_str();
        let after = match dice.below(5) {
            0 => view.without_pod(id)?,
            1 => {
                let states =
                    [PodState::Joining, PodState::Active, PodState::Draining, PodState::Down];
                view.with_state(id, states[dice.below(4)])?
            }
            2 => {
                let factor = [0.5, 0.9, 1.1, 3.0][dice.below(4)];
                view.with_weight(id, Weight::new(pod.weight.as_f64() * factor)?)?
            }
            _ => view.with_pod(self.pod(number, dice))?,
        };
        if dice.below(4) > 0 { Ok(after) } else { self.next(&after, number + 1, dice) }
    }

    /// Compares every table of one history with the one that is built anew.
    fn run(&self, events: usize) {
        let mut dice = Dice { seed: self.seed, throws: 0 };
        let mut ring = self.first(&mut dice);
        for event in 0..events {
            // A change may ask for the impossible, such as the last pod's leave: then nothing is.
            let Ok(view) = self.next(ring.view(), 1000 * (event + 1), &mut dice) else { continue };
            let Ok(built) = Ring::build(view.clone()) else { continue };
            let followed = ring.follow(view).unwrap();
            let told = format!(
                "seed {}, {} bits, epsilon {}, event {event}",
                self.seed, self.bits, self.epsilon
            );
            assert_eq!(followed.owners(), built.owners(), "{told}");
            assert_eq!(followed.slot_counts(), built.slot_counts(), "{told}");
            assert_eq!(followed.capacities(), built.capacities(), "{told}");
            for slot in (0..4).map(Slot::new) {
                assert!(followed.preference(slot).eq(built.preference(slot)), "{told}");
            }
            ring = followed;
        }
    }
}

#[test]
fn small_tables_follow_thousands_of_random_events() {
    let weights: [&[f64]; 3] = [&[1.0], &[1.0, 2.0, 4.0], &[0.3, 1.0, 7.7, 1.1e6]];
    for seed in 0..240 {
        let mut dice = Dice { seed: !seed, throws: 0 };
        let bits = 2 + u32::try_from(dice.below(10)).unwrap();
        let story = Story {
            bits,
            epsilon: [0.0, 0.01, 0.05, 0.25][dice.below(4)],
            pods: 1 + dice.below(200.min(1 << bits) - 1),
            weights: weights[dice.below(3)],
            seed,
        };
        story.run(60);
    }
}

#[test]
fn a_table_of_full_size_follows_a_thousand_pods() {
    for (seed, epsilon) in [(1, 0.05), (2, 0.0)] {
        Story { bits: 16, epsilon, pods: 1000, weights: &[1.0, 1.0, 1.0, 2.0], seed }.run(25);
    }
}

/// Numbers of slots at which a visit's number has more bits than are kept of it, and weights of
/// which there are more than are compared at once.
#[test]
fn tables_of_many_slots_follow_pods_of_many_weights() {
    let many: &[f64] = &[0.7, 0.8, 0.9, 1.0, 1.1, 1.3, 1.7, 1.9, 2.3, 2.9, 3.1, 9.1e5];
    for (seed, bits, weights) in [(3, 17, &[1.0][..]), (4, 18, &[1.0, 2.0, 4.0]), (5, 17, many)] {
        Story { bits, epsilon: 0.05, pods: 60, weights, seed }.run(15);
    }
}

#[test]
fn tables_that_agree_are_one() {
    let story = Story { bits: 10, epsilon: 0.05, pods: 5, weights: &[1.0], seed: 7 };
    let ring = story.first(&mut Dice { seed: 7, throws: 0 });
    let ready = ring.view().with_state("pod-3", PodState::Joining).unwrap();
    let followed = ring.follow(ready.clone()).unwrap();
    assert!(std::ptr::eq(ring.owners(), followed.owners()));
    assert_eq!(*followed.view(), ready);
}

#[test]
fn other_parameters_are_another_table() {
    let story = Story { bits: 10, epsilon: 0.05, pods: 5, weights: &[1.0], seed: 7 };
    let ring = story.first(&mut Dice { seed: 7, throws: 0 });
    for parameters in [(2048, 0.05, 7), (1024, 0.2, 7), (1024, 0.05, 8)] {
        let parameters = Parameters::new(parameters.0, parameters.1, parameters.2).unwrap();
        let view = View::new(Epoch::new(2), parameters, ring.view().pods().to_vec()).unwrap();
        let followed = ring.follow(view.clone()).unwrap();
        assert_eq!(followed.owners(), Ring::build(view).unwrap().owners());
    }
}
