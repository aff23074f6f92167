//! `hashroute-simulator`: runs schedules, says what broke, and repeats any of them.

mod arguments;
mod campaign;
mod ledger;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use arguments::{Arguments, Task};
use hashroute_simulator::{Bounds, Exhausted, Schedule, catch, exhaust, figures, run};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            let _ = writeln!(io::stderr(), "{problem}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let mut out = io::stdout().lock();
    let done = match arguments.task {
        Task::Help => writeln!(out, "{}", arguments::USAGE).map(|()| true),
        Task::One => one(&mut out, arguments.schedule),
        Task::Many => campaign::run_all(&mut out, &arguments),
        Task::Mutants => mutants(&mut out, &arguments),
        Task::Figures => print_figures(&mut out),
        Task::Exhaustive => search(&mut out, &arguments.bounds),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the output has read enough.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs one schedule; returns whether nothing broke.
fn one(out: &mut impl Write, schedule: Schedule) -> io::Result<bool> {
    let outcome = run(schedule);
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "seed {}: {} events, {} epochs", schedule.seed, outcome.events, outcome.epoch)?;
    match &outcome.violation {
        Some(violation) => writeln!(out, "{violation}")?,
        None => writeln!(out, "nothing broke")?,
    }
    Ok(outcome.violation.is_none())
}

/// Lets the schedules hunt every planted bug; returns whether all were caught.
fn mutants(out: &mut impl Write, arguments: &Arguments) -> io::Result<bool> {
    let next = AtomicU64::new(0);
    let Schedule { engine, visible_only, .. } = arguments.schedule;
    let bugs = engine.bugs();
    let (sender, receiver) = mpsc::channel();
    let (mut survivors, mut caught) = (0, 0);
    thread::scope(|scope| {
        for _ in 0..arguments.threads {
            let (next, bugs, sender) = (&next, &bugs, sender.clone());
            scope.spawn(move || {
                while let Some(bug) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                    .ok()
                    .and_then(|index| bugs.get(index).copied())
                {
                    let found = catch(engine, bug, arguments.seeds.clone(), visible_only);
                    if sender.send((bug, found)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (bug, found) in receiver {
            let name = format!("{bug:?}");
            match found {
                Some(catch) => {
                    caught += 1;
                    let how = if catch.schedule.directed { "directed" } else { "swarm" };
                    let (seed, broke) = (catch.schedule.seed, catch.violation.invariant);
                    let broke = format!("{broke:?}");
                    writeln!(out, "{name:<22} {how:<8} seed {seed:<6} {broke:<19} {}", bug.what())?;
                }
                None => {
                    survivors += 1;
                    writeln!(out, "{name:<22} SURVIVED {:?} {}", arguments.seeds, bug.what())?;
                }
            }
        }
        io::Result::Ok(())
    })?;
    writeln!(out, "{caught} of {} planted bugs caught", bugs.len())?;
    Ok(survivors == 0)
}

/// Looks at every state within the bounds; returns whether nothing broke.
fn search(out: &mut impl Write, bounds: &Bounds) -> io::Result<bool> {
    let started = Instant::now();
    let found = exhaust(bounds);
    if let Some((violation, way)) = &found.violation {
        way.iter().try_for_each(|step| writeln!(out, "{step}"))?;
        writeln!(out, "{violation}")?;
    }
    let Bounds { faults, request, horizon, .. } = bounds;
    let Exhausted { states, transitions, depth, is_complete, violation } = &found;
    let kind = if *is_complete && violation.is_none() { "all" } else { "the first" };
    writeln!(
        out,
        "{kind} {states} states, {transitions} transitions, at most {depth} events deep: {faults} \
         faults, {request:?}, {horizon:?}; {:.1} s",
        started.elapsed().as_secs_f64()
    )?;
    Ok(violation.is_none())
}

fn print_figures(out: &mut impl Write) -> io::Result<bool> {
    for figure in figures(CLUSTERS) {
        writeln!(out, "{figure}")?;
    }
    Ok(true)
}

/// So many clusters for each figure.
const CLUSTERS: u64 = 200;
