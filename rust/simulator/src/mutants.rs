//! Which schedule catches which planted bug.

use std::ops::Range;

use hashroute_coordination::Bug;

use crate::invariants::{Invariant, Violation};
use crate::{Engine, Schedule, run};

/// The schedule that caught a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catch {
    /// The seed, and whether the schedule was bent towards the bug.
    pub schedule: Schedule,
    /// What broke.
    pub violation: Violation,
}

/// Returns the first schedule of the seeds that breaks a promise because of `bug`: directed ones
/// are tried when no other has caught it.
#[must_use]
pub fn catch(engine: Engine, bug: Bug, seeds: Range<u64>, visible_only: bool) -> Option<Catch> {
    [false, true].iter().find_map(|directed| {
        seeds.clone().find_map(|seed| {
            let bug = Some(bug);
            let schedule =
                Schedule { engine, seed, bug, directed: *directed, visible_only, trace: false };
            let violation = run(schedule).violation.filter(|violation| {
                // A bug that lets wrong writes through is not caught by a cluster that stops.
                violation.invariant != Invariant::Recovery || bug.is_some_and(Bug::stops_progress)
            })?;
            Some(Catch { schedule, violation })
        })
    })
}
