"""How calls of a routed channel end, where no pod made the end; and how attempts end."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import grpc

from hashroute.clients._grpc_exchange import Answered, Attempt, refusal_in, status_of
from hashroute.clients._grpc_verdicts import failing, may_be_refusal
from hashroute.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hashroute.errors import HashrouteError

    SyncAttempt = Attempt[grpc.Channel]
    OpenCall = Callable[[SyncAttempt], Any]

# The state of a channel is at hand; a machine that takes longer to hand it over is asked no more.
STATE_TIMEOUT_SECONDS = 1.0


class RefusedCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call that reached no pod, or that no pod is left for. ``__cause__`` is our own error."""

    def __init__(self, error: HashrouteError) -> None:
        super().__init__(str(error))
        self.__cause__ = error
        self._code, self._trailing = status_of(error)

    def __iter__(self) -> RefusedCall:
        return self

    def __next__(self) -> Any:
        raise self

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Raises this error."""
        raise self

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002
        """Returns this error."""
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:  # noqa: ARG002
        """Returns where it was raised, if it was."""
        return self.__traceback__

    def cancel(self) -> bool:
        """Does nothing: it has ended."""
        return False

    def cancelled(self) -> bool:
        """Returns False: it ended by itself."""
        return False

    def running(self) -> bool:
        """Returns False: it has ended."""
        return False

    def done(self) -> bool:
        """Returns True: it has ended."""
        return True

    def is_active(self) -> bool:
        """Returns False: it has ended."""
        return False

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Returns None: nothing is waited for."""
        return None

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls ``fn`` at once."""
        fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002
        """Returns False: it has ended."""
        return False

    def code(self) -> grpc.StatusCode:
        """Returns the status that a sidecar would answer with."""
        return self._code

    def details(self) -> str:
        """Returns what our own error says."""
        return str(self.__cause__)

    def debug_error_string(self) -> str:
        """Returns code and text."""
        return f"{self._code.name}:{self.__cause__}"

    def initial_metadata(self) -> Any:
        """Returns nothing: no pod sent any."""
        return ()

    def trailing_metadata(self) -> Any:
        """Returns the outcome, as a sidecar would; and why a write was refused."""
        return self._trailing


class CancelledCall(RefusedCall):
    """A call that its caller cancelled while it was at no pod."""

    def __init__(self) -> None:
        super().__init__(RequestError("the call was cancelled; nothing was under way"))
        self._code = grpc.StatusCode.CANCELLED

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Raises FutureCancelledError, as every future that was cancelled."""
        raise grpc.FutureCancelledError

    def exception(self, timeout: float | None = None) -> Exception:  # noqa: ARG002
        """Raises FutureCancelledError."""
        raise grpc.FutureCancelledError

    def traceback(self, timeout: float | None = None) -> TracebackType | None:  # noqa: ARG002
        """Raises FutureCancelledError."""
        raise grpc.FutureCancelledError

    def cancelled(self) -> bool:
        """Returns True."""
        return True


def open_attempt(attempt: SyncAttempt, open_call: OpenCall) -> Any:
    """Starts an attempt; returns its call at the pod.

    Raises:
        ClosedError: the channel was closed.
    """
    try:
        inner = open_call(attempt)
    except BaseException as error:
        attempt.end("cancelled")
        attempt.check_open(error)
        raise
    attempt.cancel = inner.cancel
    if attempt.is_superseded:
        # The pod fell before there was a call to cancel.
        inner.cancel()
    return inner


def end_of(attempt: SyncAttempt, inner: Any, *, is_stream: bool = False) -> Answered | None:
    """Returns how the call of an attempt failed; None if it did not.

    Called by the thread that would also bring the initial metadata of a stream; it must not wait
    for them. A refusal without messages has everything in its trailing metadata.
    """
    code, details = inner.code(), inner.details()
    if code is grpc.StatusCode.OK:
        return None
    if attempt.exchange.is_write:
        initial = () if is_stream else inner.initial_metadata()
        refusal = refusal_in(initial, inner.trailing_metadata())
        if refusal is not None:
            return Answered("error", refusal)
    connected = may_be_refusal(code, details) and is_connected(attempt.leased.channel)
    return Answered(failing(code, details, is_connected=connected), None)


def is_connected(channel: grpc.Channel) -> bool:
    """Returns whether the channel has a connection now. Costs a thread: for failures only."""
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    callback = states.put
    channel.subscribe(callback)
    try:
        return states.get(timeout=STATE_TIMEOUT_SECONDS) is grpc.ChannelConnectivity.READY
    except queue.Empty:
        return True
    finally:
        channel.unsubscribe(callback)
