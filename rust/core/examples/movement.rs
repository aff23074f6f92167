//! How much more than the least moves, and how full the fullest pod gets, over histories of random
//! joins, leaves and reweights: this crate's tables beside Maglev and a ring of 160 points a pod.
//! `cargo run --release -p hashroute-core --example movement -- [histories] [--json]`.
#![allow(clippy::print_stdout, reason = "this program's work is to print")]

#[path = "../benches/peers/mod.rs"]
mod peers;

use std::error::Error;

use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, View, Weight, hash_key};
use serde_json::json;

/// Events of one history.
const EVENTS: u64 = 50;
/// Histories of each kind unless the command line says otherwise.
const HISTORIES: u64 = 5;
/// What a pod may weigh.
const WEIGHTS: [u32; 3] = [1, 2, 4];

/// Slots, epsilon and pods of the histories.
const SIZES: [(u64, f64, u32); 5] = [
    (1 << 16, 0.05, 16),
    (1 << 16, 0.05, 128),
    (1 << 16, 0.05, 1000),
    (1 << 16, 0.10, 1000),
    (1 << 18, 0.05, 1000),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let number = arguments.iter().find(|argument| *argument != "--json");
    let histories = number.map_or(Ok(HISTORIES), |number| number.parse())?;
    if !as_json {
        println!("moved / least over {histories} histories of {EVENTS} joins, leaves, reweights");
        println!(
            "  slots epsilon  pods weights way        mean (of a history)      worst  peak/fair"
        );
    }
    let mut rows = Vec::new();
    for (slots, epsilon, pods) in SIZES {
        for equal in [true, false] {
            let parameters = Parameters::new(slots, epsilon, 0)?;
            // The peers know neither slots nor epsilon, so one row of each is enough.
            let ways: &[Way] = if slots == 1 << 16 && epsilon < 0.1 {
                &[Way::Hashroute, Way::Maglev, Way::Points]
            } else {
                &[Way::Hashroute]
            };
            for way in ways {
                let mut row = Row::new(*way, parameters, pods, equal);
                for seed in 0..histories {
                    row.add(&history(*way, parameters, pods, equal, seed)?);
                }
                if as_json {
                    rows.push(row.document());
                } else {
                    row.print();
                }
            }
        }
    }
    if as_json {
        println!("{}", json!({ "histories": histories, "events": EVENTS, "rows": rows }));
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Way {
    Hashroute,
    Maglev,
    Points,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Hashroute => "hashroute",
            Self::Maglev => "Maglev",
            Self::Points => "160 points",
        }
    }
}

/// One table of a history.
struct Table {
    view: View,
    /// By slot or place: the pod, as a place in the view.
    owners: Vec<u16>,
    ring: Option<Ring>,
}

impl Table {
    fn new(way: Way, view: View) -> Result<Self, Box<dyn Error>> {
        let pods: Vec<(&str, u32)> =
            view.pods().iter().map(|pod| (pod.id.as_str(), turns(pod))).collect();
        let ring = match way {
            Way::Hashroute => Some(Ring::build(view.clone())?),
            Way::Maglev | Way::Points => None,
        };
        let owners = match (&ring, way) {
            (Some(ring), _) => ring.owners().to_vec(),
            (None, Way::Maglev) => peers::Maglev::build(&pods).into_table(),
            (None, _) => peers::Points::build(&pods).into_table(view.parameters().slots()),
        };
        Ok(Self { owners, ring, view })
    }

    /// The fullest pod by its fair share.
    fn peak(&self) -> f64 {
        let mut counts = vec![0_u32; self.view.pods().len()];
        for owner in &self.owners {
            counts[usize::from(*owner)] += 1;
        }
        let sum: f64 = self.view.pods().iter().map(|pod| f64::from(turns(pod))).sum();
        let size = f64::from(u32::try_from(self.owners.len()).unwrap_or(u32::MAX));
        let share =
            |(pod, count): (&Pod, &u32)| f64::from(*count) * sum / (size * f64::from(turns(pod)));
        self.view.pods().iter().zip(&counts).map(share).fold(0.0, f64::max)
    }

    /// How many slots moved, and the least that could have.
    fn change(&self, after: &Self) -> Result<(u32, u32), Box<dyn Error>> {
        if let (Some(before), Some(after)) = (&self.ring, &after.ring) {
            let plan = before.plan(after, None)?;
            return Ok((plan.moved_slots(), plan.least_slots()));
        }
        let known = |table: &Self, owner: u16| table.view.pods()[usize::from(owner)].clone();
        let (mut moved, mut gained, mut lost) = (0, 0, 0);
        for (old, new) in self.owners.iter().zip(&after.owners) {
            let (old, new) = (known(self, *old), known(after, *new));
            if old.id == new.id {
                continue;
            }
            // What pods of another weight than before gain or lose had to move.
            let changed = |pod: &Pod| {
                let weight = |table: &Self| {
                    let pod = table.view.index_of(pod.id.as_str());
                    pod.and_then(|pod| table.view.pod(pod)).map(|pod| pod.weight)
                };
                u32::from(weight(self) != weight(after))
            };
            moved += 1;
            gained += changed(&new);
            lost += changed(&old);
        }
        Ok((moved, gained.max(lost)))
    }
}

