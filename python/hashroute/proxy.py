"""The host of the native sidecar: starts it, serves control and admin, takes signals, stops it.

No request passes through here. The native threads carry the traffic; this process reads the
configuration, answers operators, and writes what happens to the log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from hashroute import _hashroute
from hashroute.admin import AdminServer
from hashroute.config import load
from hashroute.control import Controller
from hashroute.control_service import ControlServer, log_reload
from hashroute.errors import ClosedError, FewSlotsWarning, HashrouteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hashroute.config import Loaded

__all__ = ["run"]

EXIT_HELD: Final = 0
EXIT_CUT: Final = 1
"""A second signal ended the sidecar before what was in flight had finished."""
EXIT_NOT_STARTED: Final = 2

_SIGNALS: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
_WATCH_SECONDS: Final = 0.1
_POLL_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


def run(file: Path, *, ready_fd: int | None = None, ready_file: Path | None = None) -> int:
    """Runs a sidecar until it is told to stop, and returns the exit code.

    When everything listens, the addresses are written as one JSON object to ``ready_fd``, which is
    then closed, and to ``ready_file``, which appears whole. SIGHUP reloads the configuration,
    SIGTERM and SIGINT stop; a second one of these stops at once.

    Returns:
        0 after a stop, 1 if a second signal cut it short, 2 if it could not start.

    """
    signals = _Signals()
    # The check of the file says the same with its line.
    warnings.simplefilter("ignore", FewSlotsWarning)
    with ExitStack() as servers:
        try:
            loaded = load(file)
            controller = _start(loaded, servers)
            _tell(controller.listening, ready_fd, ready_file)
        except (HashrouteError, OSError) as error:
            for line in str(error).splitlines():
                _log.error("not started", extra={"facts": {"reason": line}})
            return EXIT_NOT_STARTED
        servers.enter_context(_HealthLog(controller))
        return _serve(controller, signals)


def _start(loaded: Loaded, servers: ExitStack) -> Controller:
    for finding in loaded.warnings:
        _log.warning(
            "configuration", extra={"facts": {"finding": finding.render(str(loaded.file))}}
        )
    controller = Controller(loaded, _hashroute.Sidecar)
    # If a server below cannot start, the data plane must not outlive the attempt.
    servers.callback(controller.close)
    listen = loaded.configuration.listen
    if listen.control is not None:
        control = ControlServer(controller, str(listen.control))
        servers.callback(control.stop)
        controller.listens("control", control.address)
    if listen.admin is not None:
        admin = AdminServer(controller, str(listen.admin))
        servers.callback(admin.stop)
        controller.listens("admin", admin.address)
    _log.info(
        "ready",
        extra={
            "facts": {
                **controller.listening,
                "pods": len(controller.ring.pods),
                "epoch": controller.ring.epoch,
                "digest": controller.ring.digest,
                "pid": os.getpid(),
            }
        },
    )
    return controller


def _tell(listening: Mapping[str, str], ready_fd: int | None, ready_file: Path | None) -> None:
    """Tells whoever waits for the start: a supervisor, a test, systemd."""
    text = json.dumps({**listening, "pid": os.getpid()}) + "\n"
    if ready_file is not None:
        draft = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(ready_file)
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w", encoding="utf-8") as stream:
            stream.write(text)
    _notify_systemd("READY=1")


class _Signals:
    """The signals that steer the sidecar, one after another, whichever thread they reach.

    numpy starts threads when it is imported, so before any mask of ours; a signal that is merely
    blocked elsewhere would reach one of those and end the process. Hence handlers: the interpreter
    writes the number of each signal to a socket, from whatever thread it is in.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        # A full socket holds hundreds of signals that say the same.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda _number, _frame: None)

    def next(self, timeout_seconds: float | None = None) -> signal.Signals | None:
        """Waits for a signal and returns it, or None when the time is over."""
        self._reader.settimeout(timeout_seconds)
        try:
            return signal.Signals(self._reader.recv(1)[0])
        except TimeoutError:
            return None


def _serve(controller: Controller, signals: _Signals) -> int:
    while True:
        number = signals.next()
        if number == signal.SIGHUP:
            log_reload(controller.reload())
        elif number is not None:
            return _stop(controller, signals, number)


def _stop(controller: Controller, signals: _Signals, cause: signal.Signals) -> int:
    grace_seconds = controller.loaded.configuration.limits.shutdown_grace.total_seconds()
    _log.info("stopping", extra={"facts": {"signal": cause.name, "grace_seconds": grace_seconds}})
    _notify_systemd("STOPPING=1")
    finished: list[bool] = []
    stopper = threading.Thread(
        target=lambda: finished.append(controller.stop(grace_seconds)), name="hr-stop", daemon=True
    )
    stopper.start()
    while stopper.is_alive():
        if signals.next(_POLL_SECONDS) in {signal.SIGINT, signal.SIGTERM}:
            _log.warning("cut short", extra={"facts": {"reason": "a second signal"}})
            logging.shutdown()
            os._exit(EXIT_CUT)
    if finished == [True]:
        _log.info("stopped", extra={"facts": {"in flight": "all finished"}})
    else:
        _log.warning("stopped", extra={"facts": {"in flight": "cut off after the grace"}})
    return EXIT_HELD


class _HealthLog:
    """Writes to the log when a pod goes down or comes back, by looking ten times a second."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hr-health-log", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        is_down: dict[tuple[str, str], bool] = {}
        while not self._over.wait(_WATCH_SECONDS) and not self._controller.is_stopping:
            try:
                pods: list[dict[str, Any]] = self._controller.snapshot()["pods"]
            except ClosedError:  # it stopped between the question and the answer
                return
            now = {
                (pod["id"], transport): health == "down"
                for pod in pods
                for transport, health in pod["health_by_transport"].items()
            }
            reasons = {pod["id"]: pod["last_down_reason"] for pod in pods}
            for (pod_id, transport), down in now.items():
                if down == is_down.get((pod_id, transport), False):
                    continue
                facts = {"pod": pod_id, "transport": transport}
                if down:
                    facts["reason"] = reasons[pod_id]
                    _log.warning("pod down", extra={"facts": facts})
                else:
                    _log.info("pod up", extra={"facts": facts})
            is_down = now


def _notify_systemd(state: str) -> None:
    """Tells the service manager, if it asked to be told (``Type=notify``)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        try:
            manager.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("systemd not told", extra={"facts": {"state": state, "error": error}})
