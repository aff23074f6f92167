"""The tables of a run in words: the terminal and the report show the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashroute.demo.records import Kind, Transport

if TYPE_CHECKING:
    from hashroute.demo.facts import AddedLatency, EventFacts, Facts, PodFacts

NOTHING = "-"

EVENT_WORDS = {
    Kind.KILL: "kill -9",
    Kind.RESTART: "restart",
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
        columns: Their headings, broken where a narrow terminal needs it; those after `labels` hold
            numbers.
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
    late = (
        "On time after: from the event until no answer for that pod's keys was late, which is over "
        f"{milliseconds(facts.late_seconds)} net of machine stalls; “at once” if none was. "
        "Back after: until the pod's first answer once it could serve."
    )
    moved = (
        "Killing or freezing a pod leaves the ring as it is: exactly its own slots fall through to "
        "their next preference."
    )
    return Table(
        title="What happened, and what it cost",
        columns=(
            "at",
            "event",
            "slots moved\n/ least",
            "failed",
            "retried",
            "on time\nafter",
            "back\nafter",
        ),
        labels=2,
        rows=tuple(_event_row(event) for event in facts.events),
        notes=(late, moved),
    )


def pods_table(facts: Facts) -> Table:
    """Returns the part that each pod had."""
    note = (
        "Keys: the share of the slots. A few symbols draw most requests, so equal shares of keys "
        "are not equal shares of requests. By volume: what its keys should draw by traded volume, "
        "had no pod dropped."
    )
    return Table(
        title="Each pod's share",
        columns=(
            "pod",
            "rack",
            "keys at start",
            "keys at end",
            "requests",
            "share",
            "by volume",
        ),
        labels=2,
        rows=tuple(_pod_row(pod) for pod in facts.pods),
        notes=(note,),
    )


def added_table(facts: Facts) -> Table:
    """Returns what the sidecar adds to a request."""
    note = (
        "Half of the requests went straight to the pod that owns their key, in between and from "
        "the same clients. All ends are Python, on a machine shared with everything else here."
    )
    return Table(
        title="Latency, p50 / p99",
        columns=("transport", "direct", "by the sidecar", "added", "requests"),
        labels=1,
        rows=tuple(_added_row(added) for added in facts.added),
        notes=(note,),
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


def transport_name(transport: Transport) -> str:
    """Returns how people write `transport`."""
    return {Transport.GRPC: "gRPC", Transport.ZMQ: "ZeroMQ"}[transport]


def recovery(event: EventFacts) -> str:
    """Returns the time until no request was late, in words."""
    return milliseconds(event.recovery_seconds) if event.recovery_seconds else "at once"


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
        transport_name(added.transport),
        _pair(added.direct.p50, added.direct.p99),
        _pair(added.sidecar.p50, added.sidecar.p99),
        _pair(added.p50, added.p99, sign="+"),
        f"{added.direct.count:,} + {added.sidecar.count:,}",
    )


def _share(fraction: float) -> str:
    return f"{fraction:.1%}" if fraction else NOTHING


def _pair(p50: float, p99: float, *, sign: str = "") -> str:
    if math.isnan(p50):
        return NOTHING
    return f"{p50 * 1e3:{sign}.2f} / {p99 * 1e3:{sign}.2f} ms"
