//! The table of the next view, from the table of the one before, when little changed.
//!
//! A view has exactly one stable table (see `assignment`), so any way to it will do. Two passes
//! lead there. In the first, room only grows: pods that are new, or may own more, go on along
//! their own order of slots, and whoever loses a slot for it goes on as well. In the second, room
//! only shrinks: pods that left or may own less give up their latest slots, and each such slot
//! goes to the earliest pod that takes it, which may give up its own latest in turn.
//!
//! A pod whose weight changed takes part twice: the old one leaves and a new one joins.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::assignment::{Assignment, NOBODY};
use crate::contender::Contender;
use crate::id::PodId;
use crate::logarithm::Times;
use crate::ring::Ring;
use crate::view::View;
use crate::visitors::Visitors;

/// A change of at most this many pods of average weight is followed; a larger one is as quickly
/// built anew.
const AVERAGE_PODS_MAX: u64 = 6;

/// Gives all slots away as [`crate::assignment::assign`] would, starting from the table of
/// `before`, which must have the same parameters. `None` if too much changes for that to pay.
///
/// Cost: about the slots that change hands times the number of pods, and one pass over the table.
pub(crate) fn follow(
    before: &Ring,
    view: &View,
    contenders: &[Contender],
    capacities: &[u32],
    visitors: &Visitors,
) -> Option<Assignment> {
    let change = Change::between(before, view, contenders, capacities)?;
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
    /// By new place: the place in the old list of the very same contender.
    kept: Vec<Option<u16>>,
    /// By new place, for one that was lighter or heavier before: its old place.
    reweighted: Vec<(u16, u16)>,
}

impl<'a> Change<'a> {
    fn between(
        before: &'a Ring,
        view: &View,
        contenders: &'a [Contender],
        capacities: &[u32],
    ) -> Option<Self> {
        let old = &before.parts().contenders;
        let mut change = Self {
            all: contenders.iter().collect(),
            staying: contenders.len(),
            places: Vec::with_capacity(old.len()),
            kept: vec![None; contenders.len()],
            reweighted: Vec::new(),
        };
        let mut changed_slots = 0;
        let mut next = 0;
        for (old_place, pod) in (0..=u16::MAX).zip(old) {
            // Both lists are in the order of hashes, then of ids.
            let mut found = None;
            while let Some(candidate) = contenders.get(next) {
                match order(candidate, view, pod, before.view()) {
                    Ordering::Less => next += 1,
                    Ordering::Equal => {
                        found = Some(next);
                        next += 1;
                        break;
                    }
                    Ordering::Greater => break,
                }
            }
            if let Some(place) = found
                && contenders[place].weight == pod.weight
            {
                change.kept[place] = Some(old_place);
                change.places.push(u16::try_from(place).ok()?);
                continue;
            }
            let ghost = u16::try_from(change.all.len()).ok().filter(|ghost| *ghost != NOBODY)?;
            if let Some(place) = found {
                change.reweighted.push((u16::try_from(place).ok()?, old_place));
            }
            change.places.push(ghost);
            change.all.push(pod);
            changed_slots += u64::from(before.slot_counts()[pod.pod.as_usize()]);
        }
        let joining = change.kept.iter().zip(capacities).filter(|(kept, _)| kept.is_none());
        changed_slots += joining.map(|(_, capacity)| u64::from(*capacity)).sum::<u64>();
        let slots = before.owners().len() as u64;
        (changed_slots * contenders.len() as u64 <= AVERAGE_PODS_MAX * slots).then_some(change)
    }

