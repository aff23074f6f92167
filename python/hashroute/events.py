"""What happens, written to the log once when it begins and once when it ends.

The native parts keep figures; this looks at them ten times a second and says what changed.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from hashroute.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EventLog", "HealthEvents", "QuorumEvents"]

_LOOK_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)

Snapshot = dict[str, Any]


class Events(Protocol):
    """One kind of events."""

    def see(self, snapshot: Snapshot) -> None:
        """Writes to the log what is another than at the last look."""


class EventLog:
    """Looks at figures in a thread of its own, from entering to leaving.

    Args:
        look: returns the figures, or raises ClosedError when there are no more.
        events: what to look for in them.

    """

    def __init__(self, look: Callable[[], Snapshot], *events: Events) -> None:
        self._look, self._events = look, events
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hr-event-log", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            try:
                snapshot = self._look()
            except ClosedError:  # it stopped between the question and the answer
                return
            for events in self._events:
                events.see(snapshot)


class HealthEvents:
    """Pods that go down and come back."""

    def __init__(self) -> None:
        self._is_down: dict[tuple[str, str], bool] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Writes to the log which pods went down or came back since the last look."""
        pods: list[dict[str, Any]] = snapshot["pods"]
        now = {
            (pod["id"], transport): health == "down"
            for pod in pods
            for transport, health in pod["health_by_transport"].items()
        }
        reasons = {pod["id"]: pod["last_down_reason"] for pod in pods}
        for (pod_id, transport), down in now.items():
            if down == self._is_down.get((pod_id, transport), False):
                continue
            facts = {"pod": pod_id, "transport": transport}
            if down:
                _log.warning("pod down", extra={"facts": facts | {"reason": reasons[pod_id]}})
            else:
                _log.info("pod up", extra={"facts": facts})
        self._is_down = now


class QuorumEvents:
    """Records, writers, the own lease, and trouble that is coming.

    Args:
        of: takes the figures of the node out of a snapshot; None if there is no node.

    """

    def __init__(self, of: Callable[[Snapshot], Snapshot | None]) -> None:
        self._of = of
        self._epoch = 0
        self._writers: dict[str, tuple[str, str]] = {}
        self._leaders: dict[str, tuple[str | None, int]] = {}
        self._is_stale = False
        self._holds_lease = False
        self._warnings: dict[str, str] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Writes to the log what changed since the last look."""
        node = self._of(snapshot)
        if node is None:
            return
        record = node["record"]
        if record is not None and record["epoch"] != self._epoch:
            self._record(record)
        self._stale(is_stale=node["is_stale"], epoch=node["epoch"])
        if node["member"] is not None:
            self._lease(node["member"])
        self._warned(node["warnings"])

    def _record(self, record: dict[str, Any]) -> None:
        self._epoch = record["epoch"]
        pods = {pod["id"]: pod["state"] for pod in record["view"]["pods"]}
        digest = record["digest"] or "none"
        facts = {"epoch": self._epoch, "digest": digest, "voters": len(record["voters"])}
        _log.info("record", extra={"facts": facts})
        now = {pod: (process, pods.get(pod, "gone")) for pod, process in record["writers"].items()}
        for pod in sorted({*now, *self._writers}):
            if now.get(pod) == self._writers.get(pod):
                continue
            process, state = now.get(pod) or (self._writers[pod][0], pods.get(pod, "removed"))
            facts = {"pod": pod, "state": state, "process": process, "epoch": self._epoch}
            _log.info("writer" if pod in now else "writer gone", extra={"facts": facts})
        self._writers = now
        for group in record["groups"]:
            leader = (group["leader"], group["term"])
            if leader != self._leaders.get(group["name"]):
                facts = {"group": group["name"], "leader": leader[0] or "none", "term": leader[1]}
                _log.info("leader", extra={"facts": facts})
            self._leaders[group["name"]] = leader

    def _stale(self, *, is_stale: bool, epoch: int) -> None:
        if is_stale == self._is_stale:
            return
        self._is_stale = is_stale
        if is_stale:
            reason = "no majority of voters is heard: reads are marked stale"
            _log.warning("stale", extra={"facts": {"epoch": epoch, "reason": reason}})
        else:
            _log.info("stale no more", extra={"facts": {"epoch": epoch}})

    def _lease(self, member: dict[str, Any]) -> None:
        if member["holds_lease"] == self._holds_lease:
            return
        self._holds_lease = member["holds_lease"]
        facts = {"pod": member["pod"], "process": member["incarnation"]}
        if self._holds_lease:
            _log.info("lease held", extra={"facts": facts})
        else:
            reason = "no majority of voters renews it: this pod writes nothing"
            _log.warning("lease lost", extra={"facts": facts | {"reason": reason}})

    def _warned(self, warnings: list[str]) -> None:
        # The figures in a sentence change from look to look; it is the same trouble all the same.
        now = {re.sub(r"[0-9.]+", "#", text): text for text in warnings}
        for trouble, text in now.items():
            if trouble not in self._warnings:
                _log.warning("trouble", extra={"facts": {"begins": text}})
        for trouble, text in self._warnings.items():
            if trouble not in now:
                _log.info("trouble over", extra={"facts": {"was": text}})
        self._warnings = now
