//! Schedules bent towards what a planted bug needs, where the swarm would meet it rarely.

use std::time::Duration;

use hashroute_coordination::Bug;

use crate::plan::{Clocks, Kind, Plan, Step};

/// Bends the plan towards the faults that `bug` needs to do harm.
pub(crate) fn direct(plan: &mut Plan, bug: Bug) {
    let _ = (plan, bug);
}

fn step(least_ms: u64, most_ms: u64, kind: Kind) -> Step {
    let ms = Duration::from_millis;
    Step { least: ms(least_ms), most: ms(most_ms), kind }
}
