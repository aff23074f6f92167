"""The figures of a sidecar in the words of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from hashroute.quorum_metrics import metrics_of_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["registry_of", "registry_of_node"]

Status = dict[str, Any]


def registry_of(status: Callable[[], Status]) -> CollectorRegistry:
    """Returns a registry that asks a sidecar's ``status`` for the figures at each scrape."""
    parts = (_of_requests, _of_pods, _of_the_sidecar, _of_writes, _of_the_guard, _of_the_quorum)
    return _registry(status, *parts, _of_host)


def registry_of_node(status: Callable[[], Status]) -> CollectorRegistry:
    """Returns a registry that asks a voter's ``status`` for the figures at each scrape."""
    return _registry(status, _of_the_quorum, _of_host)


def _registry(
    status: Callable[[], Status], *parts: Callable[[Status], Iterator[Metric]]
) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status, parts))
    return registry


class _StatusCollector(Collector):
    def __init__(
        self,
        status: Callable[[], Status],
        parts: tuple[Callable[[Status], Iterator[Metric]], ...],
    ) -> None:
        self._status, self._parts = status, parts

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for part in self._parts:
            yield from part(status)


def _of_requests(status: Status) -> Iterator[Metric]:
    totals = status["totals"]
    requests = CounterMetricFamily(
        "hashroute_requests",
        "Requests that ended, by transport and status.",
        labels=("transport", "code"),
    )
    for count in totals["by_status"]:
        requests.add_metric((count["transport"], count["code"]), count["count"])
    yield requests
    duration = HistogramMetricFamily(
        "hashroute_request_duration_seconds",
        "Time from the head of a request to the end of its answer.",
        labels=("transport",),
    )
    for latency in status["latency"]:
        buckets = [(_bound(bound), float(count)) for bound, count in latency["buckets"]]
        if not buckets or buckets[-1][0] != "+Inf":
            buckets.append(("+Inf", float(latency["count"])))
        duration.add_metric((latency["transport"],), buckets, latency["sum"])
    yield duration
    counters = (
        ("retries", "hashroute_retries", "Attempts repeated on another pod."),
        (
            "retry_budget_exhausted",
            "hashroute_retry_budget_exhausted",
            "Retries that were due and that the budget did not allow.",
        ),
        ("refused", "hashroute_refused", "Connections, requests and messages turned away."),
        ("panics", "hashroute_panics", "Defects that ended a task."),
    )
    for key, name, meaning in counters:
        yield CounterMetricFamily(name, meaning, value=totals[key])
    gauges = (
        ("connections", "hashroute_connections", "Open client connections."),
        ("requests_in_flight", "hashroute_requests_in_flight", "Requests being worked on."),
    )
    for key, name, meaning in gauges:
        gauge = GaugeMetricFamily(name, meaning, labels=("transport",))
        for transport, value in totals[key].items():
            gauge.add_metric((transport,), value)
        yield gauge


def _of_pods(status: Status) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "hashroute_pod_up", "1 if the pod takes requests, 0 if it is down.", labels=_POD_TRANSPORT
    )
    in_flight = GaugeMetricFamily(
        "hashroute_pod_in_flight", "Requests sent and not yet answered.", labels=_POD_TRANSPORT
    )
    requests = CounterMetricFamily(
        "hashroute_pod_requests",
        "Requests that ended at the pod.",
        labels=(*_POD_TRANSPORT, "result"),
    )
    share = GaugeMetricFamily(
        "hashroute_pod_share", "The part of the slots that the pod owns.", labels=("pod",)
    )
    weight = GaugeMetricFamily("hashroute_pod_weight", "Its weight.", labels=("pod",))
    state = GaugeMetricFamily(
        "hashroute_pod_state", "1 for the state that the view says.", labels=("pod", "state")
    )
    counters = {
        key: CounterMetricFamily(f"hashroute_pod_{key}", meaning, labels=("pod",))
        for key, meaning in (
            ("retries", "Attempts at the pod that were repeated elsewhere."),
            ("spills", "Requests that came because a pod before it was at its bound."),
            ("failovers", "Requests that came because a pod before it was down."),
        )
    }
    for pod in status["pods"]:
        name = pod["id"]
        for transport, health in pod["health_by_transport"].items():
            up.add_metric((name, transport), 0 if health == "down" else 1)
        for transport, count in pod["in_flight"].items():
            in_flight.add_metric((name, transport), count)
        for transport, ended in pod["requests"].items():
            for result, count in ended.items():
                requests.add_metric((name, transport, result), count)
        share.add_metric((name,), pod["share"])
        weight.add_metric((name,), pod["weight"])
        state.add_metric((name, pod["state"]), 1)
        for key, counter in counters.items():
            counter.add_metric((name,), pod[key])
    yield from (up, in_flight, requests, share, weight, state, *counters.values())


