//! The way from one ring to another in steps that each move a bounded number of slots.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::error::PlanError;
use crate::id::{PodId, PodIndex, Slot};
use crate::plan_search::{Pace, Search};
use crate::pod::{Pod, PodState};
use crate::ring::Ring;
use crate::view::View;

/// One slot that changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The slot.
    pub slot: Slot,
    /// Who owns it before the step: a place in [`Plan::pods`].
    pub from: PodIndex,
    /// Who owns it after the step: a place in [`Plan::pods`].
    pub to: PodIndex,
}

/// Slots that change hands together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The moves of this step, no two of them of the same slot.
    pub moves: Vec<Move>,
}

/// How fast a plan may go, but for what failed. The default is one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// The most slots that one step moves; without it there is no limit. Half of them, rounded up,
    /// may come from one zone, so that no zone is emptied at once (an exchange of slots between
    /// full pods is not held up by this).
    pub slots_per_step: Option<u32>,
    /// In how many steps, at least, a pod takes its share that owned nothing before: 1 is at once.
    pub warm_up_steps: u32,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { slots_per_step: None, warm_up_steps: 1 }
    }
}

/// The steps from one ring to another. After every step each pod is within its load bound: the
/// larger of its two, since a pod that leaves keeps the old one and a pod that joins has the new.
///
/// Two processes that plan between the same two rings with the same options get the same plan, so
/// they agree on the table by (from, to, number of steps): after a crash, plan again, and
/// [`Plan::apply`] gives the table that was reached. To undo a plan, plan the other way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pods: Vec<PodId>,
    start: Vec<u16>,
    steps: Vec<Step>,
    moved_slots: u32,
    least_slots: u32,
}

impl Plan {
    /// The pods of both views, sorted by id: what the indices of this plan point into.
    #[must_use]
    pub fn pods(&self) -> &[PodId] {
        &self.pods
    }

    /// The steps, in order; none if both tables are the same.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many slots have another owner at the end than at the start.
    #[must_use]
    pub fn moved_slots(&self) -> u32 {
        self.moved_slots
    }

    /// The fewest slots that any two tables with this outcome could have moved: what the pods
    /// that joined, left or changed weight gain, or lose, or what the load bounds force.
    #[must_use]
    pub fn least_slots(&self) -> u32 {
        self.least_slots
    }

    /// The owners of all slots after the first `steps` steps, as places in [`Plan::pods`]; with
    /// more steps than the plan has, the final table.
    #[must_use]
    pub fn apply(&self, steps: usize) -> Vec<u16> {
        let mut table = self.start.clone();
        for change in self.steps.iter().take(steps).flat_map(|step| &step.moves) {
            table[change.slot.get() as usize] = change.to.get();
        }
        table
    }

    /// As [`Plan::apply`], for who holds a ring and does not know whether the plan starts from it.
    ///
    /// # Errors
    ///
    /// [`PlanError::OtherRing`] if a slot of `ring` has another owner than where the plan starts.
    pub fn apply_to(&self, ring: &Ring, steps: usize) -> Result<Vec<u16>, PlanError> {
        let places: Vec<Option<u16>> = ring
            .view()
            .pods()
            .iter()
            .map(|pod| u16::try_from(self.pods.binary_search(&pod.id).ok()?).ok())
            .collect();
        let slots = ring.owners().len().max(self.start.len());
        let same = ring.owners().iter().zip(&self.start);
        let same =
            same.filter(|(owner, start)| places[usize::from(**owner)] == Some(**start)).count();
        if same < slots {
            let slots = u32::try_from(slots - same).unwrap_or(u32::MAX);
            return Err(PlanError::OtherRing { slots });
        }
        Ok(self.apply(steps))
    }
}

impl Ring {
    /// Plans the way from this ring to `to` in steps that move at most `slots_per_step` slots;
    /// with `None`, as after a failure, in one step. See [`Ring::plan_with`].
    ///
    /// # Errors
    ///
    /// As [`Ring::plan_with`].
    pub fn plan(&self, to: &Self, slots_per_step: Option<u32>) -> Result<Plan, PlanError> {
        self.plan_with(to, PlanOptions { slots_per_step, ..PlanOptions::default() })
    }

