//! The short run: schedules without a violation, every planted bug caught, and figures in virtual
//! time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::thread;
use std::time::Duration;

use hashroute_simulator::{Bug, Schedule, catch, figures, run};

#[test]
fn two_runs_of_a_seed_are_equal_byte_for_byte() {
    for seed in 0..20 {
        let schedule = Schedule { seed, trace: true, ..Schedule::default() };
        let (one, other) = (run(schedule), run(schedule));
        assert!(one.trace.len() > 300);
        assert!(one == other, "seed {seed} runs in two ways");
    }
}

#[test]
fn no_promise_is_broken_in_the_short_run() {
    for seed in 0..1500 {
        let outcome = run(Schedule { seed, ..Schedule::default() });
        assert_eq!(outcome.violation, None, "repeat: hashroute-simulator --seed {seed} --trace");
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let halves = Bug::ALL.chunks(Bug::ALL.len().div_ceil(2));
    let survivors: Vec<Bug> = thread::scope(|scope| {
        let hunts: Vec<_> = halves
            .map(|bugs| {
                let escapes = |bug: &&Bug| catch(**bug, 0..20_000, false).is_none();
                scope.spawn(move || bugs.iter().filter(escapes).copied().collect::<Vec<_>>())
            })
            .collect();
        hunts.into_iter().flat_map(|hunt| hunt.join().unwrap()).collect()
    });
    assert_eq!(survivors, []);
    assert!(Bug::ALL.len() >= 20);
}

#[test]
fn a_new_writer_is_there_within_the_promised_time() {
    for figure in figures(20) {
        let promised = match figure.what.split_once(": ") {
            Some((_, "planned move (drain)")) => Duration::from_millis(12),
            Some(("tight", _)) => Duration::from_millis(250),
            _ => Duration::from_millis(500),
        };
        assert!(figure.samples > 50, "{figure}");
        assert!(figure.worst <= promised, "{figure}");
    }
}
