//! Every order of events of a small cluster, up to a bound: three voters, two pods, a change by the
//! operator, and a few faults at any moment.
//!
//! A breadth-first search over the state machines that ship, with the promises of the schedules
//! checked in each state. Time is abstract: messages take none and arrive in any order, what a voter
//! answers right after what it answers, unless a fault loses, delays or repeats them; and when
//! nothing is to be done it passes to the next instant at which somebody wanted to be woken. A late
//! message arrives at any such instant, or never. So there is no luck in it, but no drift and no
//! slow link either: those are for the schedules.

mod letter;
mod moves;
mod process;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::Bug;

use crate::invariants::Violation;
use moves::Move;
use state::State;

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many things go wrong at most.
    pub faults: u8,
    /// What the operator may ask for, once and at any moment.
    pub request: Request,
    /// How much time passes at most after the first fault or request.
    pub horizon: Duration,
    /// How many events happen at most after that.
    pub depth: u32,
    /// How many states are looked at before the search gives up.
    pub states_most: usize,
    /// The rule that is left out.
    pub bug: Option<Bug>,
}

/// What the operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    Nothing,
    /// One pod gives up its slots.
    Drain,
    /// A fresh voter takes the place of another.
    ReplaceVoter,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            faults: 1,
            request: Request::Nothing,
            horizon: Duration::from_millis(150),
            depth: u32::MAX,
            states_most: usize::MAX,
            bug: None,
        }
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// How many different states there are.
    pub states: usize,
    /// How many events lead from one to another.
    pub transitions: u64,
    /// The longest of the shortest ways to a state.
    pub depth: u32,
    /// Whether all states within the horizon, with no more than the faults, were looked at.
    pub is_complete: bool,
    /// The first promise that was broken, and the events that led there.
    pub violation: Option<(Violation, Vec<String>)>,
}

/// Looks at every state within the bounds, or at all until a promise is broken.
#[must_use]
pub fn exhaust(bounds: &Bounds) -> Exhausted {
    let mut found =
        Exhausted { states: 0, transitions: 0, depth: 0, is_complete: true, violation: None };
    let start = match State::start(bounds) {
        Ok(start) => start,
        Err(violation) => {
            found.violation = Some((violation, Vec::new()));
            return found;
        }
    };
    let mut known = BTreeSet::from([start.fingerprint()]);
    let mut layer = vec![(start, None)];
    while !layer.is_empty() {
        if found.depth >= bounds.depth || known.len() >= bounds.states_most {
            found.is_complete = false;
            break;
        }
        let mut next = Vec::new();
        for (state, way) in &layer {
            for step in state.moves() {
                found.transitions += 1;
                let mut after = state.clone();
                let outcome = after.make(&step);
                let way = || Some(Arc::new(Way { before: way.clone(), step: step.clone() }));
                if let Err(violation) = outcome {
                    found.violation = Some((violation, told(&way(), state.origin())));
                    found.states = known.len();
                    return found;
                }
                if known.insert(after.fingerprint()) {
                    next.push((after, way()));
                }
            }
        }
        found.depth += u32::from(!next.is_empty());
        layer = next;
    }
    found.states = known.len();
    found
}

/// The events that led to a state, the last one first.
struct Way {
    before: Option<Arc<Way>>,
    step: Move,
}

fn told(way: &Option<Arc<Way>>, origin: Duration) -> Vec<String> {
    let mut told = Vec::new();
    let mut last = way.as_ref();
    while let Some(way) = last {
        told.push(way.step.to_string());
        last = way.before.as_ref();
    }
    told.push(format!("both pods have joined at {origin:?}"));
    told.reverse();
    told
}
