//! A sidecar at one moment, as the admin page, the metrics and the control API show it.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_core::{Pod, PodIndex};
use hashroute_dataplane::fleet::{PodStatus, Transport};
use hashroute_dataplane::health::Health;
use serde::Serialize;

use crate::metrics::{GRPC_STATUSES, LatencySnapshot, Metrics, TransportMetrics, ZMQ_STATUSES};
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
pub(crate) fn take(shared: &Shared, loop_age_ms: BTreeMap<&'static str, u64>) -> Snapshot {
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
    }
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
    let by_transport = |read: fn(&TransportMetrics) -> u64| {
        sides.iter().map(|(name, side)| (*name, read(side))).collect()
    };
    let grpc = GRPC_STATUSES.into_iter().zip(&metrics.grpc.statuses).map(|pair| (GRPC, pair));
    let zmq = ZMQ_STATUSES.into_iter().zip(&metrics.zmq.statuses).map(|pair| (ZMQ, pair));
    let by_status: Vec<StatusCount> = grpc
        .chain(zmq)
        .map(|(transport, (code, counter))| StatusCount { transport, code, count: counter.get() })
        .filter(|status| status.count > 0)
        .collect();
    Totals {
        requests: by_status.iter().map(|status| status.count).sum(),
        by_status,
        retries: sum(|side| side.retries.get()),
        retry_budget_exhausted: sum(|side| side.retry_budget_exhausted.get()),
        refused: sum(|side| side.refused.get()),
        panics: sum(|side| side.panics.get()),
        connections: by_transport(|side| side.connections.get()),
        requests_in_flight: by_transport(|side| side.requests.get()),
    }
}

const GRPC: &str = Transport::Grpc.as_str();
const ZMQ: &str = Transport::Zmq.as_str();

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
