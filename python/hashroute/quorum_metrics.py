"""The figures of a node of the quorum in the words of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["metrics_of_node"]

Figures = dict[str, Any]


def metrics_of_node(node: Figures) -> Iterator[Metric]:
    """Returns the metrics of one snapshot.

    What is not known, such as a margin without a lease, is absent: better no figure than a wrong
    one.
    """
    yield from _of_the_record(node)
    yield from _of_links(node["voters"])
    if node["voter"] is not None:
        yield from _of_the_voter(node["voter"])
    if node["member"] is not None:
        yield from _of_the_member(node["member"])
    yield from _of_the_machine(node)


def _of_the_record(node: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "hashroute_quorum_epoch", "Epoch of the newest record; 0 for none.", value=node["epoch"]
    )
    yield GaugeMetricFamily(
        "hashroute_quorum_is_stale",
        "1 if no majority of voters was heard for quorum.stale_after: reads are marked stale.",
        value=node["is_stale"],
    )
    yield GaugeMetricFamily(
        "hashroute_quorum_warnings", "Troubles that are coming; the log names them.",
        value=len(node["warnings"]),
    )  # fmt: skip
    yield GaugeMetricFamily(
        "hashroute_recovery_promise_seconds",
        "The longest time to a new writer after a failure that this process can promise.",
        value=node["recovery_promise_ms"] / 1000,
    )
    info = InfoMetricFamily("hashroute_quorum", "The cluster.")
    names = ("cluster", "cluster_id", "engine")
    info.add_metric((), {name: node[name] for name in names})
    yield info


def _of_links(links: list[Figures]) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "hashroute_voter_connected",
        "1 if a conversation with the voter is open.",
        labels=("voter",),
    )
    round_trip = GaugeMetricFamily(
        "hashroute_voter_round_trip_seconds", "How long its last answer took.", labels=("voter",)
    )
    drift = GaugeMetricFamily(
        "hashroute_voter_clock_drift_ppm",
        "How much faster its clock ran than ours, in millionths.",
        labels=("voter",),
    )
    for link in links:
        voter = (link["address"],)
        connected.add_metric(voter, link["is_connected"])
        if link["round_trip_ms"] is not None:
            round_trip.add_metric(voter, link["round_trip_ms"] / 1000)
        if link["drift_ppm"] is not None:
            drift.add_metric(voter, link["drift_ppm"])
    yield from (connected, round_trip, drift)


def _of_the_voter(voter: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "hashroute_voter_is_voter", "1 if the record has this voter.", value=voter["is_voter"]
    )
    yield CounterMetricFamily(
        "hashroute_voter_grants", "Renewals that this voter granted.", value=voter["grants"]
    )
    yield _by_reason(
        "hashroute_voter_refusals", "Renewals that this voter refused.", voter["refusals"]
    )
    yield CounterMetricFamily(
        "hashroute_voter_syncs", "Writes to the disk of this voter.", value=voter["syncs"]
    )
    yield _quantiles(
        "hashroute_voter_sync_seconds",
        "How long writes to the disk took: the last 1,000.",
        {"0.5": voter["sync_p50_ms"], "0.99": voter["sync_p99_ms"]},
    )
    yield GaugeMetricFamily(
        "hashroute_routers_following",
        "Routers that follow this voter.",
        value=len(voter["routers"]),
    )
    yield GaugeMetricFamily(
        "hashroute_routers_stale",
        "How many of them are behind its record.",
        value=voter["stale_routers"],
    )


def _of_the_member(member: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "hashroute_lease_held", "1 if the member holds its lease.", value=member["holds_lease"]
    )
    gauges = (
        ("lease_age_ms", "hashroute_lease_age_seconds", "Since when it is held without a gap."),
        ("lease_margin_ms", "hashroute_lease_margin_seconds", "How much of the lease is left."),
        (
            "lease_margin_least_ms",
            "hashroute_lease_margin_least_seconds",
            "The least that was left at a renewal, over the last 1,000.",
        ),
    )
    for key, name, meaning in gauges:
        if member[key] is not None:
            yield GaugeMetricFamily(name, meaning, value=member[key] / 1000)
    yield _quantiles(
        "hashroute_renewal_duration_seconds",
        "How long a majority took to grant renewals: the last 1,000.",
        {"0.5": member["renewal_p50_ms"], "0.99": member["renewal_p99_ms"]},
    )
    yield CounterMetricFamily(
        "hashroute_elections", "Records that this member got chosen.", value=member["elections"]
    )
    yield CounterMetricFamily(
        "hashroute_writes_admitted", "Writes that its guard admitted.", value=member["admitted"]
    )
    yield GaugeMetricFamily(
        "hashroute_writes_under_way", "Of these, not ended yet.", value=member["under_way"]
    )
    yield _by_reason(
        "hashroute_writes_refused", "Writes that its guard refused.", member["refused"]
    )


def _of_the_machine(node: Figures) -> Iterator[Metric]:
    stalls = node["stalls"]
    gauges = (
        ("worst_ms", "hashroute_stall_worst_seconds", "The longest stall since the start."),
        ("p99_ms", "hashroute_stall_p99_seconds", "The slowest hundredth of the wake-ups."),
        ("budget_ms", "hashroute_stall_budget_seconds", "The longest that ends no lease."),
    )
    for key, name, meaning in gauges:
        yield GaugeMetricFamily(name, meaning, value=stalls[key] / 1000)
    yield GaugeMetricFamily(
        "hashroute_lease_thread_is_realtime",
        "1 if the thread that keeps the lease has real-time priority.",
        value=stalls["is_realtime"],
    )


def _quantiles(name: str, meaning: str, milliseconds: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(name, meaning, labels=("quantile",))
    for quantile, value in milliseconds.items():
        gauge.add_metric((quantile,), value / 1000)
    return gauge


def _by_reason(name: str, meaning: str, counts: Mapping[str, int]) -> Metric:
    counter = CounterMetricFamily(name, meaning, labels=("reason",))
    for reason, count in counts.items():
        counter.add_metric((reason,), count)
    return counter
