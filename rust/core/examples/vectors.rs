//! Prints the golden vectors of the mapping, as `tests/vectors/ORIGIN.md` tells.
//!
//! Run it only to add vectors: a vector that changes is a mapping that moved everybody's keys.
#![allow(clippy::print_stdout, reason = "this program's work is to print")]

use std::collections::BTreeMap;
use std::error::Error;

use hashroute_core::{
    Epoch, Parameters, Plan, Pod, PodId, PodIndex, PodState, Ring, Slot, View, Weight, hash_key,
};
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let views = views()?;
    let rings = views
        .into_iter()
        .map(|(name, view)| Ok((name, Ring::build(view)?)))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;

    println!("{{");
    println!("\"keys\": [");
    print_lines(keys().iter().map(|key| {
        json!({ "key": key.document(), "hash": hex(hash_key(&key.bytes())) }).to_string()
    }));
    println!("],\n\"views\": [");
    print_lines(rings.iter().map(|(name, ring)| fields_on_lines(vector(name, ring))));
    println!("],\n\"plans\": [");
    print_lines(plans(&rings)?.into_iter().map(fields_on_lines));
    println!("]\n}}");
    Ok(())
}

/// A key in the three ways in which users write one.
enum Key {
    Text(&'static str),
    Bytes(Vec<u8>),
    Integer(u64),
}

impl Key {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Integer(number) => number.to_le_bytes().to_vec(),
        }
    }

    fn document(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "text": text }),
            Self::Bytes(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "hex": hex })
            }
            Self::Integer(number) => json!({ "integer": number }),
        }
    }
}

/// Of every length class that XXH3 treats differently: 0, 1-3, 4-8, 9-16, 17-128, 129-240, more.
fn keys() -> Vec<Key> {
    let long = |length: u32| Key::Bytes((0..length).map(|place| (place % 251) as u8).collect());
    vec![
        Key::Text(""),
        Key::Text("F"),
        Key::Text("abc"),
        Key::Text("AAPL"),
        Key::Text("EUR/USD"),
        Key::Text("0123456789abcdef"),
        Key::Text("orders/EURUSD/2026-11-23"),
        Key::Text("čeština, 日本語, 🦀"),
        Key::Bytes(vec![0x00, 0xff, 0x80]),
        Key::Integer(0),
        Key::Integer(42),
        Key::Integer(u64::MAX),
        long(128),
        long(200),
        long(300),
        long(2000),
    ]
}

fn pod(id: &str, weight: f64) -> Result<Pod, Box<dyn Error>> {
    Ok(Pod { weight: Weight::new(weight)?, ..Pod::new(PodId::new(id)?) })
}

/// Pods `pod-0000`, `pod-0001` and so on.
fn numbered(bits: u32, epsilon: f64, weights: &[f64]) -> Result<View, Box<dyn Error>> {
    let pods = weights
        .iter()
        .enumerate()
        .map(|(number, weight)| pod(&format!("pod-{number:04}"), *weight))
        .collect::<Result<_, _>>()?;
    Ok(View::new(Epoch::new(1), Parameters::new(1 << bits, epsilon, 0)?, pods)?)
}

fn views() -> Result<Vec<(&'static str, View)>, Box<dyn Error>> {
    let cycle =
        |weights: &[f64], pods| weights.iter().copied().cycle().take(pods).collect::<Vec<_>>();
    let small = numbered(12, 0.05, &[1.0; 8])?;
    Ok(vec![
        ("one pod", numbered(6, 0.05, &[1.0])?),
        ("three pods", numbered(6, 0.05, &[1.0; 3])?),
        ("no slack, forty pods", numbered(6, 0.0, &[1.0; 40])?),
        ("three weights", numbered(10, 0.05, &[0.1, 1.0, 2.5])?),
        ("weights 1:2:4", numbered(12, 0.02, &cycle(&[1.0, 2.0, 4.0], 16))?),
        ("wide bound", numbered(14, 0.1, &[1.0; 16])?),
        ("two pods", numbered(16, 0.05, &[1.0; 2])?),
        ("sixteen pods", numbered(16, 0.05, &[1.0; 16])?),
        ("two slots", numbered(1, 0.05, &[1.0; 2])?),
        ("four slots, three pods", numbered(2, 10.0, &[1.0; 3])?),
        ("eight slots, capacities raised", numbered(3, 0.0, &[1.0; 5])?),
        ("thirty-two slots", numbered(5, 0.25, &[3.0, 1.0, 1.0])?),
        ("the lightest and the heaviest", numbered(10, 0.05, &[1e-6, 1.1e6, 1e6])?),
        ("more than 65536 slots", numbered(17, 0.05, &cycle(&[1.0, 3.0], 5))?),
        ("few slots for many pods", numbered(10, 0.05, &[1.0; 300])?),
        ("every field", every_field()?),
        ("eight pods", small.clone()),
        ("eight pods, one removed", small.without_pod("pod-0003")?),
        ("eight pods, one more", small.with_pod(pod("pod-0008", 1.0)?)?),
        ("eight pods, one heavier", small.with_weight("pod-0005", Weight::new(2.0)?)?),
        ("forty pods in four zones", zoned(&numbered(10, 0.05, &cycle(&[1.0, 2.0, 4.0], 40))?)?),
        ("nine pods, epsilon 10", numbered(8, 10.0, &[1.0; 9])?),
        ("ids that share half a hash", half_twins()?),
        ("a hundred and twenty-eight pods", numbered(16, 0.05, &cycle(&[1.0, 2.0, 4.0], 128))?),
    ])
}

