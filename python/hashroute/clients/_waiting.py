"""Who waits, and for what: a pod's answer, a moment, another record.

Nobody waits for a pod that was found down, nor longer than for the record that he needs.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from hashroute.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from hashroute.router import Router

_log = logging.getLogger(__name__)

# How often the thread looks whether its client is still there. Changes wake it at once.
PATIENCE_SECONDS = 0.5


class Waiter(Protocol):
    """An attempt that waits for its pod."""

    def looked(self, down: AbstractSet[str]) -> bool:
        """Hears, on another thread, that something changed, and which pods are down.

        Returns whether it need not hear of anything more.
        """


class Pause:
    """Something that goes on at a time, or when a record of some epoch comes.

    ``due`` is on the clock of ``time.monotonic``.
    """

    def __init__(self, due: float, record: int | None, resume: Callable[[], None]) -> None:
        self.due = due
        self.record = record
        self._resume = resume
        self._lock = threading.Lock()
        self._is_over = False

    def end(self) -> bool:
        """Ends the pause without its resumption; returns False if it has ended already."""
        with self._lock:
            was_over, self._is_over = self._is_over, True
        return not was_over

    def resume(self) -> None:
        """Ends the pause, and goes on; does nothing the second time."""
        if self.end():
            self._resume()


class Waiting:
    """The requests of one client that wait, told when there is something to tell.

    One thread for all of them; it starts with the first, and ends with the client.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiters: set[Waiter] = set()
        self._pauses: list[tuple[float, int, Pause]] = []
        self._numbers = itertools.count()
        self._listeners: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def add(self, waiter: Waiter) -> None:
        """Tells ``waiter`` of what changes from now on."""
        with self._lock:
            self._waiters.add(waiter)
            self._start()

    def discard(self, waiter: Waiter) -> None:
        """Forgets ``waiter``."""
        with self._lock:
            self._waiters.discard(waiter)

    def pause(self, pause: Pause) -> None:
        """Resumes ``pause``, on another thread, when its time or its record has come.

        Raises:
            ClosedError: the client was closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise ClosedError("the client was closed before the request was sent again")
            first = self._pauses[0][0] if self._pauses else None
            heapq.heappush(self._pauses, (pause.due, next(self._numbers), pause))
            self._start()
        if first is None or pause.due < first or self._has_come(pause):
            # The thread may sleep for longer than this pause is.
            self._router.nudge()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` when something changes, and now and then."""
        with self._lock:
            self._listeners.add(listener)
            self._start()

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Forgets ``listener``."""
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """Ends the thread, within its patience; every pause ends now."""
        self._closed.set()
        with self._lock:
            pauses, self._pauses = self._pauses, []
        for _, _, pause in pauses:
            pause.resume()

    @property
    def patience_seconds(self) -> float:
        """For how long the thread may sleep."""
        with self._lock:
            due = self._pauses[0][0] if self._pauses else None
        return PATIENCE_SECONDS if due is None else _until(due)

    def tell(self) -> None:
        """Tells everybody what he waits for."""
        down = {pod.pod for pod in self._router.status().pods if pod.health == "down"}
        with self._lock:
            waiters = tuple(self._waiters)
            listeners = tuple(self._listeners)
        for waiter in waiters:
            with _reported():
                if waiter.looked(down):
                    self.discard(waiter)
        for pause in self._due():
            with _reported():
                pause.resume()
        for listener in listeners:
            with _reported():
                listener()

    def _due(self) -> list[Pause]:
        """Takes out the pauses whose time or record has come."""
        now = time.monotonic()
        due: list[Pause] = []
        with self._lock:
            kept = []
            for entry in self._pauses:
                if entry[0] <= now or self._has_come(entry[2]):
                    due.append(entry[2])
                else:
                    kept.append(entry)
            heapq.heapify(kept)
            self._pauses = kept
        return due

    def _has_come(self, pause: Pause) -> bool:
        record = self._router.record_epoch
        return pause.record is not None and record is not None and record >= pause.record

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=_watch,
                args=(weakref.ref(self), self._router, self._closed),
                name="hashroute-waiting",
                daemon=True,
            )
            self._thread.start()


def _watch(client: weakref.ref[Waiting], router: Router, closed: threading.Event) -> None:
    seen, patience = 0, 0.0
    while not closed.is_set():
        seen = router.wait_for_change(seen, patience)
        waiting = client()
        if waiting is None:
            return
        # Also without a change: an attempt may have been added just after one was told.
        waiting.tell()
        patience = waiting.patience_seconds
        # While this thread waits it must not be what keeps its client alive.
        del waiting


@contextmanager
def _reported() -> Iterator[None]:
    """Reports what goes wrong for one who waits: the others have to be told all the same."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is, it is of this one alone
        _log.exception("a defect in hashroute: please report it with this trace")


def _until(due: float) -> float:
    return min(PATIENCE_SECONDS, max(0.0, due - time.monotonic()))
