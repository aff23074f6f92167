"""The host of the native sidecar: starts it, serves control and admin, takes signals, stops it.

No request passes through here. The native threads carry the traffic; this process reads the
configuration, answers operators, and writes what happens to the log.
"""

from __future__ import annotations

import logging
import os
import signal
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hashroute import _hashroute, hosting
from hashroute.admin import AdminServer
from hashroute.config import load
from hashroute.control import Controller
from hashroute.control_service import ControlServer, log_reload
from hashroute.errors import ClosedError, FewSlotsWarning, HashrouteError, StartError
from hashroute.events import EventLog, HealthEvents, QuorumEvents
from hashroute.pages import SidecarPages

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.config import Loaded

__all__ = ["run"]

_log = logging.getLogger(__name__)


def run(file: Path, *, ready_fd: int | None = None, ready_file: Path | None = None) -> int:
    """Runs a sidecar until it is told to stop, and returns the exit code.

    When everything listens, the addresses are written as one JSON object to ``ready_fd``, which is
    then closed, and to ``ready_file``, which appears whole. SIGHUP reloads the configuration,
    SIGTERM and SIGINT stop; a second one of these stops at once.

    Returns:
        0 after a stop, 1 if a second signal cut it short, 2 if it could not start.

    """
    signals = hosting.Signals()
    # The check of the file says the same with its line.
    warnings.simplefilter("ignore", FewSlotsWarning)
    with ExitStack() as servers:
        try:
            loaded = load(file)
            controller = _start(loaded, servers)
            hosting.tell(controller.listening, ready_fd, ready_file)
        except (HashrouteError, OSError) as error:
            return hosting.not_started(error)
        servers.enter_context(EventLog(lambda: _figures(controller), HealthEvents(), _of_quorum()))
        return _serve(controller, signals)


def _start(loaded: Loaded, servers: ExitStack) -> Controller:
    for finding in loaded.warnings:
        _log.warning(
            "configuration", extra={"facts": {"finding": finding.render(str(loaded.file))}}
        )
    listen, guard = loaded.configuration.listen, loaded.configuration.guard
    if not any((listen.grpc, listen.zmq, guard.grpc, guard.zmq)):
        raise StartError(
            f"{loaded.file}: nothing to serve: neither grpc nor zmq listens. The file of a witness "
            "is for `hashroute voter`"
        )
    member = loaded.configuration.quorum.pod if loaded.configuration.quorum is not None else None
    if member is not None and not (guard.grpc or guard.zmq):
        raise StartError(
            f"{loaded.file}: this sidecar would hold the lease of {member}, and without a [guard] "
            "nothing would judge the writes that reach it: add [guard], or let the service itself "
            "be the member (hashroute.pod) and take quorum.pod out here"
        )
    controller = Controller(loaded, _hashroute.Sidecar)
    # If a server below cannot start, the data plane must not outlive the attempt.
    servers.callback(controller.close)
    if listen.control is not None:
        control = ControlServer(controller, str(listen.control))
        servers.callback(control.stop)
        controller.listens("control", control.address)
    if listen.admin is not None:
        admin = AdminServer(SidecarPages(controller), str(listen.admin))
        servers.callback(admin.stop)
        controller.listens("admin", admin.address)
    view = controller.view()
    facts: dict[str, object] = {"pods": len(view.pods), "pid": os.getpid()}
    # Under a quorum the record says these, once there is one.
    if not controller.has_quorum:
        facts |= {"epoch": view.epoch, "digest": view.digest}
    _log.info("ready", extra={"facts": {**controller.listening, **facts}})
    return controller


def _figures(controller: Controller) -> dict[str, Any]:
    if controller.is_stopping:
        raise ClosedError("the sidecar is stopping")
    return controller.snapshot()


def _of_quorum() -> QuorumEvents:
    return QuorumEvents(lambda snapshot: snapshot.get("quorum"))


def _serve(controller: Controller, signals: hosting.Signals) -> int:
    while True:
        number = signals.next()
        if number == signal.SIGHUP:
            log_reload(controller.reload())
        elif number is not None:
            grace = controller.loaded.configuration.limits.shutdown_grace
            return hosting.stop(
                controller.stop, signals, number, grace.total_seconds(), what="in flight"
            )