/// The same pods, in four zones by turns.
fn zoned(view: &View) -> Result<View, Box<dyn Error>> {
    let pods = view.pods().iter().enumerate().map(|(number, pod)| Pod {
        zone: Some(format!("zone-{}", number % 4).as_str().into()),
        ..pod.clone()
    });
    Ok(View::new(view.epoch(), view.parameters(), pods.collect())?)
}

/// Pods whose hashes agree in their low or in their high 32 bits.
fn half_twins() -> Result<View, Box<dyn Error>> {
    let ids = ["pod-38792", "pod-98176", "pod-12919", "pod-72691"];
    let pods = ids.iter().map(|id| pod(id, 1.0)).collect::<Result<_, _>>()?;
    Ok(View::new(Epoch::new(1), Parameters::new(1024, 0.05, 0)?, pods)?)
}

fn every_field() -> Result<View, Box<dyn Error>> {
    let zones = [Some("rack-1"), Some("rack-1"), Some("rack-2"), Some("rack-2"), None, None];
    let mut pods = Vec::new();
    for (number, zone) in zones.into_iter().cycle().take(12).enumerate() {
        let mut pod = pod(&format!("pöd/{number}"), [0.5, 1.0, 1.5][number % 3])?;
        pod.zone = zone.map(Into::into);
        pod.addresses.grpc = Some(format!("127.0.0.1:{}", 50_051 + number));
        pods.push(pod);
    }
    pods[1].state = PodState::Joining;
    pods[2].state = PodState::Draining;
    pods[6].state = PodState::Down;
    pods[7].addresses.zmq = Some("tcp://127.0.0.1:5551".to_owned());
    let parameters = Parameters::new(4096, 0.123_456, 0xDEAD_BEEF_CAFE_F00D)?;
    Ok(View::new(Epoch::new(7_000_000_000), parameters, pods)?)
}

fn vector(name: &str, ring: &Ring) -> Value {
    let view = ring.view();
    let id = |pod: PodIndex| view.pod(pod).map_or("", |pod| pod.id.as_str());
    let by_id = |values: &[u32]| -> BTreeMap<String, u32> {
        view.pods().iter().map(|pod| pod.id.to_string()).zip(values.iter().copied()).collect()
    };
    let slots = view.parameters().slots();
    let mut chosen = vec![0, 1, 2, 3, slots / 3, slots / 2, slots - 2, slots - 1];
    chosen.retain(|slot| *slot < slots);
    chosen.sort_unstable();
    chosen.dedup();
    let by_slot = |value: &dyn Fn(Slot) -> Value| -> Map<String, Value> {
        chosen.iter().map(|slot| (slot.to_string(), value(Slot::new(*slot)))).collect()
    };
    let preferences =
        |slot| ring.preference(slot).take(8).map(|pod| json!(id(pod))).collect::<Value>();
    let keys: Vec<Value> = keys()
        .iter()
        .take(12)
        .map(|key| {
            let slot = ring.slot(&key.bytes());
            json!({ "key": key.document(), "slot": slot.get(), "owner": id(ring.owner(slot)) })
        })
        .collect();
    json!({
        "name": name,
        "view": view,
        "digest": hex(ring.digest()),
        "capacities": by_id(ring.capacities()),
        "bounds": by_id(ring.bounds()),
        "slot_counts": by_id(ring.slot_counts()),
        "owners": by_slot(&|slot| json!(id(ring.owner(slot)))),
        "first_preferences": by_slot(&preferences),
        "keys": keys,
    })
}

fn plans(rings: &[(&str, Ring)]) -> Result<Vec<Value>, Box<dyn Error>> {
    let ring = |wanted: &str| -> Result<&Ring, Box<dyn Error>> {
        let found = rings.iter().find(|(name, _)| *name == wanted);
        Ok(&found.ok_or_else(|| format!("no view is named {wanted}"))?.1)
    };
    let start = "eight pods";
    let ways = [
        (start, "eight pods, one removed", None),
        (start, "eight pods, one more", Some(100)),
        ("eight pods, one more", start, Some(100)),
        (start, "eight pods, one heavier", Some(64)),
        ("eight pods, one removed", "eight pods, one more", Some(256)),
    ];
    let mut vectors = Vec::new();
    for (from, to, slots_per_step) in ways {
        let plan = ring(from)?.plan(ring(to)?, slots_per_step)?;
        vectors.push(json!({
            "from": from,
            "to": to,
            "slots_per_step": slots_per_step,
            "moved_slots": plan.moved_slots(),
            "least_slots": plan.least_slots(),
            "slots_moved_by_step": plan.steps().iter().map(|step| step.moves.len()).collect::<Vec<_>>(),
            "first_moves": first_moves(&plan),
        }));
    }
    Ok(vectors)
}

/// The first moves of each step, as slot, old and new owner.
fn first_moves(plan: &Plan) -> Value {
    let id = |pod: PodIndex| plan.pods().get(pod.as_usize()).map_or("", PodId::as_str);
    let step = |step: &hashroute_core::Step| -> Value {
        let moves = step.moves.iter().take(3);
        moves.map(|one| json!([one.slot.get(), id(one.from), id(one.to)])).collect()
    };
    plan.steps().iter().map(step).collect()
}

fn hex(word: u64) -> String {
    format!("{word:016x}")
}

fn print_lines(lines: impl Iterator<Item = String>) {
    println!("{}", lines.collect::<Vec<_>>().join(",\n"));
}

/// One field a line: short enough to read, and a change shows where it is.
fn fields_on_lines(vector: Value) -> String {
    let Value::Object(fields) = vector else { return vector.to_string() };
    let lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("  {}: {value}", json!(name))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}