    /// The old table, as the first pass finds it.
    fn start(&self, before: &'a Ring, capacities: &[u32]) -> Table<'a> {
        let parts = before.parts();
        let slots = parts.view.parameters().slots();
        let mut place_of_pod = vec![NOBODY; parts.view.pods().len()];
        for (pod, place) in parts.contenders.iter().zip(&self.places) {
            place_of_pod[pod.pod.as_usize()] = *place;
        }
        let owners = before.owners().iter().map(|pod| place_of_pod[usize::from(*pod)]).collect();
        let mut table = Table {
            slots,
            times: parts.logarithm.times(),
            all: self.all.clone(),
            staying: self.staying,
            owners,
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
}

/// How many visits a contender made: all if it has room, else those up to its latest slot's.
fn visits_made(ring: &Ring, place: usize) -> u32 {
    let parts = ring.parts();
    match parts.counts[parts.contenders[place].pod.as_usize()] {
        0 if parts.reaches[place] == 0 => 0,
        _ => parts.view.parameters().slots().min(parts.reaches[place] + 1),
    }
}

fn order(one: &Contender, view: &View, other: &Contender, other_view: &View) -> Ordering {
    one.hash.cmp(&other.hash).then_with(|| id(view, one).cmp(&id(other_view, other)))
}

fn id<'a>(view: &'a View, pod: &Contender) -> Option<&'a PodId> {
    view.pod(pod.pod).map(|pod| &pod.id)
}

/// A table on its way, in terms of places.
struct Table<'a> {
    slots: u32,
    times: Times<'a>,
    all: Vec<&'a Contender>,
    /// From this place on, contenders are leaving.
    staying: usize,
    owners: Vec<u16>,
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
        while let Some(place) = self.running.pop() {
            self.run(place, last);
        }
    }

    /// Lets one contender go on until it is full or has made all visits. After the time `last`
    /// no slot can be won, since no owner visits one as late.
    fn run(&mut self, place: usize, last: u64) {
        let pod = self.all[place];
        let mut block_end = 0;
        let mut duel = None;
        while self.counts[place] < self.limits[place] && self.next_visits[place] < self.slots {
            let visit = self.next_visits[place];
            if visit >= block_end {
                if pod.time_around(self.times, visit).0 > last {
                    self.next_visits[place] = self.slots;
                    return;
                }
                block_end = self.times.block_end(visit);
                duel = None;
            }
            self.next_visits[place] += 1;
            let slot = pod.permutation.slot(visit);
            let owner = usize::from(self.owners[slot as usize]);
            let other = self.all[owner];
            let others = other.permutation.visit(slot);
            let duel = duel.get_or_insert_with(|| Duel::new(self.times, pod, visit, other));
            let wins = duel.wins_against(other, others).unwrap_or_else(|| {
                let challenge = (pod.time(self.times, visit), place);
                challenge < (other.time(self.times, others), owner)
            });
            if !wins {
                continue;
            }
            if owner < self.staying && self.counts[owner] == self.limits[owner] {
                self.running.push(owner);
            }
            self.counts[owner] -= 1;
            self.counts[place] += 1;
            self.latest[place] = self.latest[place].max(visit);
            self.owners[slot as usize] = place_number(place);
        }
    }

    /// The second pass. Pods only ever exchange slots for earlier ones.
    fn shrink(mut self, capacities: &[u32], visitors: &Visitors) -> Assignment {
        let mut displaced = self.slots_of_leaving();
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
            if self.counts[place] == capacities[place] {
                reaches[place] = self.find_latest(place);
            }
        }
        self.counts.truncate(self.staying);
        self.latest.truncate(self.staying);
        Assignment { owners: self.owners, counts: self.counts, latest: self.latest }
    }

    /// Takes the slots of the contenders that leave away from them.
    fn slots_of_leaving(&mut self) -> Vec<u32> {
        if self.staying == self.all.len() {
            return Vec::new();
        }
        (0..)
            .zip(&self.owners)
            .filter(|(_, owner)| usize::from(**owner) >= self.staying)
            .map(|(slot, _)| slot)
            .collect()
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
        let mut first = None;
        let mut time_of_first = u64::MAX;
        visitors.each_within(slot, reaches, self.slots, |place, visit| {
            if self.all[place].time_around(self.times, visit).0 > time_of_first {
                return;
            }
            let time = self.all[place].time(self.times, visit);
            // Places rise, so the first of equals stays.
            if first.is_none() || time < time_of_first {
                first = Some((place, visit));
                time_of_first = time;
            }
        });
        // Capacities add up to the number of slots or more, so somebody has room.
        assert!(first.is_some(), "capacities do not add up to the number of slots");
        first.unwrap_or_default()
    }
}

/// What the visits in one block of one contender's are worth against those of others of one weight.
/// Nearly all are told apart so, without their times.
struct Duel {
    weight: u64,
    loses_below: u32,
    wins_from: u32,
}

impl Duel {
    /// For the block of `visit`, against contenders as heavy as `other`.
    fn new(times: Times<'_>, pod: &Contender, visit: u32, other: &Contender) -> Self {
        let (before, after) = pod.time_around(times, visit);
        Self {
            weight: other.weight,
            loses_below: times.blocks_before(|tau| other.paced(tau) < before),
            wins_from: times.blocks_not_after(|tau| other.paced(tau) <= after),
        }
    }

    /// Whether the visit of another contender is later for certain, or earlier; `None` if only
    /// the times can tell.
    #[inline]
    fn wins_against(&self, other: &Contender, visit: u32) -> Option<bool> {
        if other.weight != self.weight || (self.loses_below..self.wins_from).contains(&visit) {
            return None;
        }
        Some(visit >= self.wins_from)
    }
}

/// A view has fewer pods than a `u16` can count.
fn place_number(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(NOBODY)
}
