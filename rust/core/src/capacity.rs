//! How many slots each pod may own.
//!
//! The bound is (1 + epsilon) times the fair share. Were it simply rounded up, a whole class of
//! equal pods would gain or lose a slot in the same event; so the hash of each pod decides which
//! way its own bound is rounded, and the steps of a class are spread over many events.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::contender::Contender;
use crate::view::Parameters;

const MILLION: u128 = 1_000_000;

/// The shares of the pods of one view, as exact fractions.
struct Quota {
    slots: u128,
    /// Slots times (1 + epsilon), times 10^6.
    allowed: u128,
    /// The sum of all weights, times 10^6.
    whole: u128,
}

impl Quota {
    fn new(parameters: Parameters, contenders: &[Contender]) -> Self {
        let slots = u128::from(parameters.slots());
        let weights: u128 = contenders.iter().map(|pod| u128::from(pod.weight)).sum();
        Self {
            slots,
            allowed: slots * (MILLION + u128::from(parameters.epsilon_millionths())),
            whole: weights * MILLION,
        }
    }

    /// (1 + epsilon) times the fair share of a pod of this weight, as a fraction of 2^32.
    fn scaled(&self, weight: u64) -> u128 {
        // At most 2^24 * 2^40 * 2^24 * 2^32 = 2^120.
        ((self.allowed * u128::from(weight)) << 32) / self.whole
    }

    /// The same, rounded up: what no capacity ever exceeds.
    fn bound(&self, weight: u64) -> u128 {
        self.slots.min((self.allowed * u128::from(weight)).div_ceil(self.whole))
    }

    /// For each contender what `of` says of its weight, which is kept for the next of that weight,
    /// since a division of such numbers takes as long as all the rest.
    fn of_each<'a>(
        &'a self,
        contenders: &'a [Contender],
        of: impl Fn(&Self, u64) -> u128 + 'a,
    ) -> impl Iterator<Item = u128> + 'a {
        let mut kept = [(0, 0); 8];
        contenders.iter().map(move |pod| {
            let place = pod.weight.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61;
            let known = &mut kept[place as usize];
            if known.0 != pod.weight {
                *known = (pod.weight, of(self, pod.weight));
            }
            known.1
        })
    }
}

/// The most slots that each contender may own. The sum is at least the number of slots.
pub(crate) fn capacities(parameters: Parameters, contenders: &[Contender]) -> Vec<u32> {
    let quota = Quota::new(parameters, contenders);
    let scaled = quota.of_each(contenders, Quota::scaled).zip(contenders);
    let mut capacities: Vec<u32> = scaled
        .map(|(scaled, pod)| as_slots(quota.slots.min((scaled + u128::from(pod.dither)) >> 32)))
        .collect();
    let sum: u64 = capacities.iter().copied().map(u64::from).sum();
    let mut lacking = u64::from(parameters.slots()).saturating_sub(sum);
    if lacking == 0 {
        return capacities;
    }
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    order.sort_by_key(|place| (Reverse(contenders[*place].dither), contenders[*place].hash));
    for place in order {
        if lacking == 0 {
            break;
        }
        if u128::from(capacities[place]) < quota.bound(contenders[place].weight) {
            capacities[place] += 1;
            lacking -= 1;
        }
    }
    capacities
}

/// The load bound of each contender: (1 + epsilon) times its fair share, rounded up.
pub(crate) fn bounds(parameters: Parameters, contenders: &[Contender]) -> Vec<u32> {
    let quota = Quota::new(parameters, contenders);
    quota.of_each(contenders, Quota::bound).map(as_slots).collect()
}

fn as_slots(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
