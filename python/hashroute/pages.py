"""The admin pages by path, apart from HTTP: liveness, readiness, metrics, the ring, a live page."""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Protocol

from prometheus_client.exposition import choose_encoder

from hashroute.config import TRANSPORTS
from hashroute.metrics import registry_of, registry_of_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from hashroute.control import Controller

__all__ = ["HTML", "TEXT", "Answer", "Pages", "SidecarPages", "VoterPages"]

LOOP_AGE_MS_MAX: Final = 1_000
"""A native loop that has not turned for so long is stuck: it turns ten times a second when idle."""

HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

NOT_FOUNDED: Final = "the cluster is not founded yet, or cannot be reached: `hashroute quorum init`"
SILENT: Final = "the thread that keeps the lease does not answer"


class Answer:
    """What one path answers."""

    def __init__(self, status: HTTPStatus, content_type: str, body: bytes | str) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body.encode() if isinstance(body, str) else body


_Functions = dict[str, "Callable[[], Answer]"]


class Pages(Protocol):
    """What a process shows."""

    def get(self, path: str, accept: str) -> Answer:
        """Returns the answer to GET ``path`` for a caller that accepts ``accept``."""


class HostedNode(Protocol):
    """A node of the quorum that runs alone, as far as it is shown."""

    @property
    def is_stopping(self) -> bool:
        """Whether it is on its way out."""

    def snapshot(self) -> dict[str, Any]:
        """Returns the figures of the node at this moment."""

    def status(self) -> dict[str, Any]:
        """Returns the same as ``quorum``, and what the host knows."""


class _ByPath:
    """Pages by their exact path."""

    def __init__(self, by_path: _Functions, registry: CollectorRegistry) -> None:
        self._by_path = by_path
        self._registry = registry
        self._paths = ", ".join(sorted({*by_path, "/metrics"}))

    def get(self, path: str, accept: str) -> Answer:
        """Returns the answer to GET ``path`` for a caller that accepts ``accept``."""
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return Answer(HTTPStatus.OK, content_type, encode(self._registry))
        page = self._by_path.get(path)
        if page is None:
            known = f"no such page; there are {self._paths}\n"
            return Answer(HTTPStatus.NOT_FOUND, TEXT, known)
        return page()


class SidecarPages(_ByPath):
    """The pages of a sidecar."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        pages: _Functions = {
            "/": _index,
            "/livez": self._livez,
            "/readyz": lambda: self._readyz(with_writes=True),
            "/readyz/reads": lambda: self._readyz(with_writes=False),
            "/ring": self._ring,
            "/status": lambda: _json(controller.status()),
        }
        super().__init__(pages, registry_of(controller.status))

    def _livez(self) -> Answer:
        snapshot = self._controller.snapshot()
        stuck = [
            f"{name} has not turned for {age} ms"
            for name, age in snapshot["loop_age_ms"].items()
            if age > LOOP_AGE_MS_MAX
        ]
        node = snapshot.get("quorum")
        return _verdict("live", [*stuck, SILENT] if node and _is_silent(node) else stuck)

    def _readyz(self, *, with_writes: bool) -> Answer:
        if self._controller.is_stopping:
            return _verdict("ready", ["the sidecar is stopping"])
        snapshot = self._controller.snapshot()
        reasons = [
            f"no pod is up for {transport}"
            for transport in TRANSPORTS
            if transport in self._controller.listening
            and not any(_takes_requests(pod, transport) for pod in snapshot["pods"])
        ]
        node = snapshot.get("quorum")
        if node is None or not with_writes:
            return _verdict("ready", reasons)
        without_writes = _no_writes(node)
        facts = {
            "reads": not reasons,
            "writes": not without_writes,
            "recovery_promise_ms": node["recovery_promise_ms"],
        }
        return _verdict("ready", reasons + without_writes, facts)

    def _ring(self) -> Answer:
        view = self._controller.view()
        return _json({"view": view.document, "digest": view.digest, "shares": view.shares()})


class VoterPages(_ByPath):
    """The pages of a voter that runs alone."""

    def __init__(self, voter: HostedNode) -> None:
        self._voter = voter
        pages: _Functions = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/status": lambda: _json(voter.status()),
        }
        super().__init__(pages, registry_of_node(voter.status))

    def _livez(self) -> Answer:
        return _verdict("live", [SILENT] if _is_silent(self._voter.snapshot()) else [])

    def _readyz(self) -> Answer:
        if self._voter.is_stopping:
            return _verdict("ready", ["the voter is stopping"])
        node = self._voter.snapshot()
        reasons: list[str] = []
        if node["record"] is None:
            reasons.append(SILENT if _is_silent(node) else NOT_FOUNDED)
        elif node["is_stale"]:
            reasons.append("no majority of voters is heard")
        elif node["voter"] is None or not node["voter"]["is_voter"]:
            reasons.append("the record does not name this voter: `hashroute quorum replace-voter`")
        return _verdict("ready", reasons, {"recovery_promise_ms": node["recovery_promise_ms"]})


def _no_writes(node: dict[str, Any]) -> list[str]:
    """Why writes are not served here; empty if they are."""
    if node["record"] is None:
        return [SILENT if _is_silent(node) else NOT_FOUNDED]
    member = node["member"]
    if member is not None and not member["holds_lease"]:
        return [f"{member['pod']} holds no lease: its writes are refused, reads go on"]
    if node["is_stale"]:
        return ["no majority of voters is heard: reads go on, marked stale"]
    return []


def _is_silent(node: dict[str, Any]) -> bool:
    """Whether the figures are those that a node shows when its thread does not answer."""
    return node["record"] is None and node["epoch"] > 0


def _takes_requests(pod: dict[str, Any], transport: str) -> bool:
    health = pod["health_by_transport"].get(transport)
    return pod["state"] in {"active", "joining"} and health not in {None, "down"}


def _verdict(name: str, reasons: list[str], facts: dict[str, Any] | None = None) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return _json({name: not reasons, "reasons": reasons, **(facts or {})}, status)


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, JSON, json.dumps(value) + "\n")


@cache
def _index() -> Answer:
    text = files("hashroute").joinpath("admin.html").read_text(encoding="utf-8")
    return Answer(HTTPStatus.OK, HTML, text)
