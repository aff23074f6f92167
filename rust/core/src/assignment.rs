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

use crate::contender::{Contender, Visit};
use crate::duel::Rule;
use crate::held::Held;
use crate::id::PodIndex;
use crate::logarithm::Times;
use crate::visitors::Visitors;

/// The table, in terms of places in a list of contenders.
pub(crate) struct Assignment {
    /// By slot: the place of its owner.
    pub(crate) owners: Vec<u16>,
    /// By slot: in which of its visits its owner sees it.
    pub(crate) held: Held,
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
        held: Held::new(slots),
        open: vec![u64::MAX; (slots as usize).div_ceil(64)],
        fresh: Vec::with_capacity(slots as usize / 4),
        free: slots as usize,
    };
    let mut end = 0_u64;
    loop {
        let (running, weight) = race.still_running();
        if running == 1 || race.free * (running + PAIRS_EXTRA) <= slots as usize * PAIRS_FACTOR {
            break;
        }
        // Who visits a slot twice in a window is told apart at some cost, and the fewer slots are
        // free, the fewer are visited twice.
        let longer = (slots as usize / race.free.max(1)).min(WINDOWS_MAX) as u64;
        end = end.saturating_add((WINDOW / weight * longer).max(1));
        race.run_until(end);
    }
    race.finish();
    let counts = capacities.iter().zip(&race.room).map(|(all, left)| all - left).collect();
    Assignment { owners: race.owners, held: race.held, counts, latest: race.latest }
}

pub(crate) const NOBODY: u16 = u16::MAX;

/// How long the first window is: the visits in it are at most a quarter of the number of slots.
/// Longer windows displace more often, shorter ones start every contender more often.
const WINDOW: u64 = 1 << 56;
/// How many times as long the last windows may be.
const WINDOWS_MAX: usize = 8;

