//! Every order of events of a small cluster, up to a bound: three voters, two pods, a change by the
//! operator, and a few faults at any moment.
//!
//! A search in depth over the state machines that ship, with the promises of the schedules
//! checked in each state. Time is abstract: messages take none and arrive in any order, what a voter
//! answers right after what it answers, and what two pods renew at once pod by pod, unless a fault
//! loses, delays or repeats them; and when
//! nothing is to be done it passes to the next instant at which somebody wanted to be woken. A late
//! message arrives at any such instant, or never. So there is no luck in it, but no drift and no
//! slow link either: those are for the schedules.

mod letter;
mod moves;
mod process;
mod state;

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;
use std::vec;

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
    /// How many events were followed at most, one after the other.
    pub depth: usize,
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
    let mut known = HashSet::with_hasher(BuildHasherDefault::<AsItIs>::default());
    known.insert(start.fingerprint());
    let mut levels = vec![Level::new(start, None)];
    while let Some(level) = levels.last_mut() {
        let Some(step) = level.left.next() else {
            levels.pop();
            continue;
        };
        found.transitions += 1;
        let mut after = level.state.clone();
        if let Err(violation) = after.make(&step) {
            found.violation = Some((violation, told(&levels, &step)));
            break;
        }
        if known.insert(after.fingerprint()) {
            levels.push(Level::new(after, Some(step)));
            found.depth = found.depth.max(levels.len());
        }
        if known.len() >= bounds.states_most {
            found.is_complete = false;
            break;
        }
    }
    found.states = known.len();
    found
}

/// A state on the way that is being followed.
struct Level {
    state: State,
    /// What led to it.
    step: Option<Move>,
    /// What may happen next and was not followed yet.
    left: vec::IntoIter<Move>,
}

impl Level {
    fn new(state: State, step: Option<Move>) -> Self {
        let left = state.moves().into_iter();
        Self { state, step, left }
    }
}

/// The events on the way, and the last one.
fn told(levels: &[Level], last: &Move) -> Vec<String> {
    let origin = levels.first().map(|level| level.state.origin()).unwrap_or_default();
    let steps = levels.iter().filter_map(|level| level.step.as_ref());
    let mut told = vec![format!("both pods have joined at {origin:?}")];
    told.extend(steps.chain([last]).map(ToString::to_string));
    told
}

/// Fingerprints are as good as drawn by lot already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
