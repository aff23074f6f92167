"""Calls that may be at one pod after the other: what a routed channel hands to its callers.

``_inner`` is always a call of grpcio at one pod; this module adds only which one counts.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from hashroute.clients._grpc_exchange import HEADER_OUTCOME, Attempt, Exchange, status_of
from hashroute.clients._grpc_verdicts import Failing, failing, may_be_refusal
from hashroute.errors import HashrouteError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    SyncAttempt = Attempt[grpc.Channel]
    SyncExchange = Exchange[grpc.Channel]
    OpenCall = Callable[[SyncAttempt], Any]

# The state of a channel is at hand; a machine that takes longer to hand it over is asked no more.
STATE_TIMEOUT_SECONDS = 1.0


class UnaryCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call with one response.

    What follows an attempt is decided as soon as it ends, by the thread that sees it end; so the
    future is done when no attempt will follow.
    """

    def __init__(self, exchange: SyncExchange, open_call: OpenCall) -> None:
        super().__init__()
        self._exchange = exchange
        self._open_call = open_call
        self._is_cancelled = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._inner: Any = None
        self._start()

    def result(self, timeout: float | None = None) -> Any:
        """Returns the response, or raises the RpcError of the last attempt."""
        return self._final(timeout).result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Returns the RpcError of the last attempt; None if it went well."""
        error: Exception | None = self._final(timeout).exception()
        return error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Returns the traceback of :meth:`exception`."""
        trace: TracebackType | None = self._final(timeout).traceback()
        return trace

    def cancel(self) -> bool:
        """Cancels the attempt that is under way; no other follows."""
        self._is_cancelled = True
        return bool(self._inner.cancel())

    def cancelled(self) -> bool:
        """Returns whether the call ended by :meth:`cancel`."""
        return self._done.is_set() and bool(self._inner.cancelled())

    def running(self) -> bool:
        """Returns whether an attempt is under way."""
        return not self._done.is_set()

    def done(self) -> bool:
        """Returns whether no attempt will follow."""
        return self._done.is_set()

    def is_active(self) -> bool:
        """Returns whether an attempt is under way."""
        return not self._done.is_set()

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Returns the seconds until the deadline of the call, over all attempts."""
        return self._exchange.seconds_left()

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls ``fn`` with this call when no attempt will follow."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls ``callback`` when no attempt will follow; False if that is so already."""
        with self._lock:
            if self._done.is_set():
                return False
            self._callbacks.append(callback)
            return True

    def code(self) -> grpc.StatusCode:
        """Waits for the end, and returns the status of the last attempt."""
        status: grpc.StatusCode = self._final(None).code()
        return status

    def details(self) -> str:
        """Waits for the end, and returns the text of the status."""
        text: str = self._final(None).details()
        return text

    def initial_metadata(self) -> Any:
        """Waits for the end, and returns the initial metadata of the last attempt."""
        return self._final(None).initial_metadata()

    def trailing_metadata(self) -> Any:
        """Waits for the end, and returns the trailing metadata of the last attempt."""
        return self._final(None).trailing_metadata()

    def _final(self, timeout: float | None) -> Any:
        if not self._done.wait(timeout):
            raise grpc.FutureTimeoutError
        return self._inner

    def _start(self) -> None:
        attempt, self._inner = open_attempt(self._exchange, self._open_call)
        if self._is_cancelled:
            self._inner.cancel()
        self._inner.add_done_callback(lambda inner: self._ended(attempt, inner))

    def _ended(self, attempt: SyncAttempt, inner: Any) -> None:
        how = end_of(attempt, inner)
        attempt.end(how)
        if how is not None and not self._is_cancelled and self._exchange.goes_on(attempt, how):
            try:
                self._start()
            except HashrouteError:
                inner = stranded(attempt, inner)
            else:
                return
        self._inner = inner
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class StreamCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call with a stream of responses.

    Until the caller has the first of them it may go on at another pod; so what follows an attempt
    is decided when the caller asks for something.
    """

    def __init__(self, exchange: SyncExchange, open_call: OpenCall) -> None:
        super().__init__()
        self._exchange = exchange
        self._open_call = open_call
        self._is_cancelled = False
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], None]] = []
        self._is_final = False
        self._inner: Any = None
        self._begin()

    def __iter__(self) -> StreamCall:
        return self

    def __next__(self) -> Any:
        while True:
            inner = self._inner
            try:
                response = next(inner)
            except StopIteration:
                self._exchange.response_started = True
                raise
            except grpc.RpcError:
                if not self._goes_on(inner):
                    raise self._inner from None
            else:
                self._exchange.response_started = True
                return response

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the end; raises the RpcError with which it ended, if it did."""
        self._settle(timeout)
        return self._inner.result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Waits for the end; returns the RpcError with which it ended, if it did."""
        self._settle(timeout)
        error: Exception | None = self._inner.exception()
        return error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Returns the traceback of :meth:`exception`."""
        self._settle(timeout)
        trace: TracebackType | None = self._inner.traceback()
        return trace

    def cancel(self) -> bool:
        """Cancels the attempt that is under way; no other follows."""
        self._is_cancelled = True
        return bool(self._inner.cancel())

    def cancelled(self) -> bool:
        """Returns whether the call ended by :meth:`cancel`."""
        return bool(self._inner.cancelled())

    def running(self) -> bool:
        """Returns whether an attempt is under way."""
        return bool(self._inner.is_active())

    def done(self) -> bool:
        """Returns whether no attempt is under way."""
        return not self._inner.is_active()

    def is_active(self) -> bool:
        """Returns whether an attempt is under way."""
        return bool(self._inner.is_active())

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Returns the seconds until the deadline of the call, over all attempts."""
        return self._exchange.seconds_left()

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls ``fn`` with this call when no attempt will follow."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls ``callback`` when no attempt will follow; False if that is so already."""
        with self._lock:
            if self._is_final:
                return False
            self._callbacks.append(callback)
            return True

    def code(self) -> grpc.StatusCode:
        """Waits for the end, and returns the status with which it ended."""
        self._settle(None)
        status: grpc.StatusCode = self._inner.code()
        return status

    def details(self) -> str:
        """Waits for the end, and returns the text of the status."""
        self._settle(None)
        text: str = self._inner.details()
        return text

    def initial_metadata(self) -> Any:
        """Waits for the initial metadata. Who has seen them stays with their pod."""
        while True:
            inner = self._inner
            metadata = inner.initial_metadata()
            if inner.is_active() or not self._goes_on(inner):
                self._exchange.response_started = True
                return metadata

    def trailing_metadata(self) -> Any:
        """Waits for the end, and returns the trailing metadata."""
        self._settle(None)
        return self._inner.trailing_metadata()

    def _settle(self, timeout: float | None) -> None:
        """Waits for the end of the call, attempts that follow included."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            inner = self._inner
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                has_failed = inner.exception(left) is not None
            except grpc.FutureCancelledError:
                has_failed = True
            if not has_failed or not self._goes_on(inner):
                return

    def _begin(self) -> None:
        attempt, inner = open_attempt(self._exchange, self._open_call)
        self._attempt, self._inner = attempt, inner
        if self._is_cancelled:
            inner.cancel()
        if not inner.add_callback(lambda: self._ended(attempt, inner)):
            self._ended(attempt, inner)

    def _ended(self, attempt: SyncAttempt, inner: Any) -> None:
        attempt.failing = end_of(attempt, inner)
        attempt.end(attempt.failing)
        attempt.ended.set()
        if attempt.failing is None or self._is_cancelled or self._exchange.response_started:
            self._finish()

    def _goes_on(self, inner: Any) -> bool:
        """Returns whether another attempt took over from ``inner``, which ended; starts it."""
        with self._lock:
            if self._inner is not inner:
                return True
            if self._is_final:
                return False
            attempt = self._attempt
            attempt.ended.wait()
            how = attempt.failing
            if how is not None and not self._is_cancelled and self._exchange.goes_on(attempt, how):
                try:
                    self._begin()
                except HashrouteError:
                    self._inner = stranded(attempt, inner)
                else:
                    return True
        self._finish()
        return False

    def _finish(self) -> None:
        with self._lock:
            self._is_final = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class RefusedCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call that reached no pod, or that no pod is left for. ``__cause__`` is our own error."""

    def __init__(self, error: HashrouteError) -> None:
        super().__init__(str(error))
        self.__cause__ = error
        self._code, self._outcome = status_of(error)

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
        """Returns INVALID_ARGUMENT for a missing key, UNAVAILABLE for a missing pod."""
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
        """Returns the outcome, as a sidecar would."""
        return ((HEADER_OUTCOME, self._outcome),)


