"""Who waits for an answer, and where: so that nobody waits for a pod that was found down."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashroute.router import Router

# How often the thread looks whether its client is still there. Falls wake it at once.
PATIENCE_SECONDS = 0.5


class Waiter(Protocol):
    """An attempt that waits for its pod."""

    pod: str

    def pod_fell(self) -> None:
        """Hears, from another thread and at most once, that the pod was found down."""


class Waiting:
    """The attempts of one client that wait for their pods, told when their pod falls.

    One thread for all of them; it starts with the first attempt, and ends with the client.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiters: set[Waiter] = set()
        self._listeners: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def add(self, waiter: Waiter) -> None:
        """Tells ``waiter`` if its pod falls from now on."""
        with self._lock:
            self._waiters.add(waiter)
            self._start()

    def discard(self, waiter: Waiter) -> None:
        """Forgets ``waiter``."""
        with self._lock:
            self._waiters.discard(waiter)

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` when a pod falls, and now and then."""
        with self._lock:
            self._listeners.add(listener)
            self._start()

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Forgets ``listener``."""
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """Ends the thread, within its patience."""
        self._closed.set()

    def tell(self) -> None:
        """Tells those whose pod is down, and forgets them."""
        down = {pod.pod for pod in self._router.status().pods if pod.health == "down"}
        with self._lock:
            fallen = {waiter for waiter in self._waiters if waiter.pod in down}
            self._waiters -= fallen
            listeners = tuple(self._listeners)
        for waiter in fallen:
            waiter.pod_fell()
        for listener in listeners:
            listener()

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
    seen = 0
    while not closed.is_set():
        seen = router.wait_for_change(seen, PATIENCE_SECONDS)
        waiting = client()
        if waiting is None:
            return
        # Also without a fall: an attempt may have been added just after one was told.
        waiting.tell()
        # While this thread waits it must not be what keeps its client alive.
        del waiting
