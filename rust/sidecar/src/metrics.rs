//! Counters and histograms that the event loops write and anybody may read.
//!
//! Everything is an atomic with relaxed ordering: a snapshot may be off by the requests that finish
//! while it is taken, and never blocks one.
use std::array;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashroute_dataplane::refusal::Refusal;
use serde::Serialize;
use tokio::sync::Notify;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the count so far.
    #[must_use]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down: what is open or in flight at this moment.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    count: AtomicU64,
    emptied: Notify,
}

impl Gauge {
    /// Counts one more until the returned guard is dropped.
    #[must_use]
    pub(crate) fn enter(self: &Arc<Self>) -> GaugeGuard {
        self.count.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(self))
    }

    /// Counts one more, unless `limit` are counted already.
    #[must_use]
    pub(crate) fn enter_below(self: &Arc<Self>, limit: u64) -> Option<GaugeGuard> {
        let guard = self.enter();
        (self.get() <= limit).then_some(guard)
    }

    /// Sets the number, for a gauge that one loop keeps by itself.
    pub(crate) fn set(&self, number: u64) {
        self.count.store(number, Ordering::Relaxed);
    }

    /// Returns the number at this moment.
    #[must_use]
    pub(crate) fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns when the number is zero.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.get() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// Takes one off its [`Gauge`] when dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Arc<Gauge>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

/// Upper bounds of the latency buckets, in microseconds; slower requests count in a last bucket
/// without a bound.
pub(crate) const LATENCY_BOUNDS_US: [u64; 18] = [
    25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// How long requests took, in fixed buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [Counter; LATENCY_BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| Counter::default()), sum_us: Counter::default() }
    }
}

impl Histogram {
    /// Records one request. Cost: a search among 18 bounds and two atomic additions.
    pub(crate) fn record(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.buckets[bucket].increment();
        self.sum_us.add(micros);
    }

    /// Returns the buckets as they stand.
    #[must_use]
    pub(crate) fn snapshot(&self, transport: &'static str) -> LatencySnapshot {
        let counts: Vec<u64> = self.buckets.iter().map(Counter::get).collect();
        let mut running = 0;
        let buckets = LATENCY_BOUNDS_US
            .iter()
            .zip(&counts)
            .map(|(bound, count)| {
                running += count;
                (seconds(*bound), running)
            })
            .collect();
        LatencySnapshot {
            transport,
            buckets,
            sum: seconds(self.sum_us.get()),
            count: counts.iter().sum(),
        }
    }
}

/// How long requests took, up to one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatencySnapshot {
    /// `grpc` or `zmq`.
    pub transport: &'static str,
    /// Pairs of an upper bound in seconds and how many requests took at most that long.
    pub buckets: Vec<(f64, u64)>,
    /// All the time together, in seconds.
    pub sum: f64,
    /// All requests, also those above the last bound.
    pub count: u64,
}

/// What one transport did in all.
#[derive(Debug)]
pub(crate) struct TransportMetrics {
    /// Answers by status: for gRPC the status code 0..=16 (17: none of them); for ZeroMQ see
    /// [`ZMQ_STATUSES`].
    pub(crate) statuses: [Counter; STATUSES],
    /// From the request's head to the end of its answer.
    pub(crate) latency: Histogram,
    /// Attempts repeated on another pod.
    pub(crate) retries: Counter,
    /// Retries that were due and that the budget did not allow.
    pub(crate) retry_budget_exhausted: Counter,
    /// Connections, requests or messages turned away before they reached a pod: limits, HTTP/1,
    /// TLS, garbage.
    pub(crate) refused: Counter,
    /// Connections from clients, open now.
    pub(crate) connections: Arc<Gauge>,
    /// Requests being worked on now, those that wait for a pod included.
    pub(crate) requests: Arc<Gauge>,
    /// Tasks that ended in a panic; each is a defect.
    pub(crate) panics: Counter,
}

