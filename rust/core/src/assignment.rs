//! The table: which contender gets which slot.
//!
//! Every contender visits all slots in an order and at times of its own, and a slot belongs to its
//! first visitor that had room. Because a visit's time ranks slots for the pod and pods for the
//! slot alike, there is exactly one such table, whatever the order in which visits are looked at:
//! a later visitor is simply displaced when an earlier one turns up. So time is cut into a few
//! windows, and within each no sorting is needed.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Range;

use crate::contender::{Contender, Permutation};
use crate::logarithm::Times;

/// The table, in terms of places in a list of contenders.
pub(crate) struct Assignment {
    /// By slot: the place of its owner.
    pub(crate) owners: Vec<u16>,
    /// By place: how many slots it owns.
    pub(crate) counts: Vec<u32>,
    /// By place: a visit after which it owns nothing; its latest slot's own if it is full.
    pub(crate) latest: Vec<u32>,
}

impl Assignment {
    /// By place: the visits before this one are those to slots that it would take now.
    pub(crate) fn reaches(&self, slots: u32, capacities: &[u32]) -> Vec<u32> {
        let counts = self.counts.iter().zip(capacities);
        let full = counts.map(|(count, capacity)| count == capacity);
        full.zip(&self.latest).map(|(full, latest)| if full { *latest } else { slots }).collect()
    }
}

/// Gives all slots away. `capacities`, by contender, must add up to the number of slots or more.
pub(crate) fn assign(
    slots: u32,
    times: Times<'_>,
    contenders: &[Contender],
    capacities: &[u32],
) -> Assignment {
    let mut race = Race {
        slots,
        times,
        contenders,
        room: capacities.to_vec(),
        next_visits: vec![0; contenders.len()],
        latest: vec![0; contenders.len()],
        owners: vec![NOBODY; slots as usize],
        settled: vec![0; (slots as usize).div_ceil(64)],
        fresh: Vec::new(),
        free: slots as usize,
    };
    let mut end = 0_u64;
    loop {
        let (running, weight) = race.still_running();
        if running == 1 || race.free * running <= slots as usize / PAIRS_FRACTION {
            break;
        }
        end = end.saturating_add((WINDOW / weight).max(1));
        race.run_until(end);
    }
    race.finish();
    let counts = capacities.iter().zip(&race.room).map(|(all, left)| all - left).collect();
    Assignment { owners: race.owners, counts, latest: race.latest }
}

pub(crate) const NOBODY: u16 = u16::MAX;

/// How long a window is: the visits in it are at most a quarter of the number of slots. Longer
/// windows displace more often, shorter ones start every contender more often.
const WINDOW: u64 = 1 << 56;

/// The race ends when the free slots, scored for every contender with room, are at most the
/// number of slots divided by this: from then on that is cheaper than more visits in vain.
const PAIRS_FRACTION: usize = 4;

struct Race<'a> {
    slots: u32,
    times: Times<'a>,
    contenders: &'a [Contender],
    /// By contender: how many more slots it may own.
    room: Vec<u32>,
    /// By contender: its first visit that has not been looked at.
    next_visits: Vec<u32>,
    /// By contender: the latest visit that gave it a slot. It may have lost that slot since, but
    /// then it has room, or went on until it was full again.
    latest: Vec<u32>,
    /// By slot: who has it.
    owners: Vec<u16>,
    /// One bit a slot: it was taken in an earlier window, so nobody can displace its owner.
    settled: Vec<u64>,
    /// The slots that were free when this window began and are not any more.
    fresh: Vec<u32>,
    free: usize,
}

