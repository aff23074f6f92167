//! The assignment written a second time, as plainly as `docs/assignment.md` says it: every pair of
//! pod and slot is scored, all pairs are sorted, and slots are given away in that order. It shares
//! nothing with the crate but the hash function.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What enters the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) bits: u32,
    pub(crate) epsilon_millionths: u64,
    pub(crate) seed: u64,
    /// Ids and weights in millionths, in any order.
    pub(crate) pods: Vec<(String, u64)>,
}

/// The result, with pods numbered by id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) owners: Vec<u16>,
    pub(crate) capacities: Vec<u32>,
    pub(crate) digest: u64,
    /// Each slot's preference list, where no pod has a zone.
    pub(crate) preferences: Vec<Vec<u16>>,
}

struct Racer {
    hash: u64,
    number_by_id: u16,
    weight: u64,
    /// [m1, c, m2, m3, step, phase, u]
    words: [u64; 7],
}

pub(crate) fn assign(input: &Input) -> Output {
    let slots = 1_u64 << input.bits;
    let racers = racers(input);
    let caps = capacities(input, &racers);
    let tau = tau(slots);

    let mut pairs: Vec<(u64, usize, u64, u64)> = Vec::new();
    for (j, racer) in racers.iter().enumerate() {
        for k in 0..slots {
            pairs.push((time(racer, &tau, k), j, k, slot_of(racer, k, input.bits)));
        }
    }
    pairs.sort_unstable();

    let mut owners = vec![None; slots as usize];
    let mut held = vec![0; racers.len()];
    let mut visitors = vec![Vec::new(); slots as usize];
    for (_, j, k, slot) in pairs {
        visitors[slot as usize].push((j, k));
        if owners[slot as usize].is_none() && held[j] < caps[j] {
            owners[slot as usize] = Some(j);
            held[j] += 1;
        }
    }
    let owners: Vec<usize> =
        owners.into_iter().map(|owner| owner.expect("caps sum to M")).collect();

    let preferences = preferences(&owners, &visitors, &caps)
        .into_iter()
        .map(|list| list.into_iter().map(|j| racers[j].number_by_id).collect())
        .collect();
    let mut digest = 0xCBF2_9CE4_8422_2325_u64;
    for owner in &owners {
        for byte in racers[*owner].hash.to_le_bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
    let mut capacities = vec![0; racers.len()];
    for (racer, cap) in racers.iter().zip(caps) {
        capacities[usize::from(racer.number_by_id)] = u32::try_from(cap).unwrap();
    }
    let owners = owners.into_iter().map(|owner| racers[owner].number_by_id).collect();
    Output { owners, capacities, digest, preferences }
}

/// The owner, then who would take the slot if the owner were lost, then the rest; by time of visit.
fn preferences(owners: &[usize], visitors: &[Vec<(usize, u64)>], caps: &[u64]) -> Vec<Vec<usize>> {
    let slots = owners.len() as u64;
    let mut held = vec![0; caps.len()];
    let mut latest = vec![0; caps.len()];
    for (owner, visitors) in owners.iter().zip(visitors) {
        held[*owner] += 1;
        let (_, k) = visitors.iter().find(|(j, _)| j == owner).unwrap();
        latest[*owner] = (*k).max(latest[*owner]);
    }
    let list = |owner: &usize, visitors: &Vec<(usize, u64)>| {
        let takes = |(j, k): &(usize, u64)| {
            let reach = if held[*j] < caps[*j] { slots } else { latest[*j] };
            k * slots.saturating_sub(2 * held[*owner]) < reach * slots
        };
        let others = visitors.iter().copied().filter(|(j, _)| j != owner);
        let (first, rest): (Vec<_>, Vec<_>) = others.partition(takes);
        let successors = first.into_iter().chain(rest).map(|(j, _)| j);
        std::iter::once(*owner).chain(successors).collect()
    };
    owners.iter().zip(visitors).map(|(owner, visitors)| list(owner, visitors)).collect()
}

fn racers(input: &Input) -> Vec<Racer> {
    let mut by_id = input.pods.clone();
    by_id.sort();
    let mut racers: Vec<Racer> = (0_u16..)
        .zip(&by_id)
        .map(|(number_by_id, (id, weight))| {
            let hash = xxh3_64_with_seed(id.as_bytes(), input.seed);
            let golden = 0x9E37_79B9_7F4A_7C15_u64;
            let z1 = mix(hash.wrapping_add(golden));
            let z2 = mix(z1.wrapping_add(golden));
            let z3 = mix(z2.wrapping_add(golden));
            let z4 = mix(z3.wrapping_add(golden));
            let (low, high) = (|z: u64| z & 0xFFFF_FFFF, |z: u64| z >> 32);
            let words =
                [low(z1) | 1, high(z2), high(z1) | 1, low(z2) | 1, low(z3) | 1, high(z3), high(z4)];
            Racer { hash, number_by_id, weight: *weight, words }
        })
        .collect();
    racers.sort_by_key(|racer| (racer.hash, racer.number_by_id));
    racers
}

fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn slot_of(racer: &Racer, k: u64, bits: u32) -> u64 {
    let [m1, c, m2, m3, ..] = racer.words;
    let (slots, half) = (1_u64 << bits, bits.div_ceil(2));
    let mut x = (k * m1 + c) % slots;
    x ^= x >> half;
    x = x * m2 % slots;
    x ^= x >> half;
    x = x * m3 % slots;
    x ^ (x >> half)
}

fn tau(slots: u64) -> Vec<u64> {
    let mut tau = vec![0];
    for n in (1..=slots).rev() {
        let gap = if n == 1 {
            1 << 58
        } else {
            let x = 2 * n - 1;
            let mut power = (1_u64 << 59) / x;
            let mut sum = power;
            for odd in (3..).step_by(2) {
                power /= x * x;
                if power == 0 {
                    break;
                }
                sum += power / odd;
            }
            sum
        };
        tau.push(tau.last().unwrap() + gap);
    }
    tau
}

fn time(racer: &Racer, tau: &[u64], k: u64) -> u64 {
    let [_, _, _, _, step, phase, _] = racer.words;
    let gap = tau[k as usize + 1] - tau[k as usize];
    let fraction = ((phase + k * step) % (1 << 32)) >> 12;
    let unweighted = u128::from(tau[k as usize] + (gap >> 20) * fraction);
    ((unweighted * u128::from(u64::MAX / racer.weight)) >> 64) as u64
}

fn capacities(input: &Input, racers: &[Racer]) -> Vec<u64> {
    let million = 1_000_000_u128;
    let slots = 1_u128 << input.bits;
    let whole = million * racers.iter().map(|racer| u128::from(racer.weight)).sum::<u128>();
    let allowed = |racer: &Racer| {
        slots * u128::from(racer.weight) * (million + u128::from(input.epsilon_millionths))
    };
    let mut caps: Vec<u128> = racers
        .iter()
        .map(|racer| {
            let dither = u128::from(racer.words[6]);
            slots.min((((allowed(racer) << 32) / whole) + dither) >> 32)
        })
        .collect();
    let mut order: Vec<usize> = (0..racers.len()).collect();
    order.sort_by_key(|j| (u64::MAX - racers[*j].words[6], *j));
    for j in order {
        if caps.iter().sum::<u128>() < slots && caps[j] * whole < allowed(&racers[j]) {
            caps[j] += 1;
        }
    }
    caps.into_iter().map(|cap| cap as u64).collect()
}
