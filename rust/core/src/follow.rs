//! The table of the next view, from the table of the one before, when little changed.
//!
//! A view has exactly one stable table (see `assignment`), so any way to it will do. Two passes
//! lead there. In the first, room only grows: pods that are new, or may own more, go on along
//! their own order of slots, and whoever loses a slot for it goes on as well. In the second, room
//! only shrinks: pods that left or may own less give up their latest slots, and each such slot
//! goes to the earliest pod that takes it, which may give up its own latest in turn.
//!
//! A pod whose weight changed takes part twice: the old one leaves and a new one joins.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::assignment::{Assignment, NOBODY};
use crate::contender::Contender;
use crate::duel::{Duels, Weights};
use crate::held::Held;
use crate::logarithm::Times;
use crate::ring::Ring;
use crate::visitors::Visitors;

/// A change of at most this many pods of average weight is followed; a larger one is as quickly
/// built anew.
const AVERAGE_PODS_MAX: u64 = 6;
/// So is one by which more than one slot in this many loses its pod: a slot that has to find
/// another one costs about four times as much as one that a build gives away. Measured at 2 to 12
/// pods.
const LOST_SLOTS_SHARE: u64 = 4;

/// Gives all slots away as [`crate::assignment::assign`] would, starting from the table of
/// `before`, which must have the same parameters; `origins` says, by contender, at which place of
/// that ring's contenders the same pod was. `None` if too much changes for that to pay.
///
/// Cost: about the slots that change hands times the number of pods, and one pass over the table.
pub(crate) fn follow(
    before: &Ring,
    contenders: &[Contender],
    origins: &[Option<u16>],
    capacities: &[u32],
    visitors: &Visitors,
) -> Option<Assignment> {
    let change = Change::between(before, contenders, origins, capacities)?;
    let mut table = change.start(before, capacities);
    table.grow();
    Some(table.shrink(capacities, visitors))
}

/// Who is who in two lists of contenders.
struct Change<'a> {
    /// The new contenders by place, then those that leave.
    all: Vec<&'a Contender>,
    staying: usize,
    /// By place in the old list: the place in `all`.
    places: Vec<u16>,
    /// By new place, for one that was lighter or heavier before: its old place.
    reweighted: Vec<(u16, u16)>,
}

impl<'a> Change<'a> {
    fn between(
        before: &'a Ring,
        contenders: &'a [Contender],
        origins: &[Option<u16>],
        capacities: &[u32],
    ) -> Option<Self> {
        let old = &before.parts().contenders;
        let mut change = Self {
            all: contenders.iter().collect(),
            staying: contenders.len(),
            places: vec![NOBODY; old.len()],
            reweighted: Vec::new(),
        };
        let held_by = |pod: &Contender| u64::from(before.slot_counts()[pod.pod.as_usize()]);
        let (mut changed_slots, mut lost_slots) = (0, 0);
        for (place, origin) in (0..=u16::MAX).zip(origins) {
            match origin.map(|origin| (origin, &old[usize::from(origin)])) {
                Some((origin, same)) if same.weight == contenders[usize::from(place)].weight => {
                    change.places[usize::from(origin)] = place;
                    continue;
                }
                Some((origin, lighter_or_heavier)) => {
                    change.reweighted.push((place, origin));
                    changed_slots += held_by(lighter_or_heavier);
                }
                None => {}
            }
            changed_slots += u64::from(capacities[usize::from(place)]);
        }
        let reweighted: BTreeSet<u16> = change.reweighted.iter().map(|(_, old)| *old).collect();
        for ((old_place, place), pod) in (0..=u16::MAX).zip(&mut change.places).zip(old) {
            if *place == NOBODY {
                *place = u16::try_from(change.all.len()).ok().filter(|ghost| *ghost != NOBODY)?;
                change.all.push(pod);
                lost_slots += if reweighted.contains(&old_place) { 0 } else { held_by(pod) };
            }
        }
        let slots = before.owners().len() as u64;
        let changes_little = (changed_slots + lost_slots) * contenders.len() as u64
            <= AVERAGE_PODS_MAX * slots
            && lost_slots * LOST_SLOTS_SHARE <= slots;
        changes_little.then_some(change)
    }