impl Default for TransportMetrics {
    fn default() -> Self {
        Self {
            statuses: array::from_fn(|_| Counter::default()),
            latency: Histogram::default(),
            retries: Counter::default(),
            retry_budget_exhausted: Counter::default(),
            refused: Counter::default(),
            connections: Arc::default(),
            requests: Arc::default(),
            panics: Counter::default(),
        }
    }
}

/// Number of status counters of a transport.
pub(crate) const STATUSES: usize = 18;

/// What the first status counters of the ZeroMQ transport count, in order.
pub(crate) const ZMQ_STATUSES: [&str; 7] = [
    "OK",
    "MISSING_KEY",
    "MALFORMED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "REFUSED",
];

/// What the status counters of the gRPC transport count: the codes' names in the order of their
/// numbers.
pub(crate) const GRPC_STATUSES: [&str; STATUSES] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    "OTHER",
];

/// All figures of one sidecar.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// gRPC.
    pub(crate) grpc: TransportMetrics,
    /// ZeroMQ.
    pub(crate) zmq: TransportMetrics,
    /// What has one writer, as a router.
    pub(crate) writes: WriteMetrics,
    /// The guard, over both transports.
    pub(crate) guard: GuardMetrics,
}

/// What a router did with writes.
#[derive(Debug, Default)]
pub(crate) struct WriteMetrics {
    /// Writes sent again, each time.
    pub(crate) repeated: Counter,
    /// Writes that ended without the answer of a pod: not accepted in time, or unknown.
    pub(crate) given_up: Counter,
    /// Refusals that pods answered with.
    pub(crate) refused: ByRefusal,
    /// Reads that were routed by what may have been old.
    pub(crate) stale: Counter,
}

/// What a guard did.
#[derive(Debug, Default)]
pub(crate) struct GuardMetrics {
    /// gRPC, as a transport.
    pub(crate) grpc: TransportMetrics,
    /// ZeroMQ, as a transport.
    pub(crate) zmq: TransportMetrics,
    /// Writes admitted.
    pub(crate) admitted: Counter,
    /// Writes refused.
    pub(crate) refused: ByRefusal,
    /// Requests that are no writes.
    pub(crate) passed: Counter,
}

/// A counter for each refusal.
#[derive(Debug, Default)]
pub(crate) struct ByRefusal([Counter; Refusal::ALL.len()]);

impl ByRefusal {
    /// Counts one.
    pub(crate) fn increment(&self, refusal: Refusal) {
        let place = Refusal::ALL.iter().position(|known| *known == refusal);
        self.0[place.unwrap_or_default()].increment();
    }

    /// The counts by word; those that never occurred are left out.
    pub(crate) fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        let counts = Refusal::ALL.iter().zip(&self.0);
        let counts = counts.map(|(refusal, counter)| (refusal.as_str(), counter.get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Microseconds as seconds, exact up to 2^53 microseconds (285 years).
#[allow(clippy::cast_precision_loss, reason = "285 years of microseconds are exact")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_slowest_are_only_in_the_count() {
        let histogram = Histogram::default();
        for micros in [25, 26, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot("grpc");
        assert_eq!(snapshot.buckets[0], (0.000_025, 1));
        assert_eq!(snapshot.buckets[1], (0.000_05, 2));
        assert_eq!(snapshot.buckets[17], (10.0, 3));
        assert_eq!(snapshot.count, 4);
        assert!((snapshot.sum - 20.000_052).abs() < 1e-9);
    }

    #[test]
    fn a_gauge_counts_what_is_open_and_keeps_its_limit() {
        let gauge = Arc::new(Gauge::default());
        let first = gauge.enter_below(1).expect("the first fits");
        assert!(gauge.enter_below(1).is_none());
        assert_eq!(gauge.get(), 1);
        drop(first);
        assert_eq!(gauge.get(), 0);
        assert!(gauge.enter_below(1).is_some());
    }
}
