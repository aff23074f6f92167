"""The guard in front of the handlers of a grpcio server."""

from __future__ import annotations

import functools
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import grpc

from hashroute.pod._current import CURRENT
from hashroute.pod._grpc_words import (
    REFUSALS,
    Message,
    SeenContext,
    has_term,
    refusal_of,
    seen,
    without_term,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from hashroute._hashroute import Admission, Guard
    from hashroute.pod._rules import Admitted, Rules

    Behavior = Callable[[Any, Any], Any]


class GuardInterceptor(grpc.ServerInterceptor):
    """Admits writes before their handler runs; see :func:`hashroute.pod.grpc.interceptor`."""

    def __init__(self, guard: Guard, rules: Rules) -> None:
        self._guard = guard
        self._rules = rules

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Returns the handler of the call, behind the guard if the call is a write."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        if self._rules.is_write(method):
            return wrapped(
                handler,
                lambda behavior: self._guarded(method, metadata, behavior, handler),
                reads_bytes=self._rules.needs_message,
            )
        if has_term(metadata):
            return wrapped(handler, lambda behavior: of_read(behavior, without_term(metadata)))
        return handler

    def _guarded(self, method: str, metadata: Any, behavior: Behavior, handler: Any) -> Behavior:
        def guarded(request: Any, context: Any) -> Any:
            request, raw = request if isinstance(request, Message) else (request, None)
            try:
                admitted = self._rules.admit(method, metadata, request, raw)
            except REFUSALS as error:
                refusal = refusal_of(error, self._guard)
                context.set_trailing_metadata(refusal.trailing)
                context.abort(refusal.code, refusal.details)
            run = carry_out_stream if handler.response_streaming else carry_out
            return run(admitted, behavior, request, seen(context, metadata, admitted))

        return guarded


def carry_out(admitted: Admitted, behavior: Behavior, request: Any, context: Any) -> Any:
    """Returns the response; the write is under way until the handler has returned."""
    with admitted.admission:
        return _scope(admitted).run(behavior, request, context)


def carry_out_stream(admitted: Admitted, behavior: Behavior, request: Any, context: Any) -> Any:
    """Returns the responses; the write is under way until the last of them, or the call's end."""
    scope = _scope(admitted)
    try:
        responses = HeldResponses(admitted.admission, scope, scope.run(behavior, request, context))
    except BaseException:
        admitted.admission.release()
        raise
    # On a thread of a grpc.aio server it says nothing; False means that the call is over already.
    if context.add_callback(responses.call_ended) is False:
        responses.call_ended()
    return responses


class HeldResponses:
    """The responses of an admitted call.

    The handler may write as long as it runs: until its last response; or, if the call ends before
    that, until whoever is in the middle of the next response has it, and the handler was closed.
    """

    def __init__(self, admission: Admission, scope: Context, responses: Iterator[Any]) -> None:
        self._admission = admission
        self._scope = scope
        self._responses = responses
        self._lock = threading.Lock()
        self._is_running = False
        self._has_call_ended = False
        self._is_over = False

    def __iter__(self) -> HeldResponses:
        return self

    def __next__(self) -> Any:
        with self._lock:
            if self._is_over:
                raise StopIteration
            self._is_running = True
        try:
            response = self._scope.run(next, self._responses)
        except BaseException:
            self._finish()
            raise
        with self._lock:
            self._is_running = False
            has_call_ended = self._has_call_ended
        if has_call_ended:
            self.close()
        return response

    def call_ended(self) -> None:
        """Hears, on any thread, that nobody takes responses any more."""
        with self._lock:
            self._has_call_ended = True
            if self._is_running:
                return
        self.close()

    def close(self) -> None:
        """Closes the handler, and ends the write."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        try:
            close = getattr(self._responses, "close", None)
            if close is not None:
                self._scope.run(close)
        finally:
            self._admission.release()

    def _finish(self) -> None:
        with self._lock:
            self._is_over = True
        self._admission.release()


def of_read(behavior: Behavior, metadata: tuple[Any, ...]) -> Behavior:
    """Returns the behavior of a read, which sees this metadata."""

    def read(request: Any, context: Any) -> Any:
        return behavior(request, SeenContext(context, metadata))

    return read


def wrapped(
    handler: Any, wrap: Callable[[Behavior], Behavior], *, reads_bytes: bool = False
) -> grpc.RpcMethodHandler[Any, Any]:
    """Returns the handler with another behavior; it gets a :class:`Message` if it reads bytes."""
    kinds = ("unary", "stream")
    kind = f"{kinds[handler.request_streaming]}_{kinds[handler.response_streaming]}"
    behavior = getattr(handler, kind)
    outer = wrap(behavior)
    # A thread pool that grpcio is told on the behavior stays told.
    pool = getattr(behavior, "experimental_thread_pool", None)
    if pool is not None:
        outer.experimental_thread_pool = pool  # type: ignore[attr-defined]
    deserializer = handler.request_deserializer
    if reads_bytes and not handler.request_streaming:
        deserializer = functools.partial(_message, deserializer)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    made: grpc.RpcMethodHandler[Any, Any] = make(outer, deserializer, handler.response_serializer)
    return made


def _message(deserializer: Callable[[bytes], Any] | None, raw: bytes) -> Message:
    return Message(raw if deserializer is None else deserializer(raw), raw)


def _scope(admitted: Admitted) -> Context:
    """A context of its own: in a server's pool the next call may run on the same thread."""
    scope = copy_context()
    scope.run(CURRENT.set, admitted.admission)
    return scope
