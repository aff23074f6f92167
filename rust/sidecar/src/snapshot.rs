//! A sidecar at one moment, as the admin page, the metrics and the control API show it.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_core::{Pod, PodIndex};
use hashroute_dataplane::fleet::{PodStatus, Transport};
use hashroute_dataplane::health::Health;
use hashroute_dataplane::refusal::Refusal;
use hashroute_quorum::NodeSnapshot;
use serde::Serialize;

use crate::metrics::{
    GRPC_STATUSES, GuardMetrics, LatencySnapshot, Metrics, TransportMetrics, ZMQ_STATUSES,
};
use crate::routing::Routing;
use crate::shared::Shared;

/// All figures of a sidecar.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Epoch of the view in use.
    pub epoch: u64,
    /// Digest of its ring, 16 hexadecimal digits.
    pub digest: String,
    /// Number of slots.
    pub slots: usize,
    /// The pods of the view, sorted by id.
    pub pods: Vec<PodSnapshot>,
    /// The sidecar as a whole.
    pub totals: Totals,
    /// How long requests took, for each transport.
    pub latency: Vec<LatencySnapshot>,
    /// Milliseconds since each loop that runs last turned; more than a second means that it is
    /// stuck.
    pub loop_age_ms: BTreeMap<&'static str, u64>,
    /// What became of writes that have one writer, and of reads without a quorum.
    pub writes: WritesSnapshot,
    /// The guard in front of the own service, if there is one.
    pub guard: Option<GuardSnapshot>,
    /// This process's part in the quorum, if it takes part.
    pub quorum: Option<NodeSnapshot>,
}

/// What this sidecar did with writes as a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WritesSnapshot {
    /// Writes sent again, each time.
    pub repeated: u64,
    /// Writes that ended without the answer of a pod: not accepted in time, or unknown.
    pub given_up: u64,
    /// Refusals that pods answered with, by word.
    pub refused: BTreeMap<&'static str, u64>,
    /// Reads routed while no majority of voters was heard.
    pub stale: u64,
}

/// What this sidecar did as a guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuardSnapshot {
    /// Writes admitted.
    pub admitted: u64,
    /// Writes refused, by word.
    pub refused: BTreeMap<&'static str, u64>,
    /// Requests that are no writes.
    pub passed: u64,
    /// Connections, requests and messages turned away before they were judged.
    pub turned_away: u64,
    /// Answers by transport and status; those that never occurred are left out.
    pub by_status: Vec<StatusCount>,
    /// Open connections, by transport.
    pub connections: BTreeMap<&'static str, u64>,
    /// Requests being worked on, by transport.
    pub requests_in_flight: BTreeMap<&'static str, u64>,
}

/// One pod.
#[derive(Clone, Debug, Serialize)]
pub struct PodSnapshot {
    /// Its id.
    pub id: String,
    /// Its state in the view.
    pub state: &'static str,
    /// Its weight.
    pub weight: f64,
    /// Its zone.
    pub zone: Option<String>,
    /// Its addresses.
    pub addresses: AddressesSnapshot,
    /// The worst of its health over the transports that it has addresses for.
    pub health: &'static str,
    /// Its health over each of them.
    pub health_by_transport: BTreeMap<&'static str, &'static str>,
    /// The part of the slots that it owns.
    pub share: f64,
    /// The number of slots that it owns.
    pub slots: u32,
    /// Requests in flight, by transport.
    pub in_flight: BTreeMap<&'static str, u64>,
    /// Requests that ended, by transport.
    pub requests: BTreeMap<&'static str, Ended>,
    /// Attempts that were given to another pod.
    pub retries: u64,
    /// Requests that came here because a pod before it was full.
    pub spills: u64,
    /// Requests that came here because a pod before it was down.
    pub failovers: u64,
    /// What last took it down; empty if nothing did.
    pub last_down_reason: &'static str,
    /// How long it has been down, if it is.
    pub down_since_ms: Option<u64>,
}

