//! Whole clusters under virtual time: seeded, replayable, running the code that ships.
//!
//! A schedule is one cluster's life: faults at first, while safety is checked at every step; then
//! everything heals but for one fault, and every resource must be writable again. Everything
//! follows from the seed: two runs of it are equal byte for byte.
#![forbid(unsafe_code)]

mod clock;
mod dice;
#[cfg(test)]
mod directed;
mod etcd_world;
mod exhaustive;
mod figures;
mod invariants;
mod mutants;
mod number;
mod plan;
mod queue;
mod recipes;
mod world;

pub use exhaustive::{Bounds, Exhausted, Request, exhaust};
pub use figures::{Figure, figures};
pub use hashroute_coordination::Bug;
pub use invariants::{Invariant, Violation};
pub use mutants::{Catch, catch};

use std::time::Duration;

use dice::Dice;
use plan::Plan;
use world::World;

/// Who keeps the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Engine {
    /// Voters of our own.
    #[default]
    Embedded,
    /// An etcd cluster.
    Etcd,
}

impl Engine {
    /// The rules that can be left out of it.
    #[must_use]
    pub fn bugs(self) -> Vec<Bug> {
        let is_its = match self {
            Self::Embedded => Bug::is_of_voters,
            Self::Etcd => Bug::is_of_register,
        };
        Bug::ALL.iter().copied().filter(|bug| is_its(*bug)).collect()
    }
}

/// One schedule to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Schedule {
    /// Which engine is run.
    pub engine: Engine,
    /// What everything follows from.
    pub seed: u64,
    /// The rule that is left out.
    pub bug: Option<Bug>,
    /// Whether the schedule is bent towards the faults that the bug needs.
    pub directed: bool,
    /// Whether only promises count that users would see broken.
    pub visible_only: bool,
    /// Whether every event is written down.
    pub trace: bool,
}

/// What one schedule did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many events happened.
    pub events: u64,
    /// The last epoch that was agreed.
    pub epoch: u64,
    /// How long after the healing the last resource was seen to be writable again. Nobody looks
    /// before the lasting fault has shown.
    pub recovery: Option<Duration>,
    /// The first promise that was broken, if any was.
    pub violation: Option<Violation>,
    /// One line an event, if they were asked for.
    pub trace: Vec<String>,
}

/// Runs one schedule to its end, or to the first promise that is broken.
#[must_use]
pub fn run(schedule: Schedule) -> Outcome {
    match schedule.engine {
        Engine::Embedded => run_embedded(schedule),
        Engine::Etcd => run_on_etcd(schedule),
    }
}

fn run_embedded(schedule: Schedule) -> Outcome {
    let mut dice = Dice::new(schedule.seed);
    let mut plan = Plan::swarm(&mut dice);
    if let Some(bug) = schedule.bug.filter(|_| schedule.directed) {
        recipes::direct(&mut plan, bug);
    }
    let mut world = World::new(dice, plan, schedule.bug, schedule.visible_only);
    world.trace = schedule.trace.then(Vec::new);
    let violation = world.run().err();
    let recovery = violation.is_none().then(|| world.now.saturating_sub(world.plan.heal_at));
    let epoch = world.observed.latest().epoch().get();
    let trace = world.trace.take().unwrap_or_default();
    Outcome { events: world.events, epoch, recovery, violation, trace }
}

fn run_on_etcd(schedule: Schedule) -> Outcome {
    let mut dice = Dice::new(schedule.seed);
    let mut plan = etcd_world::plan::Plan::swarm(&mut dice);
    if let Some(bug) = schedule.bug.filter(|_| schedule.directed) {
        plan.direct(bug);
    }
    let mut world = etcd_world::World::new(dice, plan, schedule.bug, schedule.visible_only);
    world.trace = schedule.trace.then(Vec::new);
    let violation = world.run().err();
    let recovery = violation.is_none().then(|| world.now.saturating_sub(world.plan.heal_at));
    let epoch = world.observed.latest().epoch().get();
    let trace = world.trace.take().unwrap_or_default();
    Outcome { events: world.events, epoch, recovery, violation, trace }
}