/// The race ends when the free slots, each scored for every contender, are cheaper than more
/// visits in vain: a slot costs as much as this many pairs, and a visit as much as this many.
const PAIRS_EXTRA: usize = 32;
const PAIRS_FACTOR: usize = 6;

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
    held: Held,
    /// One bit a slot: it was not taken in an earlier window, after which nobody can displace its
    /// owner any more.
    open: Vec<u64>,
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
        self.free -= self.fresh.len();
        for slot in self.fresh.drain(..) {
            self.open[slot as usize / 64] &= !(1 << (slot % 64));
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
        let mut room = self.room[place];
        let mut next = self.next_visits[place];
        let mut lanes = [0; BATCH as usize];
        while room > 0 {
            let mut batch_end = certain.min(next + BATCH);
            if next >= batch_end {
                if next == self.slots || contender.time(self.times, next) >= end {
                    break;
                }
                batch_end = next + 1;
            }
            let slots = contender.permutation.slots(next);
            let open = self.open_lanes(&slots, batch_end - next, &mut lanes);
            let first = next;
            next = batch_end;
            for lane in lanes.iter().take(open) {
                let visit = first.wrapping_add(u32::from(*lane));
                if !self.call(place, slots[usize::from(*lane) % slots.len()], visit, displaced) {
                    continue;
                }
                self.latest[place] = visit;
                room -= 1;
                if room == 0 {
                    next = visit + 1;
                    break;
                }
            }
        }
        self.room[place] = room;
        self.next_visits[place] = next;
    }

    /// Which of the first `count` slots are not settled: writes their lanes down and returns how
    /// many they are. Nothing foretells whether a slot is settled, so no branch depends on it: the
    /// lane of a settled one is overwritten by the next.
    #[inline]
    fn open_lanes(&self, slots: &Slots, count: u32, lanes: &mut [u8; BATCH as usize]) -> usize {
        let mut open = 0_usize;
        for (lane, slot) in (0..).zip(slots.get(..count as usize).unwrap_or(slots)) {
            lanes[open % lanes.len()] = lane;
            let word = self.open.get(*slot as usize / 64).copied().unwrap_or_default();
            open = open.wrapping_add(usize::from(word.wrapping_shr(*slot) & 1 == 1));
        }
        open
    }

    /// One visit of a contender with room to a slot that is not settled. Returns whether it got
    /// the slot.
    #[inline]
    fn call(&mut self, place: usize, slot: u32, visit: u32, displaced: &mut Vec<u16>) -> bool {
        let owner = self.owners[slot as usize];
        if owner == NOBODY {
            self.fresh.push(slot);
        } else {
            let other = usize::from(owner);
            if !self.is_earlier(place, visit, other, slot) {
                return false;
            }
            if self.room[other] == 0 {
                displaced.push(owner);
            }
            self.room[other] += 1;
        }
        self.owners[slot as usize] = place_number(place);
        self.held.set(slot, visit);
        true
    }

    /// Whether a visit of one contender is before that of the owner of the slot.
    #[inline]
    fn is_earlier(&self, place: usize, number: u32, owner: usize, slot: u32) -> bool {
        let (by, other) = (&self.contenders[place], &self.contenders[owner]);
        let challenge = Visit { by, number };
        if by.weight != other.weight {
            return challenge.is_before_that_of(other, slot, self.times);
        }
        let rule = Rule::of_equals(by.is_told_by_visits(self.times), number, self.held.doubt());
        let least = self.held.least(slot);
        !rule.loses_to(least)
            && (rule.beats(least) || challenge.is_before_that_of(other, slot, self.times))
    }

    /// Gives away the slots that are left, each to the contender with room that visits it first.
    fn finish(&mut self) {
        let left: Vec<u32> =
            (0..self.slots).filter(|slot| self.owners[*slot as usize] == NOBODY).collect();
        let running = (0..=u16::MAX).zip(&self.room).filter(|(_, room)| **room > 0);
        let running: Vec<u16> = running.map(|(place, _)| place).collect();
        if let [only] = running[..] {
            let order = self.contenders[usize::from(only)].permutation;
            for slot in left {
                self.give(slot, order.visit(slot), only);
            }
            return;
        }
        let visitors = Visitors::of(self.slots, self.contenders, running.into_iter());
        let first = |slot| self.first_visit(&visitors, slot);
        let visits: Vec<(u16, u32, u32)> = left.into_iter().filter_map(first).collect();
        let mut wanted = vec![0_u32; self.contenders.len()];
        for (place, ..) in &visits {
            wanted[usize::from(*place)] += 1;
        }
        if wanted.iter().zip(&self.room).all(|(wanted, room)| wanted <= room) {
            // Nobody fills up, so the order in which the slots are given away does not matter.
            for (place, visit, slot) in visits {
                self.give(slot, visit, place);
            }
            return;
        }
        let mut visits: BinaryHeap<_> =
            visits.into_iter().map(|visit| Reverse(self.ranked(visit))).collect();
        while let Some(Reverse((_, (place, visit, slot)))) = visits.pop() {
            if self.room[usize::from(place)] > 0 {
                self.give(slot, visit, place);
            } else if let Some(visit) = self.first_visit(&visitors, slot) {
                visits.push(Reverse(self.ranked(visit)));
            }
        }
    }

    fn give(&mut self, slot: u32, visit: u32, place: u16) {
        self.owners[slot as usize] = place;
        self.held.set(slot, visit);
        let place = usize::from(place);
        self.latest[place] = self.latest[place].max(visit);
        self.room[place] -= 1;
    }

    /// The earliest visit to `slot` by a contender with room: by whom, which of its visits, and
    /// the slot.
    fn first_visit(&self, visitors: &Visitors, slot: u32) -> Option<(u16, u32, u32)> {
        let contender = |place: usize| &self.contenders[place];
        let has_room = |place: usize, _| self.room[place] > 0;
        let (place, visit) = visitors.first(slot, self.times, contender, has_room)?;
        Some((place_number(place), visit, slot))
    }

    /// The same, behind what decides which of these visits is first.
    fn ranked(&self, visit: (u16, u32, u32)) -> ((u64, u64, PodIndex), (u16, u32, u32)) {
        let by = &self.contenders[usize::from(visit.0)];
        (Visit { by, number: visit.1 }.order(self.times), visit)
    }
}

/// How many visits are looked up before the first of them is acted on.
const BATCH: u32 = 32;

/// The slots of a batch, by lane.
type Slots = [u32; BATCH as usize];

/// A view has fewer pods than a `u16` can count.
fn place_number(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(NOBODY)
}
