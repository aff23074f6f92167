//! A record as people and scripts read it.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{Group, LeaseParameters, Record, VoterEntry};
use hashroute_core::{PodId, Ring};
use serde_json::{Value, json};

use crate::wire::digest;

/// The record as a JSON document.
///
/// `epoch`; `cluster_id`, 32 hexadecimal digits; `lease` with `ttl_ms`, `renewal_interval_ms`,
/// `drift_ppm`, `margin_ms`; `voters`, each with `id` (32 hexadecimal digits) and `address`;
/// `view`, as [`hashroute_core::View::to_json`] has it; `writers`, from pod to the 16 hexadecimal
/// digits of its process; `groups`, sorted by name, each with `name`, `candidates` (best first),
/// `leader` (or null) and `term`; `digest` of the table, 16 hexadecimal digits, null if no pod
/// owns slots; `terms`, from each pod that owns slots to the least and the greatest term of them.
///
/// Cost: one pass over the slots.
#[must_use]
pub fn record_json(record: &Record) -> Value {
    let digest = Some(digest(record)).filter(|digest| !digest.is_empty());
    json!({
        "epoch": record.epoch().get(),
        "cluster_id": format!("{:032x}", record.cluster().0),
        "lease": lease(record.parameters()),
        "voters": record.voters().iter().map(voter).collect::<Vec<_>>(),
        "view": record.view(),
        "writers": writers(record),
        "groups": record.groups().iter().map(group).collect::<Vec<_>>(),
        "digest": digest,
        "terms": record.ring().map(|ring| terms(record, ring)).unwrap_or_default(),
    })
}

fn lease(lease: LeaseParameters) -> Value {
    json!({
        "ttl_ms": millis(lease.ttl),
        "renewal_interval_ms": millis(lease.renewal_interval),
        "drift_ppm": lease.drift_ppm,
        "margin_ms": millis(lease.margin),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn voter(entry: &VoterEntry) -> Value {
    json!({"id": format!("{:032x}", entry.id.0), "address": entry.address})
}

fn writers(record: &Record) -> BTreeMap<String, String> {
    let writers = record.writers().iter();
    writers.map(|(pod, it)| (pod.to_string(), format!("{:016x}", it.0))).collect()
}

fn group(group: &Group) -> Value {
    let candidates: Vec<&str> = group.candidates.iter().map(PodId::as_str).collect();
    json!({
        "name": &*group.name,
        "candidates": candidates,
        "leader": group.leader.as_ref().map(PodId::as_str),
        "term": group.term.get(),
    })
}

fn terms(record: &Record, ring: &Ring) -> BTreeMap<String, Value> {
    let pods = record.view().pods();
    let mut bounds: Vec<Option<(u64, u64)>> = vec![None; pods.len()];
    for (owner, term) in ring.owners().iter().zip(record.slot_terms()) {
        if let Some(bounds) = bounds.get_mut(usize::from(*owner)) {
            let (min, max) = bounds.unwrap_or((*term, *term));
            *bounds = Some((min.min(*term), max.max(*term)));
        }
    }
    let owners = pods.iter().zip(bounds);
    let owners = owners.filter_map(|(pod, bounds)| {
        let (min, max) = bounds?;
        Some((pod.id.to_string(), json!({"min": min, "max": max})))
    });
    owners.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{both, first, join, pod};
    use hashroute_coordination::Change;

    #[test]
    fn a_record_reads_as_documented() {
        let record = join(&both(), "a", 0xab);
        let ring = record.ring().unwrap();
        let view: Value = serde_json::from_str(&record.view().to_json()).unwrap();
        let expected = json!({
            "epoch": 4,
            "cluster_id": "00000000000000000000000000000007",
            "lease": {
                "ttl_ms": 300.0, "renewal_interval_ms": 50.0, "drift_ppm": 1000, "margin_ms": 10.0,
            },
            "voters": [
                {"id": "00000000000000000000000000000001", "address": "voter-1:9010"},
                {"id": "00000000000000000000000000000002", "address": "voter-2:9010"},
                {"id": "00000000000000000000000000000003", "address": "voter-3:9010"},
            ],
            "view": view,
            "writers": {"a": "00000000000000ab", "b": "0000000000000001"},
            "groups": [{"name": "gateway", "candidates": ["a", "b"], "leader": "a", "term": 4}],
            "digest": format!("{:016x}", ring.digest()),
            "terms": {"a": {"min": 4, "max": 4}, "b": {"min": 3, "max": 3}},
        });
        assert_eq!(record_json(&record), expected);
    }

    #[test]
    fn before_anybody_joins_nobody_owns_anything() {
        let document = record_json(&first());
        assert_eq!(document["digest"], Value::Null);
        assert_eq!(document["terms"], json!({}));
        assert_eq!(document["groups"][0]["leader"], Value::Null);
    }

    #[test]
    fn terms_are_the_least_and_the_greatest_of_what_a_pod_owns() {
        let drained = |name| {
            let record = both().next(&Change::Drain(pod(name))).unwrap();
            record_json(&record)["terms"].clone()
        };
        assert_eq!(drained("b"), json!({"a": {"min": 2, "max": 4}}), "its own slots, and b's");
        assert_eq!(drained("a"), json!({"b": {"min": 3, "max": 4}}), "its own slots, and a's");
    }
}
