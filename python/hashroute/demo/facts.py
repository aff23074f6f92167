"""What the demo says about a run, as plain values that report, tables and `--json` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashroute.demo.records import Event, Transport


@dataclass(frozen=True, slots=True)
class Latency:
    """The latencies of one group of good answers, in seconds; NaN where there is none."""

    count: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class AddedLatency:
    """What the sidecar adds on one transport, against requests sent directly in between."""

    transport: Transport
    direct: Latency
    sidecar: Latency

    @property
    def p50(self) -> float:
        """The difference of the medians, in seconds."""
        return self.sidecar.p50 - self.direct.p50

    @property
    def p99(self) -> float:
        """The difference of the 99th percentiles, in seconds."""
        return self.sidecar.p99 - self.direct.p99


@dataclass(frozen=True, slots=True)
class PodFacts:
    """One pod's part in the run.

    Attributes:
        pod: Its id.
        rack: Its zone.
        slot_share_start: Its share of the slots in the first ring, 0 to 1.
        slot_share_end: Its share in the last ring.
        requests: Good answers it gave through the sidecar.
        request_share: Its share of all good answers through the sidecar.
        expected_share: The share of requests that its slots should draw by traded volume, mean over
            the rings in force; differs from the share of slots because a few symbols draw most
            requests.
    """

    pod: str
    rack: str
    slot_share_start: float
    slot_share_end: float
    requests: int
    request_share: float
    expected_share: float


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What one event did, counted until the next one.

    Attributes:
        event: The event.
        moved_slots: The slots that changed hands.
        least_slots: The fewest that the change allowed.
        requests: Requests that were to be sent in that time.
        failed: Those that ended in an error.
        retried: Tries that the sidecar repeated elsewhere.
        late: Requests, of any key, that were late.
        late_after_done: Late requests of the event's episode that were sent after it was done.
        recovery_seconds: From the event until no request of the keys it touched was late; 0 if none
            was.
        stall_seconds: How much of that time the machine did not run programs that asked to be.
        back_seconds: From the end of the event until the pod's first own answer; None where it does
            not apply.
    """

    event: Event
    moved_slots: int
    least_slots: int
    requests: int
    failed: int
    retried: int
    late: int
    late_after_done: int
    recovery_seconds: float
    stall_seconds: float
    back_seconds: float | None

    @property
    def moved_to_least(self) -> float:
        """Slots moved against the least possible; 1.0 is perfect."""
        return self.moved_slots / self.least_slots if self.least_slots else 1.0


@dataclass(frozen=True, slots=True)
class Requests:
    """All requests of the run, counted.

    Attributes:
        sent: By the clients' own count.
        answered: Good answers.
        failed: Errors, by code.
        unmatched: Replies that no request was waiting for.
        retried: Tries that the sidecar repeated elsewhere.
        detours: Requests that by the sidecar's own account may have been answered by another than
            their owner: its retries, failovers and spills.
    """

    sent: int
    answered: int
    failed: Mapping[str, int]
    unmatched: int
    retried: int
    detours: int


@dataclass(frozen=True, slots=True)
class Stalls:
    """What the machine took away during the run, as seen by tickers bound to its processors."""

    count: int
    longest_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the demo says about a run, apart from the verdicts."""

    duration_seconds: float
    rate: float
    requests: Requests
    late_seconds: float
    pods: tuple[PodFacts, ...]
    events: tuple[EventFacts, ...]
    added: tuple[AddedLatency, ...]
    stalls: Stalls