impl Race<'_> {
    /// How many contenders may still take slots, and the sum of their weights.
    fn still_running(&self) -> (usize, u64) {
        self.contenders
            .iter()
            .zip(&self.room)
            .filter(|(_, room)| **room > 0)
            .fold((0, 0), |(count, weight), (contender, _)| (count + 1, weight + contender.weight))
    }

    /// Looks at all visits before `end` that have not been looked at.
    fn run_until(&mut self, end: u64) {
        let mut displaced = Vec::new();
        // Pods of one weight are mostly alike, so what a weight means is kept for the next pod.
        let (mut weight, mut certain) = (0, 0);
        for place in 0..self.contenders.len() {
            if self.room[place] == 0 {
                continue;
            }
            if self.contenders[place].weight != weight {
                weight = self.contenders[place].weight;
                certain = self.certain_visits(end, weight);
            }
            self.run_one(place, end, certain, &mut displaced);
            while let Some(place) = displaced.pop() {
                let place = usize::from(place);
                let certain = self.certain_visits(end, self.contenders[place].weight);
                self.run_one(place, end, certain, &mut displaced);
            }
        }
        for slot in self.fresh.drain(..) {
            self.settled[slot as usize / 64] |= 1 << (slot % 64);
            self.free -= 1;
        }
    }

    /// How many visits of a contender of this weight are before `end` for certain. The next one
    /// may be too, since the pace of a weight is rounded down.
    fn certain_visits(&self, end: u64, weight: u64) -> u32 {
        self.times.visits_until(end.saturating_mul(weight))
    }

    /// Lets one contender go on until `end`, or until it is full. Those that it displaces and
    /// that had stopped for being full are added to `displaced`.
    fn run_one(&mut self, place: usize, end: u64, certain: u32, displaced: &mut Vec<u16>) {
        let contender = &self.contenders[place];
        let mut next = self.next_visits[place];
        let mut open = Batch { visits: [(0, 0); BATCH as usize], count: 0 };
        while self.room[place] > 0 {
            let mut batch_end = certain.min(next + BATCH);
            if next >= batch_end {
                if next == self.slots || contender.time(self.times, next) >= end {
                    break;
                }
                batch_end = next + 1;
            }
            open.fill(contender.permutation, next..batch_end, &self.settled);
            next = batch_end;
            for (slot, visit) in open.visits[..open.count].iter().copied() {
                if self.room[place] == 0 {
                    next = visit;
                    break;
                }
                self.call(place, slot, visit, displaced);
            }
        }
        self.next_visits[place] = next;
    }

    /// One visit of a contender with room to a slot that is not settled.
    #[inline]
    fn call(&mut self, place: usize, slot: u32, visit: u32, displaced: &mut Vec<u16>) {
        let owner = self.owners[slot as usize];
        if owner == NOBODY {
            self.fresh.push(slot);
        } else {
            let other = usize::from(owner);
            let held = (self.contenders[other].time_of_slot(self.times, slot), other);
            if (self.contenders[place].time(self.times, visit), place) > held {
                return;
            }
            if self.room[other] == 0 {
                displaced.push(owner);
            }
            self.room[other] += 1;
        }
        self.owners[slot as usize] = place_number(place);
        self.latest[place] = visit;
        self.room[place] -= 1;
    }

    /// Gives away the slots that are left, each to the contender with room that visits it first.
    fn finish(&mut self) {
        let mut running: Vec<u16> = (0..=u16::MAX)
            .zip(&self.room)
            .filter(|(_, room)| **room > 0)
            .map(|(place, _)| place)
            .collect();
        if let [only] = running[..] {
            let order = self.contenders[usize::from(only)].permutation;
            for slot in 0..self.slots {
                if self.owners[slot as usize] == NOBODY {
                    self.give(slot, order.visit(slot), only);
                }
            }
            return;
        }
        let visits: Vec<(u64, u16, u32)> = (0_u32..)
            .zip(&self.owners)
            .filter(|(_, owner)| **owner == NOBODY)
            .filter_map(|(slot, _)| self.first_visit(slot, &running))
            .collect();
        let mut wanted = vec![0_u32; self.contenders.len()];
        for (_, place, _) in &visits {
            wanted[usize::from(*place)] += 1;
        }
        if wanted.iter().zip(&self.room).all(|(wanted, room)| wanted <= room) {
            // Nobody fills up, so the order in which the slots are given away does not matter.
            for (_, place, visit) in visits {
                let slot = self.contenders[usize::from(place)].permutation.slot(visit);
                self.give(slot, visit, place);
            }
            return;
        }
        let mut visits: BinaryHeap<_> = visits.into_iter().map(Reverse).collect();
        while let Some(Reverse((_, place, visit))) = visits.pop() {
            let slot = self.contenders[usize::from(place)].permutation.slot(visit);
            if self.room[usize::from(place)] > 0 {
                self.give(slot, visit, place);
            } else {
                running.retain(|place| self.room[usize::from(*place)] > 0);
                visits.extend(self.first_visit(slot, &running).map(Reverse));
            }
        }
    }

    fn give(&mut self, slot: u32, visit: u32, place: u16) {
        self.owners[slot as usize] = place;
        let place = usize::from(place);
        self.latest[place] = self.latest[place].max(visit);
        self.room[place] -= 1;
    }

    /// The earliest visit to `slot` by one of `running`: when, by whom, and which of its visits.
    fn first_visit(&self, slot: u32, running: &[u16]) -> Option<(u64, u16, u32)> {
        running
            .iter()
            .map(|place| {
                let contender = &self.contenders[usize::from(*place)];
                let visit = contender.permutation.visit(slot);
                (contender.time(self.times, visit), *place, visit)
            })
            .min()
    }
}

/// How many visits are looked up before the first of them is acted on.
const BATCH: u32 = 32;

/// The next visits of one contender, without those to settled slots.
struct Batch {
    /// Slot and visit; only the first `count` mean anything.
    visits: [(u32, u32); BATCH as usize],
    count: usize,
}

impl Batch {
    /// Looks up at most [`BATCH`] visits. Nothing foretells whether a slot is settled, so no
    /// branch depends on it: a settled slot's entry is overwritten by the next.
    #[inline]
    fn fill(&mut self, order: Permutation, visits: Range<u32>, settled: &[u64]) {
        self.count = 0;
        for visit in visits {
            let slot = order.slot(visit);
            if let Some(entry) = self.visits.get_mut(self.count) {
                *entry = (slot, visit);
            }
            let word = settled.get(slot as usize / 64).copied().unwrap_or_default();
            self.count += usize::from((word >> (slot % 64)) & 1 == 0);
        }
    }
}

/// A view has fewer pods than a `u16` can count.
fn place_number(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(NOBODY)
}
