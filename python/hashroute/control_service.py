"""The control API over gRPC: the service of ``proto/hashroute/v1/control.proto``."""

# The contract names the methods, and gRPC gives each a request and a context.
# ruff: noqa: ARG002, N802

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.json_format import ParseDict

from hashroute._proto.v1 import control_pb2 as pb
from hashroute._proto.v1 import control_pb2_grpc as pb_grpc
from hashroute.config import dotted
from hashroute.errors import (
    ChangeRefusedError,
    DeadlineExceededError,
    DuplicatePodError,
    EmptyViewError,
    HashrouteError,
    StartError,
    UnavailableError,
    UnknownPodError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hashroute.config import Finding
    from hashroute.control import Change, Controller, Reload

__all__ = ["ControlServer"]

WATCHERS_MAX: Final = 32
"""Watches at once, each of which holds a thread. One more gets RESOURCE_EXHAUSTED. Operators are
few; routers that follow a sidecar without a quorum are some more."""

THREADS: Final = WATCHERS_MAX + 4
"""Calls that are worked on at once. More wait."""

STOP_SECONDS_MAX: Final = 5.0
"""Time that calls have to finish at a stop; none takes as long."""

INTERVAL_MS_DEFAULT: Final = 1_000
INTERVAL_MS_MIN: Final = 50
INTERVAL_MS_MAX: Final = 60_000

_log = logging.getLogger(__name__)

_STATUS_CODES: Final[tuple[tuple[type[HashrouteError], grpc.StatusCode], ...]] = (
    (UnknownPodError, grpc.StatusCode.NOT_FOUND),
    (DuplicatePodError, grpc.StatusCode.ALREADY_EXISTS),
    (EmptyViewError, grpc.StatusCode.FAILED_PRECONDITION),
    (ChangeRefusedError, grpc.StatusCode.FAILED_PRECONDITION),
    (DeadlineExceededError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (HashrouteError, grpc.StatusCode.INVALID_ARGUMENT),
)


class ControlServer:
    """Serves the control API of one sidecar.

    Args:
        controller: what is controlled.
        address: where to listen, as ``host:port``; port 0 lets the system choose.

    Raises:
        StartError: nothing can listen there.
    """

    def __init__(self, controller: Controller, address: str) -> None:
        self._servicer = _Servicer(controller)
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="hr-control"),
            # Otherwise a second sidecar could listen on the same port and take half of the calls.
            options=[("grpc.so_reuseport", 0)],
        )
        pb_grpc.add_ControlServicer_to_server(self._servicer, self._server)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartError(
                f"listen.control: cannot listen on {address}: it is in use or not this machine's; "
                'choose another, or write "" for no control API',
                address=address,
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{port}"
        """Where it listens, with the port that it got."""
        self._server.start()

    def stop(self) -> None:
        """Ends watches and takes no more calls; returns when none is left."""
        self._servicer.watches.end()
        self._server.stop(grace=STOP_SECONDS_MAX).wait()


class _Servicer(pb_grpc.ControlServicer):
    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.watches = _Watches()

    def GetView(self, request: pb.GetViewRequest, context: grpc.ServicerContext) -> Any:
        return pb.GetViewResponse(view=_view(self._controller))

    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> Any:
        return pb.GetStatusResponse(status=_status(self._controller))

    def WatchStatus(
        self, request: pb.WatchStatusRequest, context: grpc.ServicerContext
    ) -> Iterator[Any]:
        interval_ms = request.interval_ms or INTERVAL_MS_DEFAULT
        if not INTERVAL_MS_MIN <= interval_ms <= INTERVAL_MS_MAX:
            limits = f"{INTERVAL_MS_MIN} to {INTERVAL_MS_MAX}"
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"interval_ms is {interval_ms}, expected {limits}, or 0 for {INTERVAL_MS_DEFAULT}",
            )
        over = threading.Event()
        if not self.watches.begin(over):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{WATCHERS_MAX} watches are open already; end one, or call GetStatus",
            )
        try:
            if not context.add_callback(over.set):
                return
            while not over.is_set():
                yield pb.WatchStatusResponse(status=_status(self._controller))
                over.wait(interval_ms / 1000)
        finally:
            self.watches.finish(over)

    def DrainPod(self, request: pb.DrainPodRequest, context: grpc.ServicerContext) -> Any:
        word = "undrain" if request.undo else "drain"
        change = _changed(
            context,
            f"{word} {request.id}",
            lambda: self._controller.drain(request.id, undo=request.undo),
        )
        return pb.DrainPodResponse(change=change)

    def AddPod(self, request: pb.AddPodRequest, context: grpc.ServicerContext) -> Any:
        pod = request.pod
        values: dict[str, Any] = {
            "weight": pod.weight if pod.HasField("weight") else None,
            "zone": pod.zone if pod.HasField("zone") else None,
            "grpc": pod.addresses.grpc if pod.addresses.HasField("grpc") else None,
            "zmq": pod.addresses.zmq if pod.addresses.HasField("zmq") else None,
            "state": _state(pod.state),
        }
        change = _changed(context, f"add {pod.id}", lambda: self._controller.add(pod.id, values))
        return pb.AddPodResponse(change=change)

    def RemovePod(self, request: pb.RemovePodRequest, context: grpc.ServicerContext) -> Any:
        change = _changed(
            context, f"remove {request.id}", lambda: self._controller.remove(request.id)
        )
        return pb.RemovePodResponse(change=change)

    def ReweightPod(self, request: pb.ReweightPodRequest, context: grpc.ServicerContext) -> Any:
        change = _changed(
            context,
            f"reweight {request.id}={request.weight:g}",
            lambda: self._controller.reweight(request.id, request.weight),
        )
        return pb.ReweightPodResponse(change=change)

    def Reload(self, request: pb.ReloadRequest, context: grpc.ServicerContext) -> Any:
        reload = self._controller.reload()
        log_reload(reload)
        return pb.ReloadResponse(
            applied=reload.applied,
            findings=[_finding(finding) for finding in reload.findings],
            change=None if reload.change is None else _change(reload.change),
            undone=reload.undone,
        )


