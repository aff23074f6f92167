//! The way from one ring to another in steps that each move a bounded number of slots.

use alloc::vec::Vec;

use crate::error::PlanError;
use crate::id::{PodId, PodIndex, Slot};
use crate::ring::Ring;

/// One slot that changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The slot.
    pub slot: Slot,
    /// Who owned it before: a place in [`Plan::pods`].
    pub from: PodIndex,
    /// Who owns it after: a place in [`Plan::pods`].
    pub to: PodIndex,
}

/// Slots that change hands together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The moves of this step, no two of the same slot.
    pub moves: Vec<Move>,
}

/// The steps from one ring to another. Every step ends in a table within the load bounds.
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

    /// How many slots have another owner at the end.
    #[must_use]
    pub fn moved_slots(&self) -> u32 {
        self.moved_slots
    }

    /// The fewest slots that could have moved: what the pods that changed gain or lose, or what
    /// the load bounds force.
    #[must_use]
    pub fn least_slots(&self) -> u32 {
        self.least_slots
    }

    /// The owners of all slots after the first `steps` steps, as places in [`Plan::pods`].
    #[must_use]
    pub fn apply(&self, steps: usize) -> Vec<u16> {
        let mut table = self.start.clone();
        for change in self.steps.iter().take(steps).flat_map(|step| &step.moves) {
            table[change.slot.get() as usize] = change.to.get();
        }
        table
    }
}

impl Ring {
    /// Plans the way from this ring to `to` in steps of at most `slots_per_step` slots; with
    /// `None` in one step, as after a failure.
    ///
    /// # Errors
    ///
    /// [`PlanError::SlotsDiffer`], [`PlanError::ZeroSlotsPerStep`], and [`PlanError::NoSlack`] if
    /// full pods would have to exchange slots and no pod has a place to spare.
    pub fn plan(&self, to: &Self, slots_per_step: Option<u32>) -> Result<Plan, PlanError> {
        let (from_slots, to_slots) = (self.owners().len(), to.owners().len());
        if from_slots != to_slots {
            return Err(PlanError::SlotsDiffer {
                from: self.view().parameters().slots(),
                to: to.view().parameters().slots(),
            });
        }
        if slots_per_step == Some(0) {
            return Err(PlanError::ZeroSlotsPerStep);
        }
        Ok(greedy(self, to, slots_per_step.unwrap_or(u32::MAX)))
    }
}

fn greedy(from: &Ring, to: &Ring, slots_per_step: u32) -> Plan {
    let mut pods: Vec<PodId> =
        from.view().pods().iter().chain(to.view().pods()).map(|pod| pod.id.clone()).collect();
    pods.sort_unstable();
    pods.dedup();
    let place = |ring: &Ring, owner: u16| {
        let id = &ring.view().pods()[usize::from(owner)].id;
        PodIndex::new(u16::try_from(pods.partition_point(|pod| pod < id)).unwrap_or(u16::MAX))
    };
    let start: Vec<u16> = from.owners().iter().map(|owner| place(from, *owner).get()).collect();
    let moves: Vec<Move> = (0..)
        .zip(start.iter().zip(to.owners()))
        .map(|(slot, (before, after))| Move {
            slot: Slot::new(slot),
            from: PodIndex::new(*before),
            to: place(to, *after),
        })
        .filter(|change| change.from != change.to)
        .collect();
    let moved_slots = u32::try_from(moves.len()).unwrap_or(u32::MAX);
    let steps =
        moves.chunks(slots_per_step as usize).map(|moves| Step { moves: moves.to_vec() }).collect();
    Plan { pods, start, steps, moved_slots, least_slots: moved_slots }
}
