//! How well a table follows its view: how many slots random joins and leaves move, divided by the
//! least possible; how many slots of a pod that left went to the next pod of their preference list;
//! and how many slots of a lost zone went to the first pod of their list outside it.
//! `cargo run --release -p hashroute-core --example movement`.
#![allow(clippy::print_stdout, reason = "this program's work is to print")]

use std::error::Error;

use hashroute_core::{Epoch, Parameters, Pod, PodId, PodIndex, Ring, Slot, View, hash_key};

const EVENTS: u64 = 50;

fn main() -> Result<(), Box<dyn Error>> {
    println!("moved / least over {EVENTS} random joins and leaves");
    println!("   slots epsilon  pods     mean    worst  fullest/bound  inherited");
    for (slots, epsilon, pods) in [
        (1 << 16, 0.05, 16),
        (1 << 16, 0.05, 128),
        (1 << 16, 0.05, 1000),
        (1 << 16, 0.10, 1000),
        (1 << 18, 0.05, 1000),
    ] {
        let history = history(Parameters::new(slots, epsilon, 0)?, pods)?;
        let mean = history.ratios.iter().sum::<f64>() / history.events;
        let worst = history.ratios.iter().copied().fold(0.0, f64::max);
        let inherited = f64::from(history.inherited) / f64::from(history.orphaned);
        let fullest = history.fullest;
        println!(
            "{slots:8} {epsilon:7} {pods:5} {mean:8.3} {worst:8.3} {fullest:14.3} {inherited:10.4}"
        );
    }
    println!("slots of a lost zone that went where their preference list said");
    println!("   slots epsilon  pods  zones  foretold");
    for pods in [16, 128, 1000] {
        for zones in [2, 3, 4] {
            let share = lost_zones(Parameters::default(), pods, zones)?;
            println!("   65536    0.05 {pods:5} {zones:6} {share:9.4}");
        }
    }
    Ok(())
}

/// The part of all slots whose list foretold who got them, over the loss of each zone in turn.
fn lost_zones(parameters: Parameters, pods: u64, zones: u64) -> Result<f64, Box<dyn Error>> {
    let pod = |number: u64| -> Result<Pod, Box<dyn Error>> {
        let id = PodId::new(&format!("pod-{number}"))?;
        let zone = Some(format!("zone-{}", number % zones).as_str().into());
        Ok(Pod { zone, ..Pod::new(id) })
    };
    let pods = (0..pods).map(pod).collect::<Result<Vec<_>, _>>()?;
    let before = Ring::build(View::new(Epoch::new(1), parameters, pods.clone())?)?;
    let (mut foretold, mut orphaned) = (0, 0);
    for zone in 0..zones {
        let lost = format!("zone-{zone}");
        let stays = |pod: &Pod| pod.zone.as_deref() != Some(lost.as_str());
        let left = pods.iter().filter(|pod| stays(pod)).cloned().collect();
        let after = Ring::build(View::new(Epoch::new(2), parameters, left)?)?;
        for slot in (0..parameters.slots()).map(Slot::new) {
            let pods = before.preference(slot).filter_map(|pod| before.view().pod(pod));
            let mut list = pods.peekable();
            if list.peek().is_some_and(|owner| stays(owner)) {
                continue;
            }
            let heir = list.find(|pod| stays(pod)).map(|pod| &pod.id);
            let owner = after.view().pod(after.owner(slot)).map(|pod| &pod.id);
            orphaned += 1;
            foretold += u32::from(heir == owner);
        }
    }
    Ok(f64::from(foretold) / f64::from(orphaned))
}

#[derive(Default)]
struct History {
    ratios: Vec<f64>,
    events: f64,
    /// The largest part of its load bound that any pod ever filled.
    fullest: f64,
    /// How many slots pods had that left, and how many of them the next preference got.
    orphaned: u32,
    inherited: u32,
}

fn history(parameters: Parameters, pods: u64) -> Result<History, Box<dyn Error>> {
    let new_pod = |number: u64| PodId::new(&format!("pod-{number}")).map(Pod::new);
    let first = (0..pods).map(new_pod).collect::<Result<Vec<_>, _>>()?;
    let mut ring = Ring::build(View::new(Epoch::new(1), parameters, first)?)?;
    let mut history = History::default();
    for event in 0..EVENTS {
        let dice = hash_key(&event.to_le_bytes());
        let view = if dice.is_multiple_of(2) {
            ring.view().with_pod(new_pod(pods + event)?)?
        } else {
            let all = ring.view().pods();
            let leaving = usize::try_from(dice / 2)? % all.len();
            ring.view().without_pod(all[leaving].id.as_str())?
        };
        let next = Ring::build(view)?;
        let plan = ring.plan(&next, None)?;
        history.ratios.push(f64::from(plan.moved_slots()) / f64::from(plan.least_slots()));
        history.events += 1.0;
        for (count, bound) in next.slot_counts().iter().zip(next.bounds()) {
            history.fullest = history.fullest.max(f64::from(*count) / f64::from(*bound));
        }
        count_heirs(&ring, &next, &mut history);
        ring = next;
    }
    Ok(history)
}

fn count_heirs(before: &Ring, after: &Ring, history: &mut History) {
    let gone = |pod: PodIndex| {
        before.view().pod(pod).filter(|pod| after.view().index_of(pod.id.as_str()).is_none())
    };
    for slot in (0..before.view().parameters().slots()).map(Slot::new) {
        if gone(before.owner(slot)).is_none() {
            continue;
        }
        let id = |ring: &Ring, pod| ring.view().pod(pod).map(|pod| pod.id.clone());
        let heir = before.preference(slot).nth(1).and_then(|pod| id(before, pod));
        history.orphaned += 1;
        history.inherited += u32::from(heir == id(after, after.owner(slot)));
    }
}
