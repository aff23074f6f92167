"""The tables of a run in words: the terminal and the report show the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashroute.demo.records import Kind

if TYPE_CHECKING:
    from hashroute.demo.facts import AddedLatency, EventFacts, Facts, PodFacts

NOTHING = "-"

EVENT_WORDS = {
    Kind.KILL: "kill -9",
    Kind.RESTART: "start again",
    Kind.FREEZE: "freeze",
    Kind.RESUME: "resume",
    Kind.DRAIN: "drain",
    Kind.ADD: "add",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        title: What it shows.
        columns: Their headings; those after `labels` hold numbers.
        labels: How many columns, from the left, hold words.
        rows: The cells, as shown.
        notes: What a reader needs to know to read it.
    """

    title: str
    columns: tuple[str, ...]
    labels: int
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables(facts: Facts) -> tuple[Table, ...]:
    """Returns the tables of `facts`, in the order in which they are read."""
    return (events_table(facts), pods_table(facts), added_table(facts))


def events_table(facts: Facts) -> Table:
    """Returns what each event did."""
    return Table(
        title="What happened, and what it cost",
        columns=(
            "at",
            "event",
            "slots moved / least",
            "failed",
            "retried",
            "none late after",
            "serves again after",
        ),
        labels=2,
        rows=tuple(_event_row(event) for event in facts.events),
        notes=(
            (
                f"Late is over {milliseconds(facts.late_seconds)} net of machine stalls. “None "
                "late after” counts from "
                "the event to the last late answer for the keys of that pod; “none” means that no "
                "answer was late."
            ),
            (
                "Killing or freezing a pod leaves the ring as it is: exactly its own slots fall "
                "through to their "
                "next preference."
            ),
        ),
    )


def pods_table(facts: Facts) -> Table:
    """Returns the part that each pod had."""
    return Table(
        title="Each pod's share",
        columns=(
            "pod",
            "rack",
            "keys at start",
            "keys at end",
            "requests",
            "of all requests",
            "expected by volume",
        ),
        labels=2,
        rows=tuple(_pod_row(pod) for pod in facts.pods),
        notes=(
            (
                "Keys are the share of the 65,536 slots. A few symbols draw most requests, so "
                "equal shares of keys are "
                "not equal shares of requests; expected is what the slots' symbols draw by traded "
                "volume, had no pod "
                "dropped."
            ),
        ),
    )


def added_table(facts: Facts) -> Table:
    """Returns what the sidecar adds to a request."""
    return Table(
        title="Latency: direct, and through the sidecar",
        columns=(
            "transport",
            "direct p50",
            "direct p99",
            "sidecar p50",
            "sidecar p99",
            "added p50",
            "added p99",
            "requests",
        ),
        labels=1,
        rows=tuple(_added_row(added) for added in facts.added),
        notes=(
            (
                "The same model servers send every other request straight to the pod that owns its "
                "key, in the same "
                "seconds. These are the latencies of Python clients and Python pods on a busy "
                "machine."
            ),
        ),
    )


def headline(facts: Facts) -> str:
    """Returns the run in one sentence."""
    requests = facts.requests
    failed = sum(requests.failed.values())
    return (
        f"{requests.sent:,} requests, {failed:,} failed, {requests.retried:,} retried elsewhere, "
        f"through {len(facts.events)} events."
    )


def milliseconds(seconds: float) -> str:
    """Returns `seconds` as milliseconds, to three digits or so."""
    if math.isnan(seconds):
        return NOTHING
    value = seconds * 1e3
    return f"{value:.0f} ms" if abs(value) >= 20 else f"{value:.2f} ms"


def recovery(event: EventFacts) -> str:
    """Returns the time until no request was late, in words."""
    return milliseconds(event.recovery_seconds) if event.recovery_seconds else "none"


def _event_row(facts: EventFacts) -> tuple[str, ...]:
    event = facts.event
    return (
        f"{event.at:.1f} s",
        f"{EVENT_WORDS[event.kind]} {event.pod}",
        f"{facts.moved_slots:,} / {facts.least_slots:,}",
        f"{facts.failed:,}",
        f"{facts.retried:,}",
        recovery(facts),
        NOTHING if facts.back_seconds is None else milliseconds(facts.back_seconds),
    )


def _pod_row(facts: PodFacts) -> tuple[str, ...]:
    return (
        facts.pod,
        facts.rack,
        _share(facts.slot_share_start),
        _share(facts.slot_share_end),
        f"{facts.requests:,}",
        _share(facts.request_share),
        _share(facts.expected_share),
    )


def _added_row(added: AddedLatency) -> tuple[str, ...]:
    return (
        "gRPC" if added.transport == "grpc" else "ZeroMQ",
        milliseconds(added.direct.p50),
        milliseconds(added.direct.p99),
        milliseconds(added.sidecar.p50),
        milliseconds(added.sidecar.p99),
        _signed(added.p50),
        _signed(added.p99),
        f"{added.direct.count:,} + {added.sidecar.count:,}",
    )


def _share(fraction: float) -> str:
    return f"{fraction:.1%}" if fraction else NOTHING


def _signed(seconds: float) -> str:
    return NOTHING if math.isnan(seconds) else f"{seconds * 1e3:+.2f} ms"
