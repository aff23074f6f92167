"""ZeroMQ writes that are at no pod, or wait for an answer no longer than this."""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from hashroute._hashroute import Wait
    from hashroute.router import Router


class Pausing(Protocol):
    """What the pauses know of a write."""

    pause: tuple[float, int, int | None] | None
    """When it ends, its number, and the epoch at which it ends sooner."""


P = TypeVar("P", bound=Pausing)


class Pauses(Generic[P]):
    """The pauses of an engine's writes, by the time at which they end. Used by one thread."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._numbers = itertools.count()
        self._heap: list[tuple[float, int, P]] = []
        self._seen: int | None = None

    def add(self, pending: P, wait: Wait) -> None:
        """Lets a write wait, in place of what it waited for before."""
        if wait.seconds is None:
            pending.pause = None
            return
        due, number = time.monotonic() + wait.seconds, next(self._numbers)
        pending.pause = (due, number, wait.record)
        heapq.heappush(self._heap, (due, number, pending))
        # Its record may have come between the decision to wait for it and this.
        self._seen = None

    def first_due(self) -> float | None:
        """When the next pause ends; None if there is none."""
        while self._heap and not _is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ended(self, now: float) -> list[P]:
        """Takes out the writes whose time, or whose record, has come."""
        record = self._router.record_epoch
        ended: list[P] = []
        if record != self._seen:
            self._seen = record
            ended += [
                entry[2] for entry in self._heap if _is_current(entry) and _has(entry, record)
            ]
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if _is_current(entry) and entry[2] not in ended:
                ended.append(entry[2])
        for pending in ended:
            pending.pause = None
        return ended


def _is_current(entry: tuple[float, int, Pausing]) -> bool:
    pause = entry[2].pause
    return pause is not None and pause[1] == entry[1]


def _has(entry: tuple[float, int, Pausing], record: int | None) -> bool:
    pause = entry[2].pause
    wanted = None if pause is None else pause[2]
    return wanted is not None and record is not None and record >= wanted
