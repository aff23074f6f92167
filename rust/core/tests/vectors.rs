//! The golden vectors: what both the ring and its plain twin must give, in every release.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod twin;

use std::collections::BTreeMap;

use hashroute_core::{Plan, Pod, PodId, PodIndex, Ring, Slot, View, hash_key};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../tests/vectors/assignment.json");

/// The plain twin sorts all pairs of pod and slot, so it takes part only up to this many.
const PAIRS_MAX: usize = 400_000;

fn vectors(kind: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = document[kind].as_array().unwrap().clone();
    assert!(!vectors.is_empty());
    vectors
}

fn ring(vector: &Value) -> Ring {
    Ring::build(View::from_json(&vector["view"].to_string()).unwrap()).unwrap()
}

fn id(ring: &Ring, pod: PodIndex) -> Value {
    json!(ring.view().pod(pod).unwrap().id.as_str())
}

fn key_bytes(key: &Value) -> Vec<u8> {
    if let Some(text) = key["text"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(number) = key["integer"].as_u64() {
        return number.to_le_bytes().to_vec();
    }
    let hex = key["hex"].as_str().unwrap();
    let byte = |place: usize| u8::from_str_radix(&hex[place..place + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn by_id(ring: &Ring, values: &[u32]) -> Value {
    let ids = ring.view().pods().iter().map(|pod| pod.id.to_string());
    json!(ids.zip(values).collect::<BTreeMap<_, _>>())
}

/// XXH3-64 of the file.
const FROZEN: u64 = 0x86c1_832d_d6a4_05fd;

/// Version 1 of the mapping is frozen. Whoever adds vectors sees here that it is about to happen,
/// and that `git diff` must show added lines only.
#[test]
fn the_record_itself_is_the_frozen_one() {
    let got = hash_key(VECTORS.as_bytes());
    assert_eq!(got, FROZEN, "the vectors have changed: {got:#018x}, see tests/vectors/ORIGIN.md");
}

#[test]
fn keys_hash_as_recorded() {
    for vector in vectors("keys") {
        let hash = format!("{:016x}", hash_key(&key_bytes(&vector["key"])));
        assert_eq!(vector["hash"], hash, "{}", vector["key"]);
    }
}

#[test]
fn views_map_as_recorded() {
    for vector in vectors("views") {
        let name = &vector["name"];
        let ring = ring(&vector);
        assert_eq!(vector["digest"], format!("{:016x}", ring.digest()), "{name}");
        assert_eq!(vector["capacities"], by_id(&ring, ring.capacities()), "{name}");
        assert_eq!(vector["bounds"], by_id(&ring, ring.bounds()), "{name}");
        assert_eq!(vector["slot_counts"], by_id(&ring, ring.slot_counts()), "{name}");
        let slot = |number: &String| Slot::new(number.parse().unwrap());
        for (number, owner) in vector["owners"].as_object().unwrap() {
            assert_eq!(*owner, id(&ring, ring.owner(slot(number))), "{name}, slot {number}");
        }
        for (number, list) in vector["first_preferences"].as_object().unwrap() {
            let first = ring.preference(slot(number)).take(list.as_array().unwrap().len());
            let first: Value = first.map(|pod| id(&ring, pod)).collect();
            assert_eq!(*list, first, "{name}, slot {number}");
        }
        for key in vector["keys"].as_array().unwrap() {
            let slot = ring.slot(&key_bytes(&key["key"]));
            assert_eq!(key["slot"], slot.get(), "{name}, {}", key["key"]);
            assert_eq!(key["owner"], id(&ring, ring.owner(slot)), "{name}, {}", key["key"]);
        }
    }
}

#[test]
fn the_plain_twin_gives_the_same_tables() {
    let mut compared = 0;
    for vector in vectors("views") {
        let view = View::from_json(&vector["view"].to_string()).unwrap();
        let owners = || view.pods().iter().filter(|pod| pod.state.owns_slots());
        if owners().count() * view.parameters().slots() as usize > PAIRS_MAX {
            continue;
        }
        let output = twin::assign(&twin::Input {
            bits: view.parameters().slots().trailing_zeros(),
            epsilon_millionths: view.parameters().epsilon_millionths(),
            seed: view.parameters().seed(),
            pods: owners().map(|pod: &Pod| (pod.id.to_string(), pod.weight.millionths())).collect(),
        });
        assert_eq!(vector["digest"], format!("{:016x}", output.digest), "{}", vector["name"]);
        compared += 1;
    }
    assert!(compared >= 15, "only {compared} views were small enough");
}

#[test]
fn plans_move_as_recorded() {
    let views = vectors("views");
    let named = |name: &Value| ring(views.iter().find(|view| view["name"] == *name).unwrap());
    for vector in vectors("plans") {
        let limit = vector["slots_per_step"].as_u64().map(|limit| u32::try_from(limit).unwrap());
        let plan = named(&vector["from"]).plan(&named(&vector["to"]), limit).unwrap();
        let way = format!("{} to {}", vector["from"], vector["to"]);
        assert_eq!(vector["moved_slots"], plan.moved_slots(), "{way}");
        assert_eq!(vector["least_slots"], plan.least_slots(), "{way}");
        let sizes: Value = plan.steps().iter().map(|step| json!(step.moves.len())).collect();
        assert_eq!(vector["slots_moved_by_step"], sizes, "{way}");
        assert_eq!(vector["first_moves"], first_moves(&plan), "{way}");
    }
}

fn first_moves(plan: &Plan) -> Value {
    let id = |pod: PodIndex| PodId::as_str(&plan.pods()[pod.as_usize()]);
    let first = |step: &hashroute_core::Step| -> Value {
        let moves = step.moves.iter().take(3);
        moves.map(|one| json!([one.slot.get(), id(one.from), id(one.to)])).collect()
    };
    plan.steps().iter().map(first).collect()
}