    /// The old table, as the first pass finds it.
    fn start(&self, before: &'a Ring, capacities: &[u32]) -> Table<'a> {
        let parts = before.parts();
        let slots = parts.view.parameters().slots();
        let (owners, leaving) = self.owners(before);
        let mut table = Table {
            slots,
            times: parts.logarithm.times(),
            all: self.all.clone(),
            staying: self.staying,
            owners,
            held: parts.held.clone(),
            leaving,
            counts: vec![0; self.all.len()],
            latest: vec![0; self.all.len()],
            limits: capacities.to_vec(),
            next_visits: vec![0; self.staying],
            running: Vec::new(),
        };
        for (old_place, place) in self.places.iter().enumerate() {
            let place = usize::from(*place);
            let pod = parts.contenders[old_place].pod.as_usize();
            table.counts[place] = parts.counts[pod];
            table.latest[place] = parts.latest[old_place];
            if place < self.staying {
                table.limits[place] = capacities[place].max(parts.capacities[pod]);
                table.next_visits[place] = visits_made(before, old_place);
            }
        }
        for (place, old_place) in &self.reweighted {
            let (place, old_place) = (usize::from(*place), usize::from(*old_place));
            // What a pod did not get, or had, when it was heavier, it cannot win from anybody now.
            if self.all[place].weight < parts.contenders[old_place].weight {
                table.next_visits[place] = visits_made(before, old_place);
            }
        }
        table
    }

    /// The old owners as places in `all`, and the slots of those that leave.
    fn owners(&self, before: &Ring) -> (Vec<u16>, Vec<u32>) {
        let parts = before.parts();
        let mut place_of_pod = vec![NOBODY; parts.view.pods().len()];
        for (pod, place) in parts.contenders.iter().zip(&self.places) {
            place_of_pod[pod.pod.as_usize()] = *place;
        }
        let is_kept =
            |(pod, place): (u16, &u16)| pod == *place || usize::from(*place) >= self.staying;
        let mut owners: Vec<u16> = if (0..).zip(&place_of_pod).all(is_kept) {
            before.owners().to_vec()
        } else {
            let place = |pod: &u16| place_of_pod.get(usize::from(*pod)).copied().unwrap_or(NOBODY);
            before.owners().iter().map(place).collect()
        };
        let mut leaving = Vec::new();
        for (old_place, place) in (0..).zip(&self.places) {
            if usize::from(*place) >= self.staying {
                let pod = &parts.contenders[old_place];
                each_owned(before, pod, parts.latest[old_place], |slot| {
                    owners[slot as usize] = *place;
                    leaving.push(slot);
                });
            }
        }
        (owners, leaving)
    }
}

/// Calls `found` with each slot of a contender, in the order of its visits.
fn each_owned(ring: &Ring, pod: &Contender, latest: u32, mut found: impl FnMut(u32)) {
    let owners = ring.owners();
    for first in (0..=latest).step_by(BATCH as usize) {
        let slots = pod.permutation.slots::<{ BATCH as usize }>(first);
        let count = latest.wrapping_sub(first).saturating_add(1).min(BATCH);
        for slot in slots.get(..count as usize).unwrap_or_default() {
            if owners.get(*slot as usize) == Some(&pod.pod.get()) {
                found(*slot);
            }
        }
    }
}

/// How many visits a contender made: all if it has room, else those up to its latest slot's.
fn visits_made(ring: &Ring, place: usize) -> u32 {
    let parts = ring.parts();
    match parts.counts[parts.contenders[place].pod.as_usize()] {
        0 if parts.reaches[place] == 0 => 0,
        _ => parts.view.parameters().slots().min(parts.reaches[place] + 1),
    }
}

/// A table on its way, in terms of places.
struct Table<'a> {
    slots: u32,
    times: Times<'a>,
    all: Vec<&'a Contender>,
    /// From this place on, contenders are leaving.
    staying: usize,
    owners: Vec<u16>,
    held: Held,
    /// The slots that those that leave had.
    leaving: Vec<u32>,
    /// By place, as are the lists after it: how many slots it owns.
    counts: Vec<u32>,
    /// It owns no slot that it visits later; of a full one, the visit of its latest slot.
    latest: Vec<u32>,
    /// How many slots it may own while room grows.
    limits: Vec<u32>,
    /// The first visit that it has not made; all were made by one that has room.
    next_visits: Vec<u32>,
    /// Those that have room and visits to make.
    running: Vec<usize>,
}