    /// Plans the way from this ring to `to`.
    ///
    /// Moves whose target has room go first. Where full pods exchange slots, the exchange fits
    /// into a step or one slot waits on a pod that has room, at the price of one more move.
    ///
    /// What failed cannot wait for its step: where pods that own slots here are
    /// [`PodState::Down`] in `to`, the first step leads to the table of this view without them,
    /// whatever the options, and the rest of the change follows from there. (Then the bound in
    /// that table counts too.) If nobody is left to take part, the first step is the whole way.
    ///
    /// # Errors
    ///
    /// [`PlanError::SlotsDiffer`], [`PlanError::TooManyPods`], [`PlanError::ZeroSlotsPerStep`],
    /// [`PlanError::ZeroWarmUpSteps`], and [`PlanError::NoSlack`] if full pods would have to
    /// exchange slots, the exchange does not fit into a step, and no pod has a place to spare.
    pub fn plan_with(&self, to: &Self, options: PlanOptions) -> Result<Plan, PlanError> {
        if self.owners().len() != to.owners().len() {
            return Err(PlanError::SlotsDiffer {
                from: self.view().parameters().slots(),
                to: to.view().parameters().slots(),
            });
        }
        if options.slots_per_step == Some(0) {
            return Err(PlanError::ZeroSlotsPerStep);
        }
        if options.warm_up_steps == 0 {
            return Err(PlanError::ZeroWarmUpSteps);
        }
        let union = Union::new(self.view(), to.view())?;
        let steps = match self.without_failed(to) {
            None => union.steps((self, &union.before), (to, &union.after), options)?,
            Some(without) => {
                let (without, places) = match &without {
                    Some(ring) => (ring, &union.before),
                    None => (to, &union.after),
                };
                let (before, between) = ((self, &union.before[..]), (without, &places[..]));
                let mut steps = union.steps(before, between, PlanOptions::default())?;
                steps.extend(union.steps(between, (to, &union.after), options)?);
                steps
            }
        };
        let start = union.table(&union.before, self);
        let end = union.table(&union.after, to);
        let moved_slots = start.iter().zip(&end).map(|(one, other)| u32::from(one != other)).sum();
        let least_slots = least_slots(self, to, &union);
        Ok(Plan { pods: union.pods, start, steps, moved_slots, least_slots })
    }

    /// The ring of this view in which the pods are down that own slots here and are down in `to`;
    /// `None` if there are none, `Some(None)` if nobody else would be left.
    fn without_failed(&self, to: &Self) -> Option<Option<Self>> {
        let down = |pod: &Pod| {
            let there = to.view().index_of(pod.id.as_str()).and_then(|pod| to.view().pod(pod));
            there.is_some_and(|pod| pod.state == PodState::Down)
        };
        let owning = self.view().pods().iter().zip(self.slot_counts());
        let failed: BTreeSet<&PodId> = owning
            .filter(|(pod, count)| **count > 0 && down(pod))
            .map(|(pod, _)| &pod.id)
            .collect();
        if failed.is_empty() {
            return None;
        }
        let pods = self.view().pods().iter().map(|pod| match failed.contains(&pod.id) {
            true => Pod { state: PodState::Down, ..pod.clone() },
            false => pod.clone(),
        });
        // With fewer pods to own slots, this is a view; it has no ring if nobody is left.
        let view = View::new(self.view().epoch(), self.view().parameters(), pods.collect());
        Some(view.and_then(|view| self.follow(view)).ok())
    }
}

/// The pods of two views as one list, and where each view's pods are in it.
struct Union {
    pods: Vec<PodId>,
    before: Vec<u16>,
    after: Vec<u16>,
}

impl Union {
    fn new(before: &View, after: &View) -> Result<Self, PlanError> {
        let mut pods: Vec<PodId> =
            before.pods().iter().chain(after.pods()).map(|pod| pod.id.clone()).collect();
        pods.sort_unstable();
        pods.dedup();
        if pods.len() > View::PODS_MAX {
            return Err(PlanError::TooManyPods { pods: pods.len(), pods_max: View::PODS_MAX });
        }
        let places = |view: &View| {
            // Both lists are sorted by id, and every pod of the view is in the union.
            (0..=u16::MAX)
                .zip(&pods)
                .filter(|(_, id)| view.index_of(id.as_str()).is_some())
                .map(|(place, _)| place)
                .collect()
        };
        let (before, after) = (places(before), places(after));
        Ok(Self { pods, before, after })
    }

    /// The steps from one table to another, each that of a ring whose pods are at these places.
    fn steps(
        &self,
        (from, from_places): (&Ring, &[u16]),
        (to, to_places): (&Ring, &[u16]),
        options: PlanOptions,
    ) -> Result<Vec<Step>, PlanError> {
        let (start, end) = (self.table(from_places, from), self.table(to_places, to));
        let moves: Vec<Move> = (0..)
            .zip(start.iter().zip(&end))
            .filter(|(_, (before, after))| before != after)
            .map(|(slot, (before, after))| Move {
                slot: Slot::new(slot),
                from: PodIndex::new(*before),
                to: PodIndex::new(*after),
            })
            .collect();
        let before = self.spread(from_places, from.bounds());
        let after = self.spread(to_places, to.bounds());
        let bounds = before.iter().zip(&after).map(|(one, other)| *one.max(other)).collect();
        let may_receive = after.iter().map(|bound| *bound > 0).collect();
        let loads = self.spread(from_places, from.slot_counts());
        let gains = self.spread(to_places, to.slot_counts());
        let gains = loads
            .iter()
            .zip(gains)
            .map(|(load, gain)| match load {
                0 => gain.div_ceil(options.warm_up_steps).max(1),
                _ => u32::MAX,
            })
            .collect();
        let slots_per_step = options.slots_per_step.unwrap_or(u32::MAX);
        let pace = Pace::new(slots_per_step, self.zones(from, from_places), gains);
        Search::new(loads, bounds, may_receive, pace).steps(moves)
    }

