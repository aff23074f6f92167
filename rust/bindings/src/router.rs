//! `Router`: the live ring, for programs that send their requests themselves.

use std::sync::Arc;
use std::time::Duration;

use hashroute_core::{Pod, PodIndex, hash_key};
use hashroute_dataplane::fleet::{LoadBound, PodStatus, Transport};
use hashroute_dataplane::health::Event;
use hashroute_sidecar::{
    self as sidecar, Goal, HealthSettings, Probe, RetrySettings, RouterSettings,
};
use pyo3::prelude::*;

use crate::arguments::{argument, group_name, seconds};
use crate::failure::{Failure, detached};
use crate::keys::with_bytes;
use crate::node::Node;
use crate::request::Request;
use crate::ring::Ring;
use crate::route::Route;
use crate::view::View;
use crate::write::Write;

/// The live ring. Python's `Router` extends it, so `acquire` meets no Python code.
#[pyclass(frozen, subclass, module = "hashroute._hashroute")]
pub(crate) struct Router(Arc<sidecar::Router>);

/// How a pod does: id, state, health, seconds since that changed, the last fall's reason, in flight,
/// requests ok, requests that ended in an error, retries, spills, failovers.
type StatusFields =
    (String, &'static str, &'static str, f64, Option<&'static str>, u64, u64, u64, u64, u64, u64);

#[pymethods]
impl Router {
    #[new]
    #[pyo3(signature = (ring, *, transport, c, floor, health, retries))]
    fn new(
        py: Python<'_>,
        ring: &Ring,
        transport: &Bound<'_, PyAny>,
        c: &Bound<'_, PyAny>,
        floor: &Bound<'_, PyAny>,
        health: Option<&Bound<'_, PyAny>>,
        retries: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let settings = RouterSettings {
            transport: transport_of(transport)?,
            load: load_bound(c, floor)?,
            probes: health.map(probes).transpose()?,
            retry: retry(retries)?,
        };
        let ring = ring.ring.clone();
        detached(py, || sidecar::Router::start(ring, settings)).map(|router| Self(router.into()))
    }

    /// Chooses the pod for one request with this key, and counts it in flight there.
    ///
    /// Use it as `with router.acquire(key) as route:` or `async with`: the request counts until
    /// the end of the block. The pod is the first in the key's preference list that is up and
    /// within its load bound; if there is none, the best there is. Takes no lock; never waits.
    ///
    /// With `write=True` it is the key's owner by the newest record of the quorum and nobody else,
    /// whatever its health and load: send `route.tag` along, for its guard.
    ///
    /// Raises:
    ///     NoPodError: no pod of the view serves the router's transport; for a write, nobody may
    ///         write the key now.
    ///     ParameterError: a write, and the router follows no quorum.
    ///     KeyTypeError, KeyRangeError, KeyEncodingError: as `Ring.owner`.
    #[pyo3(signature = (key, /, *, write = false))]
    fn acquire(&self, key: &Bound<'_, PyAny>, write: bool) -> PyResult<Route> {
        if write {
            return self.writer(&with_bytes(key, goal_of_key)?);
        }
        let chosen = with_bytes(key, |bytes| self.0.choose(Some(bytes)))?;
        let (route, permit) = chosen.map_err(Failure::from)?;
        Ok(Route::new(route, permit))
    }

    /// Chooses the pod for one request without a key: each call another slot, spread evenly.
    ///
    /// Raises:
    ///     NoPodError: no pod of the view serves the router's transport.
    fn acquire_any(&self) -> PyResult<Route> {
        let (route, permit) = self.0.choose(None).map_err(Failure::from)?;
        Ok(Route::new(route, permit))
    }

    /// Chooses the pod for one write of what a group keeps: the group's leader and nobody else.
    ///
    /// Raises:
    ///     NoPodError: the group has no leader now, or there is none of this name.
    ///     ParameterError: the router follows no quorum, or this is no name of a group.
    #[pyo3(signature = (group, /))]
    fn acquire_group(&self, group: &Bound<'_, PyAny>) -> PyResult<Route> {
        self.writer(&Goal::Group(group_name(group)?))
    }

    /// Begins a request that may be sent to one pod after the other.
    fn request(&self, key: &Bound<'_, PyAny>, idempotent: bool) -> PyResult<Request> {
        if key.is_none() {
            return Ok(Request::new(self.0.request(None, idempotent)));
        }
        with_bytes(key, |bytes| Request::new(self.0.request(Some(bytes), idempotent)))
    }

    /// Begins a write of the key's slot, or of what a group keeps, that may be sent more than once.
    #[pyo3(signature = (key, *, group, idempotent, patience_seconds))]
    fn write(
        &self,
        key: Option<&Bound<'_, PyAny>>,
        group: Option<&Bound<'_, PyAny>>,
        idempotent: bool,
        patience_seconds: &Bound<'_, PyAny>,
    ) -> PyResult<Write> {
        let goal = match (key, group) {
            (_, Some(group)) => Goal::Group(group_name(group)?),
            (Some(key), None) => with_bytes(key, goal_of_key)?,
            (None, None) => return Err(Failure::new("internal", "a write of nothing").into()),
        };
        let patience = seconds(patience_seconds, "patience_seconds")?;
        Ok(Write::new(self.0.write(goal, idempotent, patience)))
    }

    /// Puts the newest record of a node in force, and from now on each that follows it, until
    /// `stop`.
    ///
    /// Raises:
    ///     StartError: the system gives no thread.
    fn follow(&self, py: Python<'_>, node: &Node) -> PyResult<()> {
        let records = node.records();
        detached(py, || self.0.follow(records).map_err(Failure::from))
    }

    /// The view in force: of the record that is followed, else of the ring that was applied.
    fn view(&self) -> View {
        View(self.0.fleet().ring().view().clone())
    }

    /// The epoch of the record in force; None if the router follows no quorum.
    #[getter]
    fn record_epoch(&self) -> Option<u64> {
        self.0.record().map(|record| record.epoch().get())
    }

    /// Puts another ring in force.
    fn apply_ring(&self, py: Python<'_>, ring: &Ring) -> PyResult<()> {
        let ring = ring.ring.clone();
        detached(py, || self.0.apply(ring))
    }

    /// Tells what the program itself met at a pod; a pod that the view does not hold is ignored.
    ///
    /// `"alive"` brings it back, `"refused"` and `"lost"` take it out of the way at once.
    fn report(&self, pod: &str, event: &str) -> PyResult<()> {
        let event = match event {
            "alive" => Event::ProbeSucceeded,
            "refused" => Event::ConnectionRefused,
            "lost" => Event::ConnectionLost,
            _ => {
                let text = format!("event must be 'alive', 'refused' or 'lost', not {event:?}");
                return Err(Failure::new("parameter", text).with("parameter", "event").into());
            }
        };
        self.0.observe(pod, event);
        Ok(())
    }

    /// Waits until more than `seen` changes were counted, for at most `patience_seconds`; returns
    /// how many were: pods that were found down, rings and records put in force.
    fn wait_for_change(
        &self,
        py: Python<'_>,
        seen: u64,
        patience_seconds: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let patience = seconds(patience_seconds, "patience_seconds")?;
        Ok(py.detach(|| self.0.wait_for_change(seen, patience)))
    }

    /// Counts a change, so that whoever waits for one looks again.
    fn nudge(&self) {
        self.0.nudge();
    }

    /// Returns how each pod does, in the order of the view.
    fn pod_statuses(&self) -> Vec<StatusFields> {
        let (fleet, now) = (self.0.fleet(), self.0.now());
        let pods = (0..).map(PodIndex::new).zip(fleet.ring().view().pods());
        pods.filter_map(|(place, pod)| Some(status_fields(pod, fleet.status(place)?, now)))
            .collect()
    }

    /// How many requests are in flight, over all pods, also those that left.
    #[getter]
    fn in_flight(&self) -> u64 {
        self.0.fleet().in_flight()
    }

    /// Over which transport pods are chosen: `grpc`, `zmq` or `any`.
    #[getter]
    fn transport(&self) -> &'static str {
        self.0.settings().transport.as_str()
    }

    /// Whether the router itself finds out that a pod is back.
    #[getter]
    fn is_probing(&self) -> bool {
        self.0.settings().probes.is_some()
    }

    /// Ends the threads that probe and follow.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

impl Router {
    fn writer(&self, goal: &Goal) -> PyResult<Route> {
        let (route, permit) = self.0.choose_writer(goal).map_err(Failure::from)?;
        Ok(Route::new(route, permit))
    }
}

fn goal_of_key(key: &[u8]) -> Goal {
    Goal::Key(hash_key(key))
}

fn status_fields(pod: &Pod, status: PodStatus, now: Duration) -> StatusFields {
    (
        pod.id.as_str().to_owned(),
        pod.state.as_str(),
        status.health.as_str(),
        now.saturating_sub(status.since).as_secs_f64(),
        status.last_fall.map(|fall| fall.cause.as_str()),
        status.in_flight,
        status.requests_ok,
        status.requests_error,
        status.retries,
        status.spills,
        status.failovers,
    )
}

fn transport_of(value: &Bound<'_, PyAny>) -> PyResult<Transport> {
    const EXPECTED: &str = "'grpc', 'zmq' or 'any', or None for what the pods have";
    match argument::<String>(value, "transport", EXPECTED)?.as_str() {
        "grpc" => Ok(Transport::Grpc),
        "zmq" => Ok(Transport::Zmq),
        "any" => Ok(Transport::Any),
        other => Err(unknown("transport", EXPECTED, other)),
    }
}

/// How pods are probed, from Python's `HealthOptions`.
fn probes(health: &Bound<'_, PyAny>) -> PyResult<HealthSettings> {
    const EXPECTED: &str = "'grpc' or 'connect'";
    let probe: String = argument(&health.getattr("probe")?, "probe", EXPECTED)?;
    Ok(HealthSettings {
        interval: seconds(&health.getattr("interval_seconds")?, "interval_seconds")?,
        timeout: seconds(&health.getattr("timeout_seconds")?, "timeout_seconds")?,
        probe: match probe.as_str() {
            "grpc" => Probe::Grpc,
            "connect" => Probe::Connect,
            other => return Err(unknown("probe", EXPECTED, other)),
        },
        service: argument(&health.getattr("service")?, "service", "a str")?,
    })
}

/// When requests are sent again, from Python's `Retries`. What to send is the client's to keep.
fn retry(retries: &Bound<'_, PyAny>) -> PyResult<RetrySettings> {
    let field = |name| retries.getattr(name);
    Ok(RetrySettings {
        attempts_max: argument(&field("attempts_max")?, "attempts_max", "an int from 1 to 8")?,
        budget_ratio: argument(&field("budget_ratio")?, "budget_ratio", "a number from 0 to 1")?,
        budget_reserve: argument(&field("budget_reserve")?, "budget_reserve", "an int from 0 up")?,
        buffer_bytes: 0,
    })
}

fn load_bound(c: &Bound<'_, PyAny>, floor: &Bound<'_, PyAny>) -> PyResult<LoadBound> {
    let c = argument(c, "c", "a number of at least 1 such as 1.25")?;
    let floor = argument(floor, "floor", "an int of at least 0 such as 16")?;
    LoadBound::new(c, floor)
        .map_err(|error| Failure::new("parameter", error.to_string()).with("parameter", "c").into())
}

fn unknown(name: &'static str, expected: &str, got: &str) -> PyErr {
    Failure::new("parameter", format!("{name} must be {expected}, not {got:?}"))
        .with("parameter", name)
        .into()
}
