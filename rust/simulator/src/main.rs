//! `simulator [--seeds FROM..TO] [--seed N] [--mutants]`: runs schedules and says what broke.
use std::time::Instant;

use hashroute_simulator::{Bug, run};

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut from, mut to, mut mutants, mut trace) = (0, 2000, false, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => {
                let range = args.next().unwrap_or_default();
                if let Some((a, b)) = range.split_once("..") {
                    from = a.parse().unwrap_or(0);
                    to = b.parse().unwrap_or(0);
                }
            }
            "--seed" => {
                from = args.next().and_then(|it| it.parse().ok()).unwrap_or(0);
                to = from + 1;
            }
            "--trace" => trace = true,
            "--mutants" => mutants = true,
            _ => {}
        }
    }
    if mutants {
        for bug in Bug::ALL {
            let caught = [false, true].into_iter().find_map(|directed| {
                (from..to).find_map(|seed| {
                    run(seed, Some(bug), directed, false)
                        .violation
                        .filter(|it| it.invariant != "recovery")
                        .map(|it| (seed, it))
                })
            });
            match caught {
                Some((seed, violation)) => {
                    println!("{bug:?}: seed {seed}: {}", violation.invariant)
                }
                None => println!("{bug:?}: SURVIVED {from}..{to}"),
            }
        }
        return;
    }
    let started = Instant::now();
    let (mut events, mut broken) = (0, 0);
    for seed in from..to {
        let outcome = run(seed, None, false, to == from + 1 && trace);
        events += outcome.events;
        if let Some(violation) = outcome.violation {
            broken += 1;
            println!("seed {seed}: {violation}");
            if broken > 5 {
                break;
            }
        }
    }
    println!("{} schedules, {events} events, {broken} broken, {:?}", to - from, started.elapsed());
}