    fn table(&self, places: &[u16], ring: &Ring) -> Vec<u16> {
        ring.owners().iter().map(|owner| places[usize::from(*owner)]).collect()
    }

    /// By pod of the union: the number of its zone in the ring before, if it has one there.
    fn zones(&self, before: &Ring, places: &[u16]) -> Vec<Option<u16>> {
        let of = before.view().pods().iter().zip(&before.parts().zones);
        let zones: Vec<_> = of.map(|(pod, zone)| pod.zone.as_ref().map(|_| *zone)).collect();
        self.spread(places, &zones)
    }

    /// A list by pod of one view as a list by pod of the union, 0 for pods of the other only.
    fn spread<T: Copy + Default>(&self, places: &[u16], values: &[T]) -> Vec<T> {
        let mut spread = alloc::vec![T::default(); self.pods.len()];
        for (place, value) in places.iter().zip(values) {
            spread[usize::from(*place)] = *value;
        }
        spread
    }
}

/// See [`Plan::least_slots`].
fn least_slots(from: &Ring, to: &Ring, union: &Union) -> u32 {
    let weights = |ring: &Ring| -> Vec<u64> {
        let weight = |pod: &Pod| match pod.state.owns_slots() {
            true => pod.weight.millionths(),
            false => 0,
        };
        ring.view().pods().iter().map(weight).collect()
    };
    let weight_before = union.spread(&union.before, &weights(from));
    let weight_after = union.spread(&union.after, &weights(to));
    let load_before = union.spread(&union.before, from.slot_counts());
    let load_after = union.spread(&union.after, to.slot_counts());
    let bound_after = union.spread(&union.after, to.bounds());

    let (mut gained, mut lost, mut forced) = (0, 0, 0);
    for pod in 0..union.pods.len() {
        forced += load_before[pod].saturating_sub(bound_after[pod]);
        if weight_before[pod] != weight_after[pod] {
            gained += load_after[pod].saturating_sub(load_before[pod]);
            lost += load_before[pod].saturating_sub(load_after[pod]);
        }
    }
    gained.max(lost).max(forced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::view::{Parameters, pod};
    use std::format;

    fn ring(slots: u64, epsilon: f64, seed: u64, pods: u32) -> Ring {
        let parameters = Parameters::new(slots, epsilon, seed).unwrap();
        let pods = (0..pods).map(|number| pod(&format!("pod-{number}"), 1.0)).collect();
        Ring::build(View::new(Epoch::new(1), parameters, pods).unwrap()).unwrap()
    }

    #[test]
    fn a_ring_needs_no_step_to_itself() {
        let ring = ring(64, 0.05, 0, 3);
        let plan = ring.plan(&ring, Some(1)).unwrap();
        assert_eq!((plan.steps().len(), plan.moved_slots(), plan.least_slots()), (0, 0, 0));
        assert_eq!(plan.apply(0), ring.owners());
    }

    #[test]
    fn a_plan_that_cannot_be_is_refused_with_the_reason() {
        let (one, other) = (ring(64, 0.0, 0, 4), ring(64, 0.0, 1, 4));
        assert_eq!(one.plan(&other, Some(0)), Err(PlanError::ZeroSlotsPerStep));
        let cold = PlanOptions { slots_per_step: None, warm_up_steps: 0 };
        assert_eq!(one.plan_with(&other, cold), Err(PlanError::ZeroWarmUpSteps));
        let finer = ring(128, 0.0, 0, 4);
        assert_eq!(one.plan(&finer, None), Err(PlanError::SlotsDiffer { from: 64, to: 128 }));
        // With epsilon 0 and 16 slots for each of 4 pods, nobody has a place to spare.
        let refused = one.plan(&other, Some(1)).unwrap_err();
        assert_eq!(refused.code(), "no_slack");
        assert_eq!(one.plan(&other, None).unwrap().steps().len(), 1);
    }

    #[test]
    fn the_least_is_what_the_changed_pods_gain_or_lose() {
        let (three, four) = (ring(1024, 0.5, 0, 3), ring(1024, 0.5, 0, 4));
        let join = three.plan(&four, Some(100)).unwrap();
        let gained = four.slot_counts()[3];
        assert_eq!(join.least_slots(), gained);
        assert_eq!(join.steps().len(), join.moved_slots().div_ceil(100) as usize);
        assert_eq!(four.plan(&three, None).unwrap().least_slots(), gained);
    }

    #[test]
    fn the_least_of_a_narrower_bound_is_what_it_forces() {
        let (wide, narrow) = (ring(1024, 0.5, 0, 3), ring(1024, 0.0, 0, 3));
        let over = wide.slot_counts().iter().zip(narrow.bounds());
        let forced: u32 = over.map(|(count, bound)| count.saturating_sub(*bound)).sum();
        assert!(forced > 0);
        assert_eq!(wide.plan(&narrow, None).unwrap().least_slots(), forced);
    }
}