def _of_the_sidecar(status: Status) -> Iterator[Metric]:
    yield GaugeMetricFamily("hashroute_view_epoch", "Epoch in force.", value=status["epoch"])
    yield GaugeMetricFamily("hashroute_slots", "Number of slots.", value=status["slots"])
    age = GaugeMetricFamily(
        "hashroute_loop_age_seconds", "Time since a native loop last turned.", labels=("loop",)
    )
    for loop, milliseconds in status["loop_age_ms"].items():
        age.add_metric((loop,), milliseconds / 1000)
    yield age
    info = InfoMetricFamily("hashroute_ring", "What decides which pod owns which key.")
    info.add_metric((), {"digest": status["digest"], "release": status["version"]})
    yield info


def _of_writes(status: Status) -> Iterator[Metric]:
    writes = status.get("writes")
    if writes is None:
        return
    yield CounterMetricFamily(
        "hashroute_writes_repeated",
        "Writes sent again because a pod did not accept them.",
        value=writes["repeated"],
    )
    yield CounterMetricFamily(
        "hashroute_writes_given_up",
        "Writes that ended because no pod accepted them in time.",
        value=writes["given_up"],
    )
    yield _by_label(
        "hashroute_writes_refused_by_pods",
        "Refusals that pods answered writes with.",
        "reason",
        writes["refused"],
    )
    yield CounterMetricFamily(
        "hashroute_reads_stale",
        "Reads routed while no majority of voters was heard.",
        value=writes["stale"],
    )


def _of_the_guard(status: Status) -> Iterator[Metric]:
    guard = status.get("guard")
    if guard is None:
        return
    yield CounterMetricFamily(
        "hashroute_guard_passed", "Requests to the guard that are no writes.", value=guard["passed"]
    )
    yield CounterMetricFamily(
        "hashroute_guard_turned_away",
        "Connections, requests and messages turned away before they were judged.",
        value=guard["turned_away"],
    )
    answers = CounterMetricFamily(
        "hashroute_guard_answers",
        "Answers of the guard, by transport and status.",
        labels=("transport", "code"),
    )
    for count in guard["by_status"]:
        answers.add_metric((count["transport"], count["code"]), count["count"])
    yield answers
    for key, name, meaning in (
        ("connections", "hashroute_guard_connections", "Open connections to the guard."),
        ("requests_in_flight", "hashroute_guard_in_flight", "Requests at the guard."),
    ):
        gauge = GaugeMetricFamily(name, meaning, labels=("transport",))
        for transport, value in guard[key].items():
            gauge.add_metric((transport,), value)
        yield gauge


def _by_label(name: str, meaning: str, label: str, counts: dict[str, int]) -> Metric:
    counter = CounterMetricFamily(name, meaning, labels=(label,))
    for value, count in counts.items():
        counter.add_metric((value,), count)
    return counter


def _of_the_quorum(status: Status) -> Iterator[Metric]:
    if status.get("quorum") is not None:
        yield from metrics_of_node(status["quorum"])


def _of_host(status: Status) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "hashroute_uptime_seconds", "Time since the start.", value=status["uptime_seconds"]
    )


def _bound(seconds: float | str | None) -> str:
    """The upper bound of a bucket as Prometheus writes it."""
    if seconds is None:
        return "+Inf"
    number = float(seconds)
    return "+Inf" if number == float("inf") else repr(number)


_POD_TRANSPORT = ("pod", "transport")
