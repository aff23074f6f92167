//! What a long run has done, in a file: so that it can be stopped, go on, and be summed up.
//!
//! The first line says which schedules of what. Each line after it is one chunk of seeds that is
//! done to the last: what was cut short is not there, and is run again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use hashroute_simulator::Outcome;

/// Sums over schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) schedules: u64,
    pub(crate) events: u64,
    pub(crate) epochs: u64,
    pub(crate) broken: u64,
    /// The longest recovery.
    pub(crate) slowest: Duration,
}

impl Tally {
    pub(crate) fn count(&mut self, outcome: &Outcome) {
        self.schedules += 1;
        self.events += outcome.events;
        self.epochs += outcome.epoch;
        self.broken += u64::from(outcome.violation.is_some());
        self.slowest = self.slowest.max(outcome.recovery.unwrap_or_default());
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.epochs += other.epochs;
        self.broken += other.broken;
        self.slowest = self.slowest.max(other.slowest);
    }

    /// Reads what [`Tally`] writes.
    fn parse(text: &str) -> Option<Self> {
        let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        let [schedules, events, epochs, broken, slowest] = numbers.ok()?.try_into().ok()?;
        Some(Self { schedules, events, epochs, broken, slowest: Duration::from_micros(slowest) })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, events, epochs, broken, slowest } = self;
        let slowest = slowest.as_micros();
        write!(out, "{schedules} {events} {epochs} {broken} {slowest}")
    }
}

/// The file, and what it says is done.
pub(crate) struct Ledger {
    file: File,
    /// The tally of each chunk that is done, by its first seed.
    done: BTreeMap<u64, Tally>,
}

impl Ledger {
    /// Opens the file, or begins it.
    ///
    /// # Errors
    ///
    /// What the system says of the file; and that it is of other schedules, or is no ledger.
    pub(crate) fn open(path: &Path, seeds: &Range<u64>, label: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let title = format!("seeds {}..{} of {label}", seeds.start, seeds.end);
        let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        match lines.next() {
            None => writeln!(file, "{title}")?,
            Some(first) if first == title => {}
            Some(first) => {
                let problem = format!("the ledger is of {first:?}, expected {title:?}");
                return Err(broken(problem));
            }
        }
        let mut done = BTreeMap::new();
        for line in lines {
            let chunk = line.split_once(": ").and_then(|(first, tally)| {
                Some((first.parse::<u64>().ok()?, Tally::parse(tally)?))
            });
            let (first, tally) = chunk.ok_or_else(|| broken(format!("not a chunk: {line:?}")))?;
            done.insert(first, tally);
        }
        Ok(Self { file, done })
    }

    pub(crate) fn is_done(&self, chunk: u64) -> bool {
        self.done.contains_key(&chunk)
    }

    /// Every schedule of the chunk that begins with this seed has been run.
    pub(crate) fn write(&mut self, chunk: u64, tally: &Tally) -> io::Result<()> {
        writeln!(self.file, "{chunk}: {tally}")?;
        self.file.sync_data()?;
        self.done.insert(chunk, *tally);
        Ok(())
    }

    /// All that is done.
    pub(crate) fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        self.done.values().for_each(|tally| sum.add(tally));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(schedules: u64) -> Tally {
        Tally { schedules, events: 9, epochs: 3, broken: 1, slowest: Duration::from_micros(7) }
    }

    #[test]
    fn a_run_goes_on_where_its_ledger_ends() {
        let path = std::env::temp_dir().join(format!("ledger-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut ledger = Ledger::open(&path, &(0..50), "this").unwrap();
        ledger.write(0, &tally(10)).unwrap();
        ledger.write(20, &tally(5)).unwrap();
        // The machine failed in the middle of a line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("30: 10 9");
        std::fs::write(&path, &text).unwrap();
        let again = Ledger::open(&path, &(0..50), "this").unwrap();
        let done = [0, 10, 20, 30].map(|chunk| again.is_done(chunk));
        assert_eq!(done, [true, false, true, false]);
        let sum = Tally { schedules: 15, events: 18, epochs: 6, broken: 2, ..tally(0) };
        assert_eq!(again.sum(), sum);
        for (seeds, label) in [(0..60, "this"), (0..50, "that")] {
            let problem = Ledger::open(&path, &seeds, label).err().unwrap().to_string();
            assert!(problem.starts_with("the ledger is of \"seeds 0..50 of this\""), "{problem}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
