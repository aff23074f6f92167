//! Whole clusters under virtual time: seeded, replayable, running the code that ships.
//!
//! A schedule is one cluster's life: faults at first, while safety is checked at every step; then
//! everything heals, and every resource must be writable again. Everything follows from the seed.
#![forbid(unsafe_code)]

mod clock;
mod dice;
mod invariants;
mod plan;
mod world;

pub use hashroute_coordination::Bug;
pub use invariants::Violation;

use world::World;

/// What one schedule did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many events happened.
    pub events: u64,
    /// The first promise that was broken, if any was.
    pub violation: Option<Violation>,
}

/// Runs the schedule of `seed`, with a rule left out if `bug` names one. `directed` bends the
/// schedule towards the faults that the bug needs.
#[must_use]
pub fn run(seed: u64, bug: Option<Bug>, directed: bool, trace: bool) -> Outcome {
    let mut world = World::new(seed, bug, directed);
    world.trace = trace;
    let violation = world.run().err();
    Outcome { events: world.events, violation }
}