class _Watches:
    """The watches that are open, at most `WATCHERS_MAX`, each with the event that ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[threading.Event] = set()
        self._has_ended = False

    def begin(self, over: threading.Event) -> bool:
        """Counts one more; returns False if there is no room for it."""
        with self._lock:
            if len(self._open) >= WATCHERS_MAX:
                return False
            self._open.add(over)
            if self._has_ended:
                over.set()
            return True

    def finish(self, over: threading.Event) -> None:
        """Makes room."""
        with self._lock:
            self._open.discard(over)

    def end(self) -> None:
        """Ends all that are open, and all that begin from now on."""
        with self._lock:
            self._has_ended = True
            for over in self._open:
                over.set()


def log_reload(reload: Reload) -> None:
    """Writes what a reload did, one line an event."""
    for text in reload.undone:
        _log.warning("undone by the file", extra={"facts": {"change": text}})
    for finding in reload.findings:
        level = logging.ERROR if finding.severity == "error" else logging.WARNING
        facts = {"code": finding.code, "key": dotted(finding.key), "message": finding.message}
        if finding.position is not None:
            facts["line"] = str(finding.position.line)
        _log.log(level, "configuration", extra={"facts": facts})
    if not reload.applied:
        _log.error("reload refused", extra={"facts": {"in force": "the configuration before"}})
    elif reload.change is None:
        _log.info("reloaded", extra={"facts": {"view": "as before"}})
    else:
        _log.info("reloaded", extra={"facts": _facts(reload.change)})


def _changed(context: grpc.ServicerContext, what: str, make: Callable[[], Change]) -> pb.Change:
    with _errors_as_status(context, what):
        change = make()
    event = "view as before" if change.epoch == change.epoch_before else "view changed"
    _log.info(event, extra={"facts": {"by": what, **_facts(change)}})
    return _change(change)


@contextmanager
def _errors_as_status(context: grpc.ServicerContext, what: str) -> Iterator[None]:
    try:
        yield
    except HashrouteError as error:
        _log.warning("refused", extra={"facts": {"what": what, "reason": str(error)}})
        code = next(code for kind, code in _STATUS_CODES if isinstance(error, kind))
        context.set_trailing_metadata((("hashroute-error", error.code),))
        context.abort(code, str(error))


def _facts(change: Change) -> dict[str, object]:
    return {
        "epoch": change.epoch,
        "moved_slots": change.moved_slots,
        "least_slots": change.least_slots,
    }


def _change(change: Change) -> pb.Change:
    return pb.Change(
        epoch_before=change.epoch_before,
        epoch=change.epoch,
        moved_slots=change.moved_slots,
        least_slots=change.least_slots,
        shares=dict(change.shares),
    )


def _view(controller: Controller) -> pb.View:
    view = controller.view()
    document = view.document
    return pb.View(
        **{name: document[name] for name in ("epoch", "slots", "epsilon", "seed")},
        digest=view.digest,
        pods=[
            pb.Pod(
                id=pod["id"],
                weight=pod["weight"],
                zone=pod["zone"],
                state=pb.PodState.Value(f"POD_STATE_{pod['state'].upper()}"),
                addresses=pb.Addresses(**pod["addresses"]),
            )
            for pod in view.pods
        ],
    )


def _status(controller: Controller) -> pb.Status:
    status = controller.status()
    for latency in status["latency"]:
        latency["buckets"] = [
            {"upper_bound": bound, "count": count} for bound, count in latency["buckets"]
        ]
    node = status.pop("quorum", None)
    if node is not None:
        status["quorum"] = json.dumps(node)
    # The native snapshot and the message have the same names; what is newer is left out.
    return ParseDict(status, pb.Status(), ignore_unknown_fields=True)


def _state(state: pb.PodState.ValueType) -> str | None:
    if state == pb.POD_STATE_UNSPECIFIED:
        return None
    return pb.PodState.Name(state).removeprefix("POD_STATE_").lower()


def _finding(finding: Finding) -> pb.Finding:
    message = pb.Finding(
        severity=finding.severity,
        code=finding.code,
        key=dotted(finding.key),
        message=finding.message,
        expected=finding.expected,
        got=finding.got,
        suggestion=finding.suggestion,
    )
    if finding.position is not None:
        message.position.line = finding.position.line
        message.position.column = finding.position.column
    return message