/// Where a pod listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressesSnapshot {
    /// For gRPC.
    pub grpc: Option<String>,
    /// For ZeroMQ.
    pub zmq: Option<String>,
}

/// Requests that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// With an answer.
    pub ok: u64,
    /// With an error.
    pub error: u64,
}

/// The sidecar as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// The same by transport and status; those that never occurred are left out.
    pub by_status: Vec<StatusCount>,
    /// Attempts repeated on another pod.
    pub retries: u64,
    /// Retries that the budget did not allow.
    pub retry_budget_exhausted: u64,
    /// Connections, requests and messages turned away before they reached a pod.
    pub refused: u64,
    /// Tasks that ended in a panic; each is a defect.
    pub panics: u64,
    /// Open client connections, by transport.
    pub connections: BTreeMap<&'static str, u64>,
    /// Requests being worked on, by transport.
    pub requests_in_flight: BTreeMap<&'static str, u64>,
}

/// How often one status was the end of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusCount {
    /// `grpc` or `zmq`.
    pub transport: &'static str,
    /// The status by name.
    pub code: &'static str,
    /// How often.
    pub count: u64,
}

/// Takes a snapshot. Never blocks a request; figures that move meanwhile may be off by those that
/// moved.
pub(crate) fn take(
    shared: &Shared,
    loop_age_ms: BTreeMap<&'static str, u64>,
    has_guard: bool,
) -> Snapshot {
    let routing = shared.routing.load();
    let now = shared.clock.now();
    let ring = &routing.ring;
    let pods = ring.view().pods().iter().zip(0..);
    let metrics = &shared.metrics;
    Snapshot {
        epoch: ring.view().epoch().get(),
        digest: format!("{:016x}", ring.digest()),
        slots: ring.owners().len(),
        pods: pods
            .map(|(pod, index)| pod_snapshot(&routing, pod, PodIndex::new(index), now))
            .collect(),
        totals: totals(metrics),
        latency: vec![metrics.grpc.latency.snapshot(GRPC), metrics.zmq.latency.snapshot(ZMQ)],
        loop_age_ms,
        writes: WritesSnapshot {
            repeated: metrics.writes.repeated.get(),
            given_up: metrics.writes.given_up.get(),
            refused: metrics.writes.refused.snapshot(),
            stale: metrics.writes.stale.get(),
        },
        guard: has_guard.then(|| guard(&metrics.guard)),
        quorum: shared.quorum.as_ref().map(|quorum| with_untagged(quorum.snapshot(), metrics)),
    }
}

fn guard(metrics: &GuardMetrics) -> GuardSnapshot {
    let sides = [(GRPC, &metrics.grpc), (ZMQ, &metrics.zmq)];
    GuardSnapshot {
        admitted: metrics.admitted.get(),
        refused: metrics.refused.snapshot(),
        passed: metrics.passed.get(),
        turned_away: sides.iter().map(|(_, side)| side.refused.get()).sum(),
        by_status: by_status(sides),
        connections: by_transport(sides, |side| side.connections.get()),
        requests_in_flight: by_transport(sides, |side| side.requests.get()),
    }
}

/// The figures of the node, with the writes in its member's that its guard never saw: those
/// without a tag.
fn with_untagged(mut node: NodeSnapshot, metrics: &Metrics) -> NodeSnapshot {
    let word = Refusal::Untagged.as_str();
    let untagged = metrics.guard.refused.snapshot().get(word).copied();
    if let (Some(member), Some(untagged)) = (&mut node.member, untagged) {
        *member.refused.entry(word).or_default() += untagged;
    }
    node
}

