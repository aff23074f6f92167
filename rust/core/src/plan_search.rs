//! Putting the moves of a plan into an order in which no pod ever exceeds its load bound.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::PlanError;
use crate::id::PodIndex;
use crate::plan::{Move, Step};

/// A greedy search: in the order of slots, which mixes the pods well, a move whose target has room
/// goes at once, and any other waits for its target.
pub(crate) struct Search {
    /// All by pod: how many slots it owns now, how many it may, and whether it may get any.
    loads: Vec<u32>,
    bounds: Vec<u32>,
    may_receive: Vec<bool>,
    pace: Pace,
    /// The moves that have not been made; `None` once made.
    moves: Vec<Option<Move>>,
    /// By pod: the moves that wait for room there, longest wait first. Some may have been made.
    waiting: Vec<VecDeque<usize>>,
    /// By pod: the moves away from there. Some may have been made, or start elsewhere by now.
    leaving: Vec<Vec<usize>>,
    steps: Vec<Step>,
    /// Whether the slot of each move waits on a third pod.
    parked: Vec<bool>,
}

impl Search {
    pub(crate) fn new(
        loads: Vec<u32>,
        bounds: Vec<u32>,
        may_receive: Vec<bool>,
        pace: Pace,
    ) -> Self {
        let pods = loads.len();
        Self {
            loads,
            bounds,
            may_receive,
            pace,
            moves: Vec::new(),
            waiting: vec![VecDeque::new(); pods],
            leaving: vec![Vec::new(); pods],
            steps: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// Orders `moves` into steps.
    pub(crate) fn steps(mut self, moves: Vec<Move>) -> Result<Vec<Step>, PlanError> {
        self.parked = vec![false; moves.len()];
        self.moves = moves.into_iter().map(Some).collect();
        for number in 0..self.moves.len() {
            let Some(wanted) = self.moves[number] else { continue };
            let target = wanted.to.as_usize();
            if self.loads[target] < self.bounds[target] {
                self.moves[number] = None;
                self.emit(wanted, false);
                self.fill(wanted.from.as_usize());
            } else {
                self.waiting[target].push_back(number);
                self.leaving[wanted.from.as_usize()].push(number);
            }
        }
        // What is left goes from full pods to full pods only, or it would have been made.
        for number in 0..self.moves.len() {
            while let Some(stuck) = self.moves[number] {
                self.resolve(stuck)?;
            }
        }
        Ok(self.steps)
    }

    /// Makes the moves that wait for `pod` while it has room; each makes room elsewhere, which is
    /// used at once.
    fn fill(&mut self, pod: usize) {
        let mut with_room = vec![pod];
        while let Some(&pod) = with_room.last() {
            if self.loads[pod] >= self.bounds[pod] {
                with_room.pop();
                continue;
            }
            let Some(number) = self.waiting[pod].pop_front() else {
                with_room.pop();
                continue;
            };
            if let Some(next) = self.moves[number].take() {
                self.emit(next, self.parked[number]);
                with_room.push(next.from.as_usize());
            }
        }
    }

    /// Gets a move going that waits for a full pod.
    ///
    /// Such a pod must lose as many slots as it gains or more, so following moves from target to
    /// target runs into a circle of full pods. It is made within one step if it fits, or broken
    /// up by parking one of its slots on a pod that has room.
    fn resolve(&mut self, stuck: Move) -> Result<(), PlanError> {
        let circle = self.circle(stuck);
        assert!(!circle.is_empty(), "a move waits for a pod that is not full");
        if circle.len() <= self.pace.slots_per_step {
            self.open_step(circle.len());
            for number in circle {
                if let Some(next) = self.moves[number].take() {
                    self.push(next, self.parked[number]);
                }
            }
            return Ok(());
        }
        let place = self.place_to_park().ok_or(PlanError::NoSlack {
            pods: u32::try_from(circle.len()).unwrap_or(u32::MAX),
            slots_per_step: u32::try_from(self.pace.slots_per_step).unwrap_or(u32::MAX),
        })?;
        if let Some(number) = circle.first().copied()
            && let Some(parked) = self.moves[number].as_mut()
        {
            let aside = Move { to: place, ..*parked };
            parked.from = place;
            self.parked[number] = true;
            self.leaving[place.as_usize()].push(number);
            self.emit(aside, false);
            self.fill(aside.from.as_usize());
        }
        Ok(())
    }

    /// Moves that lead from full pod to full pod and back to the first, found from `start` on.
    fn circle(&mut self, start: Move) -> Vec<usize> {
        let mut path: Vec<usize> = Vec::new();
        let mut reached_at = vec![usize::MAX; self.loads.len()];
        let mut pod = start.to.as_usize();
        while reached_at[pod] == usize::MAX {
            reached_at[pod] = path.len();
            let Some((number, next)) = self.next_leaving(pod) else { break };
            path.push(number);
            pod = next.to.as_usize();
        }
        path.split_off(reached_at[pod].min(path.len()))
    }

    /// A move away from `pod` that has not been made.
    fn next_leaving(&mut self, pod: usize) -> Option<(usize, Move)> {
        while let Some(number) = self.leaving[pod].last().copied() {
            match self.moves[number] {
                Some(next) if next.from.as_usize() == pod => return Some((number, next)),
                Some(_) | None => self.leaving[pod].pop(),
            };
        }
        None
    }

    /// The pod with the most room among those that may own slots at the end.
    fn place_to_park(&self) -> Option<PodIndex> {
        (0..=u16::MAX)
            .zip(self.loads.iter().zip(&self.bounds))
            .filter(|(pod, (load, bound))| load < bound && self.may_receive[usize::from(*pod)])
            .max_by_key(|(pod, (load, bound))| (*bound - *load, core::cmp::Reverse(*pod)))
            .map(|(pod, _)| PodIndex::new(pod))
    }

    /// Adds a move to the last step, or to a new one if that has no place for it.
    fn emit(&mut self, next: Move, parked: bool) {
        self.open_step(1);
        if !self.pace.admits(next) {
            self.begin_step();
        }
        self.push(next, parked);
    }

    /// Adds a move to the last step.
    fn push(&mut self, next: Move, parked: bool) {
        self.loads[next.from.as_usize()] -= 1;
        self.loads[next.to.as_usize()] += 1;
        self.pace.count(next);
        let Some(step) = self.steps.last_mut() else { return };
        if parked && let Some(aside) = step.moves.iter_mut().find(|one| one.slot == next.slot) {
            // It was parked in this very step: it never had to stop on the way.
            aside.to = next.to;
            return;
        }
        step.moves.push(next);
    }

    /// Sees to it that the last step has room for `moves` more.
    fn open_step(&mut self, moves: usize) {
        let full = |step: &Step| step.moves.len() + moves > self.pace.slots_per_step;
        if self.steps.last().is_none_or(full) {
            self.begin_step();
        }
    }

    fn begin_step(&mut self) {
        self.steps.push(Step::default());
        self.pace.restart();
    }
}

/// How much may happen in one step.
pub(crate) struct Pace {
    slots_per_step: usize,
    /// By pod: the number of the zone that it is in before the plan, if any.
    zones: Vec<Option<u16>>,
    /// By pod: how many slots it may get in one step.
    gains: Vec<u32>,
    /// By zone, and by pod: how many slots left it, or came to it, in the last step.
    left: Vec<u32>,
    gained: Vec<u32>,
}

impl Pace {
    /// `zones` and `gains` go by pod; zones are numbered below the number of pods.
    pub(crate) fn new(slots_per_step: u32, zones: Vec<Option<u16>>, gains: Vec<u32>) -> Self {
        let (left, gained) = (vec![0; zones.len()], vec![0; gains.len()]);
        Self { slots_per_step: slots_per_step as usize, zones, gains, left, gained }
    }

    /// Whether the last step may have this move too: one zone gives at most half of a step.
    fn admits(&self, next: Move) -> bool {
        let half = self.slots_per_step.div_ceil(2);
        let zone = self.zones[next.from.as_usize()];
        let target = next.to.as_usize();
        zone.is_none_or(|zone| (self.left[usize::from(zone)] as usize) < half)
            && self.gained[target] < self.gains[target]
    }

    fn count(&mut self, next: Move) {
        if let Some(zone) = self.zones[next.from.as_usize()] {
            self.left[usize::from(zone)] += 1;
        }
        self.gained[next.to.as_usize()] += 1;
    }

    fn restart(&mut self) {
        self.left.fill(0);
        self.gained.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Slot;

    /// Moves of slots 0, 1, 2 and so on between these pods.
    fn moves(ways: &[(u16, u16)]) -> Vec<Move> {
        (0..)
            .zip(ways)
            .map(|(slot, (from, to))| Move {
                slot: Slot::new(slot),
                from: PodIndex::new(*from),
                to: PodIndex::new(*to),
            })
            .collect()
    }

    /// No zones, and nobody warms up.
    fn free_pace(pods: usize, slots_per_step: u32) -> Pace {
        Pace::new(slots_per_step, vec![None; pods], vec![u32::MAX; pods])
    }

    /// The ways of each step, after a check that no pod ever exceeds its bound.
    fn search(
        loads: &[u32],
        bounds: &[u32],
        ways: &[(u16, u16)],
        slots_per_step: u32,
    ) -> Result<Vec<Vec<(u16, u16)>>, PlanError> {
        let may_receive = vec![true; loads.len()];
        let pace = free_pace(loads.len(), slots_per_step);
        let search = Search::new(loads.to_vec(), bounds.to_vec(), may_receive, pace);
        let steps = search.steps(moves(ways))?;
        let mut loads = loads.to_vec();
        for step in &steps {
            assert!(step.moves.len() <= slots_per_step as usize);
            for one in &step.moves {
                loads[one.from.as_usize()] -= 1;
                loads[one.to.as_usize()] += 1;
            }
            assert!(loads.iter().zip(bounds).all(|(load, bound)| load <= bound));
        }
        let way = |one: &Move| (one.from.get(), one.to.get());
        Ok(steps.iter().map(|step| step.moves.iter().map(way).collect()).collect())
    }

    #[test]
    fn a_move_to_a_full_pod_waits_until_that_has_given_one_away() {
        let steps = search(&[1, 2, 0], &[2, 2, 1], &[(0, 1), (1, 2)], 1).unwrap();
        assert_eq!(steps, [[(1, 2)], [(0, 1)]]);
    }

    #[test]
    fn full_pods_exchange_slots_within_one_step_if_it_is_large_enough() {
        let ways = [(0, 1), (1, 2), (2, 0)];
        assert_eq!(search(&[1, 1, 1], &[1, 1, 1], &ways, 3).unwrap().len(), 1);
        let refused = search(&[1, 1, 1], &[1, 1, 1], &ways, 2);
        assert_eq!(refused, Err(PlanError::NoSlack { pods: 3, slots_per_step: 2 }));
    }

    #[test]
    fn an_exchange_never_shares_a_step_that_it_would_overfill() {
        let ways = [(3, 4), (0, 1), (1, 2), (2, 0)];
        let steps = search(&[1, 1, 1, 1, 0], &[1, 1, 1, 1, 1], &ways, 3).unwrap();
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn one_place_to_spare_is_enough_for_any_exchange() {
        let ways = [(0, 1), (1, 2), (2, 0)];
        let steps = search(&[1, 1, 1, 0], &[1, 1, 1, 1], &ways, 1).unwrap();
        assert_eq!(steps.concat(), [(1, 3), (0, 1), (2, 0), (3, 2)]);
    }

    #[test]
    fn a_parked_slot_that_can_go_on_in_its_step_moves_only_once() {
        // The circle 1-2-4-0-1 is too long for a step. Parking its first slot on pod 3 lets the
        // move from 2 to 1 through, which makes room on 2 for the parked slot at once.
        let ways = [(2, 1), (1, 0), (1, 2), (2, 4), (0, 2), (0, 1), (4, 0)];
        let steps = search(&[2, 2, 2, 0, 1], &[2, 2, 2, 1, 1], &ways, 3).unwrap();
        assert_eq!(steps[0][..2], [(1, 2), (2, 1)]);
        assert_eq!(steps.concat().len(), ways.len());
    }

    #[test]
    fn slots_are_never_parked_on_a_pod_that_is_leaving() {
        let may_receive = vec![true, true, false];
        let search = Search::new(vec![1, 1, 0], vec![1, 1, 9], may_receive, free_pace(3, 1));
        let refused = search.steps(moves(&[(0, 1), (1, 0)]));
        assert_eq!(refused, Err(PlanError::NoSlack { pods: 2, slots_per_step: 1 }));
    }
}
