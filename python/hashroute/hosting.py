"""What every host of a native part does: it takes signals, tells that it is ready, and stops."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["EXIT_CUT", "EXIT_HELD", "EXIT_NOT_STARTED", "Signals", "not_started", "stop", "tell"]

EXIT_HELD: Final = 0
EXIT_CUT: Final = 1
"""A second signal ended it before what was under way had finished."""
EXIT_NOT_STARTED: Final = 2

_SIGNALS: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
_POLL_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


def tell(listening: Mapping[str, str], ready_fd: int | None, ready_file: Path | None) -> None:
    """Tells whoever waits for the start: a supervisor, a test, systemd."""
    text = json.dumps({**listening, "pid": os.getpid()}) + "\n"
    if ready_file is not None:
        draft = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(ready_file)
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w", encoding="utf-8") as stream:
            stream.write(text)
    notify_systemd("READY=1")


def not_started(error: Exception) -> int:
    """Writes why nothing was started, and returns the exit code that says so."""
    for line in str(error).splitlines():
        _log.error("not started", extra={"facts": {"reason": line}})
    return EXIT_NOT_STARTED


class Signals:
    """The signals that steer the process, one after another, whichever thread they reach.

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


def stop(
    finish: Callable[[float], bool],
    signals: Signals,
    cause: signal.Signals,
    grace_seconds: float,
    *,
    what: str,
) -> int:
    """Lets ``finish`` end ``what`` is open within the grace; a second signal ends it at once."""
    _log.info("stopping", extra={"facts": {"signal": cause.name, "grace_seconds": grace_seconds}})
    notify_systemd("STOPPING=1")
    finished: list[bool] = []
    stopper = threading.Thread(
        target=lambda: finished.append(finish(grace_seconds)), name="hr-stop", daemon=True
    )
    stopper.start()
    while stopper.is_alive():
        if signals.next(_POLL_SECONDS) in {signal.SIGINT, signal.SIGTERM}:
            _log.warning("cut short", extra={"facts": {"reason": "a second signal"}})
            logging.shutdown()
            os._exit(EXIT_CUT)
    if finished == [True]:
        _log.info("stopped", extra={"facts": {what: "all finished"}})
    else:
        _log.warning("stopped", extra={"facts": {what: "cut off after the grace"}})
    return EXIT_HELD


def notify_systemd(state: str) -> None:
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
