//! The exhaustive search of small cases, as far as a test can wait for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use hashroute_simulator::{Bounds, Bug, Invariant, Request, exhaust};

#[test]
fn a_drain_breaks_no_promise_in_any_order_of_events() {
    let horizon = Duration::from_millis(50);
    let bounds = Bounds { faults: 0, request: Request::Drain, horizon, ..Bounds::default() };
    let found = exhaust(&bounds);
    assert_eq!(found.violation, None);
    assert!(found.is_complete && found.states > 10_000, "{found:?}");
    assert!(found.transitions > 2 * found.states as u64, "many orders lead to one state");
    assert_eq!(exhaust(&bounds), found, "two searches find the same");
}

#[test]
fn a_search_finds_the_planted_bugs_within_its_bounds_and_tells_the_way() {
    let horizon = Duration::from_millis(110);
    let bounds = |faults, request, bug| {
        let bug = Some(bug);
        Bounds { faults, request, horizon, bug, ..Bounds::default() }
    };
    let cases = [
        // The joins at the start show it already.
        (0, Request::Nothing, Bug::ChosenByOne, Invariant::OneRecord),
        (0, Request::Drain, Bug::ReleaseIgnored, Invariant::OneWriter),
        (1, Request::Nothing, Bug::GuardsDroppedAtInstall, Invariant::VotesAndGrants),
    ];
    for (faults, request, bug, invariant) in cases {
        let found = exhaust(&bounds(faults, request, bug));
        let (violation, way) = found.violation.unwrap();
        assert_eq!(violation.invariant, invariant, "{bug:?}");
        let faults = way.iter().filter(|step| step.starts_with("FAULT")).count();
        assert!(faults <= 1, "{way:?}");
    }
}

#[test]
fn a_search_that_gives_up_says_so() {
    let bounds = Bounds { states_most: 100, ..Bounds::default() };
    let found = exhaust(&bounds);
    assert!(!found.is_complete);
    assert_eq!((found.states, found.violation), (100, None));
}
