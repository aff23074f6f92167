//! What the command line asks for.

use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use hashroute_simulator::{Bounds, Bug, Engine, Request, Schedule};

/// What `--help` says.
pub(crate) const USAGE: &str = "\
usage: hashroute-simulator [options]

Runs whole clusters under virtual time and checks what must hold. Exits 1 if something broke.

  --engine NAME      who keeps the record: embedded (the default: voters) or etcd
  --seeds FROM..TO   run these schedules (default 0..2000)
  --seconds N        stop after so long; with no --seeds, the seeds have no end
  --threads N        run on so many threads (default: as many as the machine has)
  --ledger FILE      with --seeds: write down what is done, go on where FILE ends, sum it up
  --label TEXT       what the schedules of FILE are runs of, such as a commit
  --progress N       say every N seconds how far it is
  --seed N           run one schedule
  --trace            with --seed: print every event
  --mutants          for each planted bug, find the first schedule that catches it
  --visible          count only promises that users would see broken
  --bug NAME         leave this rule out
  --directed         with --bug: bend the schedules towards it
  --exhaustive       look at every order of events of a small cluster; --bug leaves a rule out
  --faults N         with --exhaustive: so many faults at most (default 1)
  --request NAME     with --exhaustive: what the operator asks for: nothing, drain, replace-voter
  --horizon N        with --exhaustive: so many ms after the first fault or request (default 150)
  --states N         with --exhaustive: give up after so many states
  --figures          measure how long resources are without a writer
  --help             this";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    One,
    Many,
    Mutants,
    Figures,
    Exhaustive,
}

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) task: Task,
    pub(crate) seeds: Range<u64>,
    pub(crate) seconds: Option<u64>,
    pub(crate) threads: usize,
    /// Where it is written down what is done.
    pub(crate) ledger: Option<PathBuf>,
    pub(crate) label: String,
    /// So often it is said how far it is.
    pub(crate) progress: Option<Duration>,
    /// How far an exhaustive search looks.
    pub(crate) bounds: Bounds,
    /// What all schedules have in common, and the seed if there is one.
    pub(crate) schedule: Schedule,
}

impl Arguments {
    /// Reads the words after the program's name, or says what is wrong with them.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut arguments = Self {
            task: Task::Many,
            seeds: 0..2000,
            seconds: None,
            threads,
            ledger: None,
            label: String::new(),
            progress: None,
            bounds: Bounds::default(),
            schedule: Schedule::default(),
        };
        let mut seeds = None;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: a value is missing"));
            match word.as_str() {
                "--engine" => arguments.schedule.engine = engine(&value()?)?,
                "--seeds" => seeds = Some(range(&value()?)?),
                "--seconds" => arguments.seconds = Some(number(&value()?)?),
                "--threads" => {
                    let threads = usize::try_from(number(&value()?)?);
                    arguments.threads = threads.unwrap_or(usize::MAX).clamp(1, THREADS_MOST);
                }
                "--ledger" => arguments.ledger = Some(PathBuf::from(value()?)),
                "--label" => arguments.label = value()?,
                "--progress" => {
                    arguments.progress = Some(Duration::from_secs(number(&value()?)?.max(1)));
                }
                "--seed" => {
                    arguments.task = Task::One;
                    arguments.schedule.seed = number(&value()?)?;
                }
                "--trace" => arguments.schedule.trace = true,
                "--mutants" => arguments.task = Task::Mutants,
                "--visible" => arguments.schedule.visible_only = true,
                "--bug" => arguments.schedule.bug = Some(bug(&value()?)?),
                "--directed" => arguments.schedule.directed = true,
                "--figures" => arguments.task = Task::Figures,
                "--exhaustive" => arguments.task = Task::Exhaustive,
                "--faults" => {
                    let faults = u8::try_from(number(&value()?)?);
                    arguments.bounds.faults = faults.map_err(|_| format!("{word}: too many"))?;
                }
                "--request" => arguments.bounds.request = request(&value()?)?,
                "--horizon" => arguments.bounds.horizon = Duration::from_millis(number(&value()?)?),
                "--states" => {
                    let states = usize::try_from(number(&value()?)?);
                    arguments.bounds.states_most = states.unwrap_or(usize::MAX);
                }
                "--help" => arguments.task = Task::Help,
                _ => return Err(format!("{word}: no such option")),
            }
        }
        if arguments.schedule.trace && arguments.task != Task::One {
            return Err("--trace prints one schedule: add --seed".to_owned());
        }
        if arguments.ledger.is_some() && seeds.is_none() {
            return Err("--ledger needs to know which schedules: add --seeds".to_owned());
        }
        arguments.check_engine()?;
        arguments.bounds.bug = arguments.schedule.bug;
        let endless = arguments.seconds.map(|_| 0..u64::MAX);
        arguments.seeds = seeds.or(endless).unwrap_or(arguments.seeds);
        Ok(arguments)
    }

    /// Whether what is asked for can be asked of the engine.
    fn check_engine(&self) -> Result<(), String> {
        let engine = self.schedule.engine;
        if let Some(bug) = self.schedule.bug.filter(|bug| !engine.bugs().contains(bug)) {
            return Err(format!("--bug {bug:?}: not a rule of the engine {engine:?}"));
        }
        if engine == Engine::Etcd && matches!(self.task, Task::Figures | Task::Exhaustive) {
            return Err("--figures and --exhaustive are of the embedded engine".to_owned());
        }
        Ok(())
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or_else(|| format!("{text}: expected FROM..TO"))?;
    Ok(number(from)?..number(to)?)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text}: expected a whole number"))
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().copied().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| {
        let names: Vec<String> = Bug::ALL.iter().map(|bug| format!("{bug:?}")).collect();
        format!("{name}: no such bug; there are {}", names.join(", "))
    })
}