fn turns(pod: &Pod) -> u32 {
    u32::try_from(pod.weight.millionths() / 1_000_000).unwrap_or(u32::MAX)
}

/// What happened in one history.
#[derive(Default)]
struct History {
    ratios: Vec<f64>,
    peak: f64,
}

fn history(
    way: Way,
    parameters: Parameters,
    pods: u32,
    equal: bool,
    seed: u64,
) -> Result<History, Box<dyn Error>> {
    let new_pod = |number: u32| -> Result<Pod, Box<dyn Error>> {
        let weight = if equal { 2 } else { WEIGHTS[number as usize % WEIGHTS.len()] };
        let id = PodId::new(&format!("pod-{seed}-{number}"))?;
        Ok(Pod { weight: Weight::new(f64::from(weight))?, ..Pod::new(id) })
    };
    let mut dice = Dice { seed, throws: 0 };
    let first = (0..pods).map(new_pod).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new(way, View::new(Epoch::new(1), parameters, first)?)?;
    let mut history = History::default();
    for event in 0..u32::try_from(EVENTS)? {
        let all = table.view.pods();
        let kind = dice.below(3);
        let chosen = all[dice.below(all.len())].clone();
        let view = match kind {
            0 => table.view.with_pod(new_pod(pods + event)?)?,
            1 => table.view.without_pod(chosen.id.as_str())?,
            _ => {
                let others = WEIGHTS.iter().filter(|weight| **weight != turns(&chosen));
                let others: Vec<u32> = others.copied().collect();
                let weight = f64::from(others[dice.below(others.len())]);
                table.view.with_weight(chosen.id.as_str(), Weight::new(weight)?)?
            }
        };
        let next = Table::new(way, view)?;
        let (moved, least) = table.change(&next)?;
        history.ratios.push(f64::from(moved) / f64::from(least));
        history.peak = history.peak.max(next.peak());
        if let Some(ring) = &next.ring {
            let mut counts = ring.slot_counts().iter().zip(ring.bounds());
            assert!(counts.all(|(count, bound)| count <= bound), "a pod exceeds its bound");
        }
        table = next;
    }
    Ok(history)
}

struct Dice {
    seed: u64,
    throws: u64,
}

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.throws += 1;
        let word = hash_key(&[self.seed.to_le_bytes(), self.throws.to_le_bytes()].concat());
        usize::try_from(word % bound as u64).unwrap_or_default()
    }
}

/// What all histories of one kind came to.
struct Row {
    way: Way,
    parameters: Parameters,
    pods: u32,
    equal: bool,
    means: Vec<f64>,
    worst: f64,
    peak: f64,
}

impl Row {
    fn new(way: Way, parameters: Parameters, pods: u32, equal: bool) -> Self {
        Self { way, parameters, pods, equal, means: Vec::new(), worst: 0.0, peak: 0.0 }
    }

    fn add(&mut self, history: &History) {
        let events = f64::from(u32::try_from(history.ratios.len()).unwrap_or(u32::MAX));
        self.means.push(history.ratios.iter().sum::<f64>() / events);
        self.worst = history.ratios.iter().copied().fold(self.worst, f64::max);
        self.peak = self.peak.max(history.peak);
    }

    /// The mean of all histories, and the lowest and highest of one.
    fn spread(&self) -> (f64, f64, f64) {
        let histories = f64::from(u32::try_from(self.means.len()).unwrap_or(u32::MAX));
        let mean = self.means.iter().sum::<f64>() / histories;
        let low = self.means.iter().copied().fold(f64::INFINITY, f64::min);
        (mean, low, self.means.iter().copied().fold(0.0, f64::max))
    }

    fn weights(&self) -> &'static str {
        if self.equal { "equal" } else { "1:2:4" }
    }

    fn print(&self) {
        let (mean, low, high) = self.spread();
        println!(
            "{:7} {:7} {:5} {:7} {:10} {mean:7.3} ({low:.3} to {high:.3}) {:8.3} {:9.3}",
            self.parameters.slots(),
            self.parameters.epsilon(),
            self.pods,
            self.weights(),
            self.way.name(),
            self.worst,
            self.peak,
        );
    }

    fn document(&self) -> serde_json::Value {
        let (mean, low, high) = self.spread();
        json!({
            "way": self.way.name(),
            "slots": self.parameters.slots(),
            "epsilon": self.parameters.epsilon(),
            "pods": self.pods,
            "weights": self.weights(),
            "mean": mean,
            "low": low,
            "high": high,
            "worst": self.worst,
            "peak": self.peak,
        })
    }
}
