//! What the ring's work costs beside what must be done anyway, as ratios of CPU time: a lookup by
//! the hash and one load (of 8 bytes by the hash alone), a build and one change by Maglev's full build, a pod of a preference list
//! by the owner. The two sides of a ratio take turns, so another load on the machine slows both.
//! `cargo run --release -p hashroute-core --example ratios -- [rounds] [--json]`; needs Linux.
#![allow(clippy::print_stdout, reason = "this program's work is to print")]

#[path = "../benches/peers/mod.rs"]
mod peers;

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, Slot, View, Weight, hash_key};
use serde_json::{Value, json};

const PODS: [u32; 4] = [2, 16, 128, 1000];
/// Pods and zones of the rings whose lists are taken once more.
const ZONES: [(u32, u32); 3] = [(16, 4), (128, 8), (1000, 8)];
/// Rounds of each pair unless the command line says otherwise.
const ROUNDS: usize = 101;
const KEYS: u64 = 4096;
/// Of how many of them whole lists are taken.
const FEW_KEYS: usize = 256;
/// How often the keys are looked up in one round.
const PASSES: u64 = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let number = arguments.iter().find(|argument| *argument != "--json");
    let rounds = number.map_or(Ok(ROUNDS), |number| number.parse())?;
    let mut rows = Vec::new();
    for pods in PODS {
        rows.extend(lookups(pods, rounds)?);
        rows.extend(builds(pods, rounds)?);
        rows.extend(preferences(pods, 0, rounds)?);
    }
    for (pods, zones) in ZONES {
        rows.extend(preferences(pods, zones, rounds)?);
    }
    if as_json {
        let rows: Vec<Value> = rows.iter().map(Row::document).collect();
        println!("{}", json!({ "rounds": rounds, "rows": rows }));
    } else {
        rows.iter().for_each(Row::print);
    }
    Ok(())
}

/// One piece of work beside another.
struct Row {
    work: String,
    beside: &'static str,
    pods: u32,
    /// Medians of the nanoseconds of one operation.
    work_ns: f64,
    beside_ns: f64,
    /// The first quartile, the median and the third quartile of the rounds' ratios.
    ratios: [f64; 3],
}

impl Row {
    fn print(&self) {
        let [low, median, high] = self.ratios;
        println!(
            "{:5} pods  {:30} {:12.1} ns  {:18} {:12.1} ns  ratio {median:.2} ({low:.2} to {high:.2})",
            self.pods, self.work, self.work_ns, self.beside, self.beside_ns
        );
    }

    fn document(&self) -> Value {
        let [low, median, high] = self.ratios;
        json!({
            "pods": self.pods,
            "work": &self.work,
            "beside": self.beside,
            "work_ns": self.work_ns,
            "beside_ns": self.beside_ns,
            "ratio": median,
            "low": low,
            "high": high,
        })
    }
}