fn engine(name: &str) -> Result<Engine, String> {
    match name {
        "embedded" => Ok(Engine::Embedded),
        "etcd" => Ok(Engine::Etcd),
        _ => Err(format!("{name}: expected embedded or etcd")),
    }
}

fn request(name: &str) -> Result<Request, String> {
    match name {
        "nothing" => Ok(Request::Nothing),
        "drain" => Ok(Request::Drain),
        "replace-voter" => Ok(Request::ReplaceVoter),
        _ => Err(format!("{name}: expected nothing, drain or replace-voter")),
    }
}

/// More would only wait for each other.
const THREADS_MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, String> {
        Arguments::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_seed_is_one_schedule_and_seeds_are_many() {
        let one = parse("--seed 7 --trace").unwrap();
        assert_eq!((one.task, one.schedule.seed, one.schedule.trace), (Task::One, 7, true));
        assert_eq!(one.schedule.engine, Engine::Embedded);
        assert_eq!(parse("--engine etcd").unwrap().schedule.engine, Engine::Etcd);
        let many = parse("--seeds 5..9 --threads 3").unwrap();
        assert_eq!((many.task, many.seeds, many.threads), (Task::Many, 5..9, 3));
        assert_eq!(parse("--seconds 5").unwrap().seeds, 0..u64::MAX);
        let long = parse("--seeds 0..9 --ledger done --label abc --progress 60").unwrap();
        assert_eq!(long.ledger, Some(PathBuf::from("done")));
        assert_eq!((&*long.label, long.progress), ("abc", Some(Duration::from_secs(60))));
    }

    #[test]
    fn what_is_wrong_with_the_words_is_said() {
        for (words, problem) in [
            ("--seeds 5", "5: expected FROM..TO"),
            ("--seeds 1..x", "x: expected a whole number"),
            ("--seed", "--seed: a value is missing"),
            ("--trace", "--trace prints one schedule: add --seed"),
            ("--fast", "--fast: no such option"),
            ("--engine zab", "zab: expected embedded or etcd"),
            ("--engine etcd --figures", "--figures and --exhaustive are of the embedded engine"),
            ("--bug IntentForced", "--bug IntentForced: not a rule of the engine Embedded"),
            (
                "--bug PromiseUnchecked --engine etcd",
                "--bug PromiseUnchecked: not a rule of the engine Etcd",
            ),
            ("--ledger x", "--ledger needs to know which schedules: add --seeds"),
        ] {
            assert_eq!(parse(words), Err(problem.to_owned()));
        }
        assert!(parse("--bug Nonsense").unwrap_err().contains("NoGuardAtVote"));
    }
}
