"""The host of a voter that runs alone: the witness of a cluster whose pods run elsewhere."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from hashroute import _hashroute, hosting
from hashroute._release import release
from hashroute.admin import AdminServer
from hashroute.config import load, node_settings_of
from hashroute.config.quorum import ETCD
from hashroute.errors import ClosedError, HashrouteError, StartError
from hashroute.events import EventLog, QuorumEvents
from hashroute.pages import VoterPages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from hashroute.config import Loaded

__all__ = ["NativeNode", "Voter", "run"]

_log = logging.getLogger(__name__)


class NativeNode(Protocol):
    """A native node, as far as a voter needs it."""

    @property
    def address(self) -> str | None:
        """Where it really listens."""

    def snapshot(self) -> str:
        """Returns all figures at this moment as JSON."""

    def stop(self, grace_seconds: float) -> bool:
        """Stops in good order; returns whether all ended within the grace."""


class Voter:
    """A running voter. All methods may be called from any thread.

    Args:
        loaded: the configuration; it has ``quorum.listen`` and no ``quorum.pod``.
        start: starts the native node with settings as JSON.

    Raises:
        StartError: the configuration is not a voter's, or the node cannot start.
    """

    def __init__(self, loaded: Loaded, start: Callable[[str], NativeNode]) -> None:
        quorum = loaded.configuration.quorum
        if quorum is not None and quorum.engine == ETCD and not quorum.voters:
            raise StartError(
                f'{loaded.file}: with quorum.engine = "etcd" and no quorum.voters etcd alone '
                "votes: there is no witness to run; give etcd a third member, or name voters that "
                "grant the leases"
            )
        if quorum is None or quorum.listen is None:
            raise StartError(
                f"{loaded.file}: a voter needs a table [quorum] with listen and data; "
                "`hashroute check` explains them"
            )
        if quorum.pod is not None:
            raise StartError(
                f"{loaded.file}: quorum.pod is {quorum.pod!r}, and a voter alone writes nothing: "
                "take quorum.pod out, or run `hashroute proxy`, which votes too"
            )
        self._started_seconds = time.monotonic()
        self._node = start(json.dumps(node_settings_of(loaded)))
        self._listening = {"quorum": self._node.address or str(quorum.listen)}
        self.is_stopping = False
        """Whether it is on its way out."""

    @property
    def listening(self) -> Mapping[str, str]:
        """The addresses that are listened on: quorum, admin."""
        return self._listening

    def listens(self, name: str, address: str) -> None:
        """Notes an address that the host itself listens on."""
        self._listening = {**self._listening, name: address}

    def snapshot(self) -> dict[str, Any]:
        """Returns the figures of the node at this moment."""
        snapshot: dict[str, Any] = json.loads(self._node.snapshot())
        return snapshot

    def status(self) -> dict[str, Any]:
        """Returns the snapshot as ``quorum``, and what the host knows: addresses, uptime."""
        return {
            "quorum": self.snapshot(),
            "listen": dict(self._listening),
            "uptime_seconds": time.monotonic() - self._started_seconds,
            "version": release(),
        }

    def stop(self, grace_seconds: float) -> bool:
        """Stops; returns whether what was under way ended within the grace."""
        self.is_stopping = True
        return self._node.stop(grace_seconds)

    def close(self) -> None:
        """Stops at once, unless it was stopped before."""
        if not self.is_stopping:
            self.stop(0.0)


def run(file: Path, *, ready_fd: int | None = None, ready_file: Path | None = None) -> int:
    """Runs a voter until it is told to stop, and returns the exit code, as the sidecar's host does.

    SIGHUP is noted and does nothing: a voter has nothing that may change while it runs.
    """
    signals = hosting.Signals()
    with ExitStack() as servers:
        try:
            loaded = load(file)
            voter = _start(loaded, servers)
            hosting.tell(voter.listening, ready_fd, ready_file)
        except (HashrouteError, OSError) as error:
            return hosting.not_started(error)
        servers.enter_context(EventLog(lambda: _figures(voter), QuorumEvents(lambda node: node)))
        return _serve(voter, signals, loaded)


def _start(loaded: Loaded, servers: ExitStack) -> Voter:
    for finding in loaded.warnings:
        _log.warning(
            "configuration", extra={"facts": {"finding": finding.render(str(loaded.file))}}
        )
    voter = Voter(loaded, _hashroute.Node)
    servers.callback(voter.close)
    listen = loaded.configuration.listen
    if listen.admin is not None:
        admin = AdminServer(VoterPages(voter), str(listen.admin))
        servers.callback(admin.stop)
        voter.listens("admin", admin.address)
    node = voter.snapshot()
    facts = {"cluster": node["cluster"], "epoch": node["epoch"], "pid": os.getpid()}
    if node["voter"] is not None:
        facts["voter"] = node["voter"]["id"]
    _log.info("ready", extra={"facts": {**voter.listening, **facts}})
    return voter


def _figures(voter: Voter) -> dict[str, Any]:
    if voter.is_stopping:
        raise ClosedError("the voter is stopping")
    return voter.snapshot()


def _serve(voter: Voter, signals: hosting.Signals, loaded: Loaded) -> int:
    grace_seconds = loaded.configuration.limits.shutdown_grace.total_seconds()
    while True:
        number = signals.next()
        if number == signal.SIGHUP:
            reason = "a voter has nothing that may change while it runs; restart it instead"
            _log.warning("not reloaded", extra={"facts": {"reason": reason}})
        elif number is not None:
            return hosting.stop(voter.stop, signals, number, grace_seconds, what="under way")
