//! How long resources are without a writer, measured in clusters where one thing happens.
//!
//! Three voters, links and disks of up to 2 ms each, timers up to 0.3 ms late. The pod that the
//! thing happens to runs one of the voters, as it would in a cluster of two pods and a witness.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hashroute_coordination::{Change, LeaseParameters, Resource};

use crate::dice::Dice;
use crate::plan::Plan;
use crate::world::{Place, World};

/// What happens to the pod that owns the resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Kill,
    Pause,
    Cut,
    Deafen,
    KillAndRestart,
    Renounce,
    Drain,
}

/// How long resources were without a writer, over many clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What happened, at which settings.
    pub what: String,
    /// Half of the resources waited no longer.
    pub p50: Duration,
    /// All but one in a hundred waited no longer.
    pub p99: Duration,
    /// Nobody waited longer.
    pub worst: Duration,
    /// How many resources lost their writer.
    pub samples: usize,
}

impl fmt::Display for Figure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let Self { what, p50, p99, worst, samples } = self;
        write!(
            out,
            "{what:<44} p50 {:>6.1} ms  p99 {:>6.1} ms  worst {:>6.1} ms  ({samples} resources)",
            ms(*p50),
            ms(*p99),
            ms(*worst)
        )
    }
}

/// Measures each kind of trouble in so many clusters.
#[must_use]
pub fn figures(clusters: u64) -> Vec<Figure> {
    let settings = [("tight", LeaseParameters::TIGHT), ("default", LeaseParameters::DEFAULT)];
    let troubles = [
        (Trouble::Kill, "kill"),
        (Trouble::Pause, "pause"),
        (Trouble::Cut, "cut from everybody"),
        (Trouble::Deafen, "heard by all and hears nobody"),
        (Trouble::KillAndRestart, "kill and restart at once"),
        (Trouble::Renounce, "renounce, as its own host sees it die"),
        (Trouble::Drain, "planned move (drain)"),
    ];
    let mut figures = Vec::new();
    for (name, parameters) in settings {
        for (trouble, what) in troubles {
            let gaps = (0..clusters).flat_map(|seed| {
                let members = if seed % 2 == 0 { 2 } else { 4 };
                gaps(seed, parameters, members, trouble)
            });
            figures.push(figure(format!("{name}: {what}"), gaps.collect()));
        }
    }
    figures
}

fn figure(what: String, mut gaps: Vec<Duration>) -> Figure {
    gaps.sort_unstable();
    let at = |percent: usize| {
        let place = (gaps.len() * percent / 100).min(gaps.len().saturating_sub(1));
        gaps.get(place).copied().unwrap_or_default()
    };
    Figure { what, p50: at(50), p99: at(99), worst: at(100), samples: gaps.len() }
}

/// How long each resource of the pod was writable nowhere.
fn gaps(seed: u64, parameters: LeaseParameters, members: usize, trouble: Trouble) -> Vec<Duration> {
    let plan = Plan::quiet(parameters, members);
    let mut world = World::new(Dice::new(seed), plan, None, false);
    // Where in a renewal interval it happens is part of the draw.
    let at = Duration::from_secs(2) + parameters.renewal_interval.mul_f64(fraction(seed));
    run_until(&mut world, at);
    let victim = world.plan.voters;
    let record = world.observed.latest().clone();
    let owned = |resource: &Resource| world.writer_of(&record, resource) == Some(victim);
    let resources: Vec<Resource> = world.resources().into_iter().filter(owned).collect();
    strike(&mut world, victim, trouble);
    let end = world.now + Duration::from_secs(3);
    // What is taken from a live pod in good order goes on being written there for a while.
    let in_order = trouble == Trouble::Drain;
    let mut last_written: BTreeMap<Resource, Duration> =
        resources.iter().map(|resource| (resource.clone(), world.now)).collect();
    let mut gaps = Vec::new();
    while !last_written.is_empty() && world.advance(end) == Ok(true) {
        let (now, record) = (world.now, world.observed.latest().clone());
        last_written.retain(|resource, last| {
            if in_order && world.admitting(resource, victim) {
                *last = now;
                return true;
            }
            let again = world
                .writer_of(&record, resource)
                .is_some_and(|place| place != victim || trouble == Trouble::KillAndRestart);
            if again {
                gaps.push(now - *last);
            }
            !again
        });
    }
    // What has no writer by then waited at least so long.
    gaps.extend(last_written.values().map(|last| end - *last));
    gaps
}

fn strike(world: &mut World, victim: Place, trouble: Trouble) {
    let voter = 0;
    match trouble {
        Trouble::Kill | Trouble::KillAndRestart => {
            world.crash(victim);
            world.crash(voter);
            if trouble == Trouble::KillAndRestart {
                world.restart(victim, Duration::from_millis(50));
                world.restart(voter, Duration::from_millis(50));
            }
        }
        Trouble::Pause => {
            world.pause(victim, Duration::from_secs(10));
            world.pause(voter, Duration::from_secs(10));
        }
        Trouble::Cut => {
            for place in [victim, voter] {
                world.mute(place);
                world.deafen(place);
            }
        }
        Trouble::Deafen => {
            world.deafen(victim);
            world.deafen(voter);
        }
        Trouble::Renounce => world.renounce_at(victim),
        Trouble::Drain => {
            let pod = world.observed.latest().view().pods()[0].id.clone();
            world.wish(victim + 1, &Change::Drain(pod));
        }
    }
}

fn run_until(world: &mut World, at: Duration) {
    while world.advance(at) == Ok(true) {}
}

/// Spreads the seeds evenly over 0 to 1.
fn fraction(seed: u64) -> f64 {
    f64::from(u32::try_from(seed * 61 % 100).unwrap_or(0)) / 100.0
}