/// Lets two pieces of work take turns. Each of them is done `operations` times in a call.
fn compare(
    (pods, rounds, operations): (u32, usize, u64),
    (work, mut one): (&str, impl FnMut() -> u64),
    (beside, mut other): (&'static str, impl FnMut() -> u64),
) -> Result<Row, Box<dyn Error>> {
    let (mut ones, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms the caches.
    for round in 0..=rounds {
        let (one, other) = (nanoseconds(&mut one)?, nanoseconds(&mut other)?);
        if round > 0 {
            ones.push(one);
            others.push(other);
            ratios.push(one / other);
        }
    }
    let operations = f64::from(u32::try_from(operations)?);
    Ok(Row {
        work: work.to_owned(),
        beside,
        pods,
        work_ns: quartiles(ones)[1] / operations,
        beside_ns: quartiles(others)[1] / operations,
        ratios: quartiles(ratios),
    })
}

/// The CPU time of a call, as the kernel counts it for this thread.
fn nanoseconds(work: &mut impl FnMut() -> u64) -> Result<f64, Box<dyn Error>> {
    let before = cpu_time()?;
    black_box(work());
    Ok(f64::from(u32::try_from(cpu_time()? - before)?))
}

fn cpu_time() -> Result<u64, Box<dyn Error>> {
    // The kernel brings the count up to date when the thread stops running. That costs about two
    // microseconds, so what is timed should take a hundred or more.
    std::thread::sleep(Duration::from_nanos(1));
    let told = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(told.split_whitespace().next().unwrap_or_default().parse()?)
}

fn quartiles(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[numbers.len() * quarter / 4])
}

fn pod_name(number: u32) -> String {
    format!("pod-{number:04}")
}

/// Of pods in so many zones, or of pods without zones.
fn ring(pods: u32, zones: u32) -> Result<Ring, Box<dyn Error>> {
    let pod = |number: u32| {
        let zone = number.checked_rem(zones).map(|zone| format!("zone-{zone}").as_str().into());
        PodId::new(&pod_name(number)).map(|id| Pod { zone, ..Pod::new(id) })
    };
    let pods = (0..pods).map(pod).collect::<Result<_, _>>()?;
    Ok(Ring::build(View::new(Epoch::new(1), Parameters::default(), pods)?)?)
}

fn lookups(pods: u32, rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let keys: Vec<[u8; 16]> = (0..KEYS)
        .map(|number| {
            let mut key = *b"_________orders_";
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        })
        .collect();
    let numbers: Vec<[u8; 8]> = (0..KEYS).map(u64::to_le_bytes).collect();
    let ring = ring(pods, 0)?;
    // The same size and contents, found without a ring.
    let table = ring.owners().to_vec();
    let size = (pods, rounds, KEYS * PASSES);
    let texts = compare(
        size,
        ("lookup", || (0..PASSES).map(|_| owners(&ring, &keys)).sum()),
        ("hash and one load", || (0..PASSES).map(|_| loads(&table, &keys)).sum()),
    )?;
    let integers = compare(
        size,
        ("lookup of 8 bytes", || (0..PASSES).map(|_| owners(&ring, &numbers)).sum()),
        ("hash of 8 bytes", || (0..PASSES).map(|_| hashes(&numbers)).sum()),
    )?;
    Ok(vec![texts, integers])
}

#[inline(never)]
fn owners<const WIDTH: usize>(ring: &Ring, keys: &[[u8; WIDTH]]) -> u64 {
    let owner = |key: &[u8; WIDTH]| ring.owner_of_key(black_box(key)).get();
    u64::from(keys.iter().fold(0, |sum, key| sum ^ owner(key)))
}

#[inline(never)]
fn loads(table: &[u16], keys: &[[u8; 16]]) -> u64 {
    let load = |key: &[u8; 16]| table[(hash_key(black_box(key)) >> 48) as usize];
    u64::from(keys.iter().fold(0, |sum, key| sum ^ load(key)))
}

#[inline(never)]
fn hashes(keys: &[[u8; 8]]) -> u64 {
    keys.iter().fold(0, |sum, key| sum ^ hash_key(black_box(key)))
}

fn builds(pods: u32, rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let ring = ring(pods, 0)?;
    let view = ring.view().clone();
    let names: Vec<String> = (0..pods).map(pod_name).collect();
    let names: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let maglev = || u64::from(peers::Maglev::build(black_box(&names)).owner(7));
    let built = |view: &View| Ring::build(black_box(view.clone())).map_or(0, |ring| size(&ring));
    let mut rows =
        vec![compare((pods, rounds, 1), ("build", || built(&view)), ("Maglev build", maglev))?];
    let one_more = Pod::new(PodId::new("one-more")?);
    for (name, after) in [
        ("join", view.with_pod(one_more)?),
        ("leave", view.without_pod("pod-0001")?),
        ("reweight", view.with_weight("pod-0001", Weight::new(1.5)?)?),
    ] {
        let followed = || ring.follow(black_box(after.clone())).map_or(0, |ring| size(&ring));
        rows.push(compare((pods, rounds, 1), (name, followed), ("Maglev build", maglev))?);
    }
    Ok(rows)
}

fn size(ring: &Ring) -> u64 {
    ring.owners().len() as u64
}

fn preferences(pods: u32, zones: u32, rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let ring = ring(pods, zones)?;
    // Slots as keys come: in no order.
    let slots: Vec<Slot> = (0..KEYS).map(|key| ring.slot(&key.to_le_bytes())).collect();
    let few = &slots[..FEW_KEYS];
    let first = |slots: &[Slot], count: usize| {
        let list = |slot: &Slot| ring.preference(black_box(*slot)).take(count);
        slots.iter().map(|slot| u64::from(list(slot).fold(0, |sum, pod| sum ^ pod.get()))).sum()
    };
    let owner = |slots: &[Slot]| {
        slots.iter().map(|slot| u64::from(ring.owner(black_box(*slot)).get())).sum()
    };
    // All of a thousand pods are sorted at every call.
    let lists = [
        ("two", 2, &slots[..]),
        ("three", 3, &slots),
        ("four", 4, &slots),
        ("eight", 8, &slots),
        ("sixteen", 16, &slots),
        ("all", usize::MAX, few),
    ];
    let suffix = if zones == 0 { String::new() } else { format!(", {zones} zones") };
    lists
        .into_iter()
        .map(|(name, count, slots)| {
            let name = format!("{name} preferences{suffix}");
            let size = (pods, rounds, slots.len() as u64);
            let list = || first(slots, count);
            compare(size, (&name, list), ("owner of a slot", || owner(slots)))
        })
        .collect()
}
