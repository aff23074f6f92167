"""Calls that may be at one pod after the other: what a routed channel hands to its callers.

``_inner`` is always a call of grpcio at one pod; this module adds only which one counts.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc

from hashroute.clients._grpc_exchange import Exchange, Later
from hashroute.clients._grpc_sync_ends import CancelledCall, RefusedCall, end_of, open_attempt
from hashroute.clients._waiting import Pause
from hashroute.errors import HashrouteError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hashroute.clients._grpc_sync_ends import OpenCall, SyncAttempt

    SyncExchange = Exchange[grpc.Channel]


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
        self._pause: Pause | None = None
        self._inner: Any = None
        self._go(exchange.begin())

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
        pause = self._pause
        if pause is not None and pause.end():
            self._finish(CancelledCall())
            return True
        return self._inner is not None and bool(self._inner.cancel())

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

    def _go(self, step: SyncAttempt | Later) -> None:
        if isinstance(step, Later):
            pause = self._pause = Pause(step.due, step.record, self._resume)
            if self._is_cancelled and pause.end():
                self._finish(CancelledCall())
                return
            self._exchange.client.waiting.pause(pause)
            return
        inner = self._inner = open_attempt(step, self._open_call)
        if self._is_cancelled:
            inner.cancel()
        inner.add_done_callback(lambda inner: self._ended(step, inner))

    def _resume(self) -> None:
        self._pause = None
        self._advance(self._exchange.again, None)

    def _ended(self, attempt: SyncAttempt, inner: Any) -> None:
        answered = end_of(attempt, inner)
        attempt.end(None if answered is None else answered.failing)
        if answered is None or self._is_cancelled:
            self._finish(inner)
        else:
            self._advance(lambda: self._exchange.after(attempt, answered), inner)

    def _advance(self, decide: Callable[[], SyncAttempt | Later | None], inner: Any) -> None:
        """Does what is decided to follow; if nothing is, the call ends as ``inner`` did."""
        try:
            step = decide()
            if step is not None:
                self._go(step)
                return
        except HashrouteError as error:
            inner = RefusedCall(error)
        self._finish(inner)

    def _finish(self, inner: Any) -> None:
        self._exchange.close()
        with self._lock:
            self._inner = inner
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
        self._attempt: SyncAttempt | None = None
        # What is waited for at no pod, on the thread of whoever asks for something.
        self._later: Later | None = None
        self._unpaused = threading.Event()
        self._inner: Any = RefusedCall(RequestError("the call was not sent yet"))
        self._go(exchange.begin())

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
        self._unpaused.set()
        return bool(self._inner.cancel()) or self._later is not None

    def cancelled(self) -> bool:
        """Returns whether the call ended by :meth:`cancel`."""
        return bool(self._inner.cancelled())

    def running(self) -> bool:
        """Returns whether an attempt is under way, or one is to follow for sure."""
        return self._later is not None or bool(self._inner.is_active())

    def done(self) -> bool:
        """Returns whether no attempt is under way."""
        return not self.running()

    def is_active(self) -> bool:
        """Returns whether an attempt is under way, or one is to follow for sure."""
        return self.running()

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
            if not has_failed or not self._goes_on(inner, deadline):
                return

    def _go(self, step: SyncAttempt | Later) -> None:
        if isinstance(step, Later):
            self._later = step
            return
        attempt = step
        inner = open_attempt(attempt, self._open_call)
        self._attempt, self._inner = attempt, inner
        if self._is_cancelled:
            inner.cancel()
        if not inner.add_callback(lambda: self._ended(attempt, inner)):
            self._ended(attempt, inner)

    def _ended(self, attempt: SyncAttempt, inner: Any) -> None:
        attempt.answered = end_of(attempt, inner, is_stream=True)
        attempt.end(None if attempt.answered is None else attempt.answered.failing)
        attempt.ended.set()
        if attempt.answered is None or self._is_cancelled or self._exchange.response_started:
            self._finish()

    def _goes_on(self, inner: Any, deadline: float | None = None) -> bool:
        """Returns whether another attempt took over from ``inner``, which ended; starts it.

        Raises:
            grpc.FutureTimeoutError: ``deadline`` came first; to be asked again.
        """
        with self._lock:
            if self._inner is not inner:
                return True
            if self._is_final:
                return False
            try:
                step = self._next(deadline)
                if step is not None:
                    self._go(step)
                    return True
            except HashrouteError as error:
                self._inner = RefusedCall(error)
        self._finish()
        return False

    def _next(self, deadline: float | None) -> SyncAttempt | None:
        """Waits until something follows, and returns it; None if nothing does."""
        step: SyncAttempt | Later | None = self._later
        if step is None and self._attempt is not None:
            self._attempt.ended.wait()
            answered = self._attempt.answered
            if answered is None or self._is_cancelled:
                return None
            step = self._exchange.after(self._attempt, answered)
        while isinstance(step, Later):
            self._later = step
            self._sleep(step, deadline)
            self._later = None
            if self._is_cancelled:
                self._inner = CancelledCall()
                return None
            step = self._exchange.again()
        return step

    def _sleep(self, later: Later, deadline: float | None) -> None:
        pause = Pause(later.due, later.record, self._unpaused.set)
        self._exchange.client.waiting.pause(pause)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._is_cancelled and not self._unpaused.wait(left):
            pause.end()
            raise grpc.FutureTimeoutError
        self._unpaused.clear()

    def _finish(self) -> None:
        self._exchange.close()
        with self._lock:
            self._is_final = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
