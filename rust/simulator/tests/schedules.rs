//! The short run: schedules without a violation, every planted bug caught, and figures in virtual
//! time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use hashroute_simulator::{Bug, Engine, Schedule, catch, figures, run};

#[test]
fn two_runs_of_a_seed_are_equal_byte_for_byte() {
    for (engine, seed) in ENGINES.into_iter().flat_map(|it| (0..20).map(move |seed| (it, seed))) {
        let schedule = Schedule { engine, seed, trace: true, ..Schedule::default() };
        let (one, other) = (run(schedule), run(schedule));
        assert!(one.trace.len() > 200);
        assert!(one == other, "seed {seed} of {engine:?} runs in two ways");
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
fn no_promise_is_broken_on_etcd_in_the_short_run() {
    for seed in 0..1500 {
        let outcome = run(Schedule { engine: Engine::Etcd, seed, ..Schedule::default() });
        assert_eq!(
            outcome.violation, None,
            "repeat: hashroute-simulator --engine etcd --seed {seed} --trace"
        );
    }
}

/// Whoever changes what the dice of a seed decide makes every seed that was ever written down another
/// schedule: then this is to be changed with it, and the seeds in the documentation.
#[test]
fn a_seed_is_the_same_schedule_in_every_release() {
    let totals = |engine| {
        let runs = (0..100).map(|seed| run(Schedule { engine, seed, ..Schedule::default() }));
        runs.fold((0, 0), |(events, epochs), it| (events + it.events, epochs + it.epoch))
    };
    assert_eq!(ENGINES.map(totals), [(255_221, 853), (245_253, 795)]);
}

#[test]
fn every_planted_bug_is_caught() {
    let bugs = Engine::Embedded.bugs();
    assert_eq!(survivors(Engine::Embedded, &bugs), []);
    assert!(bugs.len() >= 20);
}

#[test]
fn every_planted_bug_of_the_engine_on_etcd_is_caught() {
    let bugs = Engine::Etcd.bugs();
    assert_eq!(survivors(Engine::Etcd, &bugs), []);
    assert!(bugs.len() >= 20);
    let both = Engine::Embedded.bugs().into_iter().chain(bugs);
    assert_eq!(both.collect::<BTreeSet<Bug>>().len(), Bug::ALL.len(), "each is of an engine");
}

fn survivors(engine: Engine, bugs: &[Bug]) -> Vec<Bug> {
    let halves = bugs.chunks(bugs.len().div_ceil(2));
    thread::scope(|scope| {
        let hunts: Vec<_> = halves
            .map(|bugs| {
                let escapes = |bug: &&Bug| catch(engine, **bug, 0..20_000, false).is_none();
                scope.spawn(move || bugs.iter().filter(escapes).copied().collect::<Vec<_>>())
            })
            .collect();
        hunts.into_iter().flat_map(|hunt| hunt.join().unwrap()).collect()
    })
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

const ENGINES: [Engine; 2] = [Engine::Embedded, Engine::Etcd];