impl Table<'_> {
    /// The first pass. Slots only ever go to earlier visitors.
    fn grow(&mut self) {
        let counted = self.all.iter().zip(&self.latest).zip(&self.counts);
        let last = counted
            .filter(|(_, count)| **count > 0)
            .map(|((pod, latest), _)| pod.time(self.times, *latest))
            .max()
            .unwrap_or(u64::MAX);
        self.running = (0..self.staying).collect();
        let all = self.all.clone();
        let weights = Weights::of(&all);
        while let Some(place) = self.running.pop() {
            self.run(place, last, &weights);
        }
    }

    /// Lets one contender go on until it is full or has made all visits. After the time `last`
    /// no slot can be won, since no owner visits one as late.
    fn run(&mut self, place: usize, last: u64, weights: &Weights<'_>) {
        let pod = self.all[place];
        let mut duels = Duels::new(self.times, pod, weights, self.held.doubt());
        let mut lanes = [0; BATCH as usize];
        while self.counts[place] < self.limits[place] && self.next_visits[place] < self.slots {
            let first = self.next_visits[place];
            if pod.time_around(self.times, first).0 > last {
                self.next_visits[place] = self.slots;
                return;
            }
            let end = self.slots.min(first + BATCH).min(duels.begin(first));
            self.next_visits[place] = end;
            let slots = pod.permutation.slots(first);
            let open = self.open_lanes(&slots, end - first, duels.floor(first), &mut lanes);
            for lane in lanes.iter().take(open) {
                let visit = first.wrapping_add(u32::from(*lane));
                let slot = slots[usize::from(*lane) % slots.len()];
                if self.wins(&duels, visit, slot) {
                    self.win(place, visit, slot);
                    if self.counts[place] == self.limits[place] {
                        self.next_visits[place] = visit + 1;
                        break;
                    }
                }
            }
        }
    }

    /// Which of the first `count` slots have an owner whose visit has at least this number: writes
    /// their lanes down and returns how many they are. Without a branch, as in the race.
    #[inline(never)]
    fn open_lanes(&self, slots: &Slots, count: u32, floor: u32, lanes: &mut Lanes) -> usize {
        let mut open = 0_usize;
        for (lane, slot) in (0..).zip(slots.get(..count as usize).unwrap_or(slots)) {
            lanes[open % lanes.len()] = lane;
            open = open.wrapping_add(usize::from(self.held.least(*slot) >= floor));
        }
        open
    }

    /// Whether a visit of the block is before that of the owner of the slot.
    #[inline]
    fn wins(&self, duels: &Duels<'_>, visit: u32, slot: u32) -> bool {
        let owner = self.all[usize::from(self.owners[slot as usize])];
        let (rule, least) = (duels.rule(visit, owner), self.held.least(slot));
        if rule.loses_to(least) {
            return false;
        }
        rule.beats(least) || duels.visit(visit).is_before_that_of(owner, slot, self.times)
    }

    /// Gives the slot of a visit to its visitor, and lets its owner go on if that was full.
    fn win(&mut self, place: usize, visit: u32, slot: u32) {
        let owner = usize::from(self.owners[slot as usize]);
        if owner < self.staying && self.counts[owner] == self.limits[owner] {
            self.running.push(owner);
        }
        self.counts[owner] -= 1;
        self.counts[place] += 1;
        self.latest[place] = self.latest[place].max(visit);
        self.owners[slot as usize] = place_number(place);
        self.held.set(slot, visit);
    }

    /// The second pass. Pods only ever exchange slots for earlier ones.
    fn shrink(mut self, capacities: &[u32], visitors: &Visitors) -> Assignment {
        let mut displaced = core::mem::take(&mut self.leaving);
        displaced.retain(|slot| usize::from(self.owners[*slot as usize]) >= self.staying);
        let mut reaches = vec![self.slots; self.staying];
        for (place, capacity) in capacities.iter().enumerate() {
            while self.counts[place] > *capacity {
                displaced.push(self.shed(place));
                self.counts[place] -= 1;
            }
            if self.counts[place] == *capacity {
                reaches[place] = self.find_latest(place);
            }
        }
        while let Some(slot) = displaced.pop() {
            let (place, visit) = self.taker(slot, &reaches, visitors);
            if reaches[place] == self.slots {
                self.counts[place] += 1;
                self.latest[place] = self.latest[place].max(visit);
            } else {
                displaced.push(self.shed(place));
            }
            self.owners[slot as usize] = place_number(place);
            self.held.set(slot, visit);
            if self.counts[place] == capacities[place] {
                reaches[place] = self.find_latest(place);
            }
        }
        self.counts.truncate(self.staying);
        self.latest.truncate(self.staying);
        Assignment {
            owners: self.owners,
            held: self.held,
            counts: self.counts,
            latest: self.latest,
        }
    }

    /// Takes the latest slot away from a contender that has one.
    fn shed(&mut self, place: usize) -> u32 {
        let slot = self.all[place].permutation.slot(self.find_latest(place));
        self.owners[slot as usize] = NOBODY;
        slot
    }

    /// The visit of a contender's latest slot, 0 if it has none.
    fn find_latest(&mut self, place: usize) -> u32 {
        let order = self.all[place].permutation;
        let mut latest = self.latest[place];
        while latest > 0 && usize::from(self.owners[order.slot(latest) as usize]) != place {
            latest -= 1;
        }
        self.latest[place] = latest;
        latest
    }

    /// The earliest visitor of a slot that takes it, and its visit.
    fn taker(&self, slot: u32, reaches: &[u32], visitors: &Visitors) -> (usize, u32) {
        let takes = |place: usize, visit: u32| visit < reaches[place];
        let first = visitors.first(slot, self.times, |place| self.all[place], takes);
        // Capacities add up to the number of slots or more, so somebody has room.
        assert!(first.is_some(), "capacities do not add up to the number of slots");
        first.unwrap_or_default()
    }
}

/// How many visits of a contender are looked up together.
const BATCH: u32 = 32;

/// The slots of a batch, by lane, and some lanes of one.
type Slots = [u32; BATCH as usize];
type Lanes = [u8; BATCH as usize];

/// A view has fewer pods than a `u16` can count.
fn place_number(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(NOBODY)
}
