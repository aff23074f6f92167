//! How well preference lists foretell: how many slots of a pod that left went to the next pod of
//! their list, and how many slots of a lost zone to the first pod of their list outside it.
//! `cargo run --release -p hashroute-core --example heirs -- [--json]`.
#![allow(clippy::print_stdout, reason = "this program's work is to print")]

use std::error::Error;

use hashroute_core::{Epoch, Parameters, Pod, PodId, PodIndex, Ring, Slot, View, hash_key};
use serde_json::json;

/// How many pods leave one ring, each alone.
const LEAVES: u64 = 50;
/// Slots and pods of the rings.
const SIZES: [(u64, u64); 4] = [(1 << 16, 16), (1 << 16, 128), (1 << 16, 1000), (1 << 18, 1000)];
/// Numbers of zones that are lost one by one.
const ZONES: [u64; 4] = [2, 3, 4, 8];

fn main() -> Result<(), Box<dyn Error>> {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let mut rows = Vec::new();
    for (slots, pods) in SIZES {
        let parameters = Parameters::new(slots, 0.05, 0)?;
        let alone = lost_pods(parameters, pods)?;
        let zones = ZONES.map(|zones| lost_zones(parameters, pods, zones));
        let zones = zones.into_iter().collect::<Result<Vec<f64>, _>>()?;
        if !as_json {
            println!("{slots:7} slots {pods:5} pods: one pod {:7.3} %", alone * 100.0);
            for (number, foretold) in ZONES.iter().zip(&zones) {
                println!("{:28} one of {number} zones {:7.3} %", "", foretold * 100.0);
            }
        }
        rows.push(json!({ "slots": slots, "pods": pods, "one pod": alone, "zones": zones }));
    }
    if as_json {
        println!("{}", json!({ "leaves": LEAVES, "zones": ZONES, "rows": rows }));
    }
    Ok(())
}

/// The part of the slots of pods that left whose next preference got them.
fn lost_pods(parameters: Parameters, pods: u64) -> Result<f64, Box<dyn Error>> {
    let all = (0..pods).map(|number| PodId::new(&format!("pod-{number}")).map(Pod::new));
    let view = View::new(Epoch::new(1), parameters, all.collect::<Result<_, _>>()?)?;
    let before = Ring::build(view)?;
    let (mut foretold, mut orphaned) = (0, 0);
    for leave in 0..LEAVES.min(pods) {
        let place = u16::try_from(hash_key(&leave.to_le_bytes()) % pods)?;
        let left = PodIndex::new(place);
        let id = before.view().pod(left).map(|pod| pod.id.to_string()).unwrap_or_default();
        let after = before.follow(before.view().without_pod(&id)?)?;
        for slot in (0..parameters.slots()).map(Slot::new) {
            if before.owner(slot) == left {
                let heir = before.preference(slot).nth(1).and_then(|pod| before.view().pod(pod));
                let owner = after.view().pod(after.owner(slot));
                orphaned += 1;
                foretold += u32::from(heir.map(|pod| &pod.id) == owner.map(|pod| &pod.id));
            }
        }
    }
    Ok(f64::from(foretold) / f64::from(orphaned))
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