fn pod_snapshot(routing: &Routing, pod: &Pod, index: PodIndex, now: Duration) -> PodSnapshot {
    let sides: Vec<(&'static str, bool, PodStatus)> = [
        (GRPC, pod.addresses.grpc.is_some(), routing.grpc_side.fleet.status(index)),
        (ZMQ, pod.addresses.zmq.is_some(), routing.zmq_side.fleet.status(index)),
    ]
    .into_iter()
    .filter_map(|(name, is_served, status)| Some((name, is_served, status?)))
    .collect();
    let served = || sides.iter().filter(|(_, is_served, _)| *is_served);
    let sum = |read: fn(&PodStatus) -> u64| sides.iter().map(|(_, _, status)| read(status)).sum();
    let worst = served().map(|(_, _, status)| status).max_by_key(|status| status.health as u8);
    let health = worst.map_or(Health::Up, |status| status.health);
    let last_fall =
        served().filter_map(|(_, _, status)| status.last_fall).max_by_key(|fall| fall.at);
    let ring = &routing.ring;
    let slots = ring.slot_counts().get(index.as_usize()).copied().unwrap_or_default();
    PodSnapshot {
        id: pod.id.as_str().to_owned(),
        state: pod.state.as_str(),
        weight: pod.weight.as_f64(),
        zone: pod.zone.as_deref().map(str::to_owned),
        addresses: AddressesSnapshot {
            grpc: pod.addresses.grpc.clone(),
            zmq: pod.addresses.zmq.clone(),
        },
        health: health.as_str(),
        health_by_transport: served()
            .map(|(name, _, status)| (*name, status.health.as_str()))
            .collect(),
        share: f64::from(slots) / f64::from(ring.view().parameters().slots()),
        slots,
        in_flight: sides.iter().map(|(name, _, status)| (*name, status.in_flight)).collect(),
        requests: sides
            .iter()
            .map(|(name, _, status)| {
                (*name, Ended { ok: status.requests_ok, error: status.requests_error })
            })
            .collect(),
        retries: sum(|status| status.retries),
        spills: sum(|status| status.spills),
        failovers: sum(|status| status.failovers),
        last_down_reason: last_fall.map_or("", |fall| fall.cause.as_str()),
        down_since_ms: worst
            .filter(|status| status.health == Health::Down)
            .map(|status| millis(now.saturating_sub(status.since))),
    }
}

fn totals(metrics: &Metrics) -> Totals {
    let sides = [(GRPC, &metrics.grpc), (ZMQ, &metrics.zmq)];
    let sum = |read: fn(&TransportMetrics) -> u64| sides.iter().map(|(_, side)| read(side)).sum();
    let by_status = by_status(sides);
    Totals {
        requests: by_status.iter().map(|status| status.count).sum(),
        by_status,
        retries: sum(|side| side.retries.get()),
        retry_budget_exhausted: sum(|side| side.retry_budget_exhausted.get()),
        refused: sum(|side| side.refused.get()),
        panics: [sides, [(GRPC, &metrics.guard.grpc), (ZMQ, &metrics.guard.zmq)]]
            .iter()
            .flatten()
            .map(|(_, side)| side.panics.get())
            .sum(),
        connections: by_transport(sides, |side| side.connections.get()),
        requests_in_flight: by_transport(sides, |side| side.requests.get()),
    }
}

type Sides<'a> = [(&'static str, &'a TransportMetrics); 2];

fn by_transport(
    sides: Sides<'_>,
    read: fn(&TransportMetrics) -> u64,
) -> BTreeMap<&'static str, u64> {
    sides.into_iter().map(|(name, side)| (name, read(side))).collect()
}

fn by_status([(grpc, grpc_side), (zmq, zmq_side)]: Sides<'_>) -> Vec<StatusCount> {
    let pairs = GRPC_STATUSES.into_iter().zip(&grpc_side.statuses).map(|pair| (grpc, pair));
    let more = ZMQ_STATUSES.into_iter().zip(&zmq_side.statuses).map(|pair| (zmq, pair));
    pairs
        .chain(more)
        .map(|(transport, (code, counter))| StatusCount { transport, code, count: counter.get() })
        .filter(|status| status.count > 0)
        .collect()
}

const GRPC: &str = Transport::Grpc.as_str();
const ZMQ: &str = Transport::Zmq.as_str();

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
