"""Collects what a run observes, as it happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hashroute.demo.records import (
    Answer,
    ClientTotals,
    Event,
    Path,
    Recording,
    RingInForce,
    Sample,
    Stall,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Recorder:
    """The growing record of one run.

    Args:
        start: The moment, on the monotonic clock, from which all times count.
    """

    def __init__(self, start: float) -> None:
        self.start = start
        self.answers: list[Answer] = []
        self.events: list[Event] = []
        self.rings: list[RingInForce] = []
        self.samples: list[Sample] = []
        self.stalls: list[Stall] = []
        self.compared: list[tuple[float, float]] = []
        self.totals: dict[str, ClientTotals] = {}

    def now(self) -> float:
        """Returns the seconds since the start; negative before it."""
        return time.monotonic() - self.start

    def answered(self, client: str, rows: Sequence[Sequence[Any]]) -> None:
        """Takes down a batch of answers as `demo.client` says them."""
        for intended, latency, transport, path, symbol, code, pod, named_pod in rows:
            self.answers.append(
                Answer(
                    intended_at=intended - self.start,
                    latency_seconds=latency,
                    client=client,
                    transport=Transport(transport),
                    path=Path(path),
                    symbol=symbol,
                    code=code,
                    pod=pod,
                    named_pod=named_pod,
                )
            )

    def stalled(self, cpu: int, due: float, late: float) -> None:
        """Takes down one stall as `demo.ticker` says it."""
        self.stalls.append(Stall(cpu=cpu, at=due - self.start, seconds=late))

    def recording(
        self,
        *,
        racks: Mapping[str, str],
        duration_seconds: float,
        warm_until: float,
        rate: float,
        health_timeout_seconds: float,
    ) -> Recording:
        """Returns the finished record, everything in order of time."""
        return Recording(
            racks=racks,
            duration_seconds=duration_seconds,
            warm_until=warm_until,
            compared=tuple(self.compared),
            rate=rate,
            answers=tuple(sorted(self.answers, key=lambda answer: answer.intended_at)),
            events=tuple(self.events),
            rings=tuple(self.rings),
            samples=tuple(self.samples),
            stalls=tuple(sorted(self.stalls, key=lambda stall: stall.at)),
            totals=dict(self.totals),
            health_timeout_seconds=health_timeout_seconds,
        )