def open_attempt(exchange: SyncExchange, open_call: OpenCall) -> tuple[SyncAttempt, Any]:
    """Starts the next attempt; returns it and its call at the pod.

    Raises:
        NoPodError: no pod is left.
    """
    attempt = exchange.attempt()
    try:
        inner = open_call(attempt)
    except BaseException:
        attempt.end("cancelled")
        raise
    attempt.cancel = inner.cancel
    if attempt.is_superseded:
        # The pod fell before there was a call to cancel.
        inner.cancel()
    return attempt, inner


def end_of(attempt: SyncAttempt, inner: Any) -> Failing | None:
    """Returns how the call of an attempt failed; None if it did not."""
    code, details = inner.code(), inner.details()
    if code is grpc.StatusCode.OK:
        return None
    connected = may_be_refusal(code, details) and is_connected(attempt.leased.channel)
    return failing(code, details, is_connected=connected)


def stranded(attempt: SyncAttempt, inner: Any) -> Any:
    """Returns the end of a call that was to go on and has no pod to go to.

    The failure of the last attempt stands, unless it was we who cancelled that.
    """
    if not attempt.is_superseded:
        return inner
    return RefusedCall(
        UnavailableError(
            f"the pod {attempt.pod!r} was found down before it answered, and no pod is left to "
            "try: it may have carried the request out",
            outcome="unknown",
            pod=attempt.pod,
        )
    )


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
