//! Many schedules on all threads, with what they add up to.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::ledger::{Ledger, Tally};
use hashroute_simulator::{Engine, Outcome, Schedule, run};

/// What has been run so far.
struct Campaign<'a> {
    seeds: Range<u64>,
    ledger: Option<Ledger>,
    /// By the first seed of each chunk that is begun.
    chunks: BTreeMap<u64, Tally>,
    sum: Tally,
    started: Instant,
    /// Schedules that were done before this run.
    before: u64,
    arguments: &'a Arguments,
}

/// Runs schedules until the seeds or the seconds are used up; returns whether nothing broke.
pub(crate) fn run_all(out: &mut impl Write, arguments: &Arguments) -> io::Result<bool> {
    let seeds = arguments.seeds.clone();
    let ledger = arguments.ledger.as_ref();
    let label = match arguments.schedule.engine {
        Engine::Embedded => arguments.label.clone(),
        Engine::Etcd => format!("{} on etcd", arguments.label),
    };
    let ledger = ledger.map(|path| Ledger::open(path, &seeds, &label)).transpose()?;
    let sum = ledger.as_ref().map(Ledger::sum).unwrap_or_default();
    let (started, before) = (Instant::now(), sum.schedules);
    let chunks = BTreeMap::new();
    let mut campaign = Campaign { seeds, ledger, chunks, sum, started, before, arguments };
    campaign.run(out)?;
    campaign.report(out, "done")?;
    Ok(campaign.sum.broken == 0)
}

impl Campaign<'_> {
    fn run(&mut self, out: &mut impl Write) -> io::Result<()> {
        let until = self.arguments.seconds.map(|it| self.started + Duration::from_secs(it));
        let schedule = self.arguments.schedule;
        let Range { start, end } = self.seeds;
        let done: Vec<u64> = match &self.ledger {
            Some(ledger) => {
                let chunks = (start..end).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX));
                chunks.filter(|chunk| ledger.is_done(*chunk)).collect()
            }
            None => Vec::new(),
        };
        let next = AtomicU64::new(start);
        let (sender, receiver) = mpsc::sync_channel::<(u64, Outcome)>(1024);
        thread::scope(|scope| {
            for _ in 0..self.arguments.threads {
                let (next, done, sender) = (&next, &done, sender.clone());
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || until.is_some_and(|until| Instant::now() >= until) {
                            break;
                        }
                        let chunk = seed - (seed - start) % CHUNK;
                        if done.binary_search(&chunk).is_ok() {
                            continue;
                        }
                        let outcome = run(Schedule { seed, ..schedule });
                        if sender.send((seed, outcome)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut told = Instant::now();
            let interval = self.arguments.progress.unwrap_or(Duration::MAX);
            loop {
                match receiver.recv_timeout(Duration::from_secs(1)) {
                    Ok((seed, outcome)) => self.count(out, seed, &outcome)?,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
                if told.elapsed() >= interval {
                    told = Instant::now();
                    self.report(out, "so far")?;
                }
            }
        })
    }

    fn count(&mut self, out: &mut impl Write, seed: u64, outcome: &Outcome) -> io::Result<()> {
        self.sum.count(outcome);
        if let Some(violation) = &outcome.violation
            && self.sum.broken <= SHOWN_MOST
        {
            writeln!(out, "seed {seed}: {violation}")?;
            let engine = match self.arguments.schedule.engine {
                Engine::Embedded => "",
                Engine::Etcd => "--engine etcd ",
            };
            writeln!(out, "  repeat: hashroute-simulator {engine}--seed {seed} --trace")?;
            out.flush()?;
        }
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        let chunk = seed - (seed - self.seeds.start) % CHUNK;
        let tally = self.chunks.entry(chunk).or_default();
        tally.count(outcome);
        if tally.schedules == CHUNK.min(self.seeds.end - chunk) {
            ledger.write(chunk, tally)?;
            self.chunks.remove(&chunk);
        }
        Ok(())
    }

    fn report(&self, out: &mut impl Write, when: &str) -> io::Result<()> {
        let Tally { schedules, events, epochs, broken, slowest } = self.sum;
        let took = self.started.elapsed().as_secs_f64().max(f64::EPSILON);
        let now = u32::try_from(schedules - self.before).unwrap_or(u32::MAX);
        let Range { start, end } = self.seeds;
        let seeds = if end == u64::MAX { start..start + schedules } else { start..end };
        writeln!(
            out,
            "{when}: {schedules} schedules of seeds {}..{}, {events} events, {epochs} epochs, \
             {broken} broken; slowest recovery {:.0} ms; {took:.1} s, {:.0} schedules/s on {} \
             threads",
            seeds.start,
            seeds.end,
            slowest.as_secs_f64() * 1000.0,
            f64::from(now) / took,
            self.arguments.threads
        )?;
        out.flush()
    }
}

/// So many seeds are written down together.
const CHUNK: u64 = 10_000;

/// More of one kind tell nothing new.
const SHOWN_MOST: u64 = 5;
