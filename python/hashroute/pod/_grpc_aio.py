"""The guard in front of the handlers of a grpc.aio server."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from grpc import aio

from hashroute.pod._current import CURRENT
from hashroute.pod._grpc_sync import carry_out, carry_out_stream, of_read, wrapped
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
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from hashroute._hashroute import Admission, Guard
    from hashroute.pod._grpc_sync import Behavior
    from hashroute.pod._rules import Admitted, Rules


class AioGuardInterceptor(aio.ServerInterceptor):
    """Admits writes before their handler runs; see :func:`hashroute.pod.grpc.aio_interceptor`."""

    def __init__(self, guard: Guard, rules: Rules) -> None:
        self._guard = guard
        self._rules = rules

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Returns the handler of the call, behind the guard if the call is a write."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        if self._rules.is_write(method):
            call = _Call(self._guard, self._rules, method, metadata)
            return wrapped(
                handler,
                lambda behavior: call.guarded(behavior, handler),
                reads_bytes=self._rules.needs_message,
            )
        if has_term(metadata):
            shown = without_term(metadata)
            return wrapped(handler, lambda behavior: _of_read(behavior, shown))
        return handler


class _Call:
    """One call of a write."""

    def __init__(self, guard: Guard, rules: Rules, method: str, metadata: Any) -> None:
        self._guard = guard
        self._rules = rules
        self._method = method
        self._metadata = metadata

    def guarded(self, behavior: Behavior, handler: Any) -> Behavior:
        """Returns the behavior behind the guard, of the same kind: grpcio asks for it."""
        if inspect.isasyncgenfunction(behavior):
            return self._generating(behavior)
        if inspect.iscoroutinefunction(behavior):
            return self._awaited(behavior)
        return self._on_a_thread(behavior, is_stream=handler.response_streaming)

    def _awaited(self, behavior: Behavior) -> Behavior:
        async def guarded(request: Any, context: Any) -> Any:
            admitted, request, context = await self._admit(request, context)
            # Released when the handler has ended, also by an exception or its cancellation.
            with admitted.admission:
                CURRENT.set(admitted.admission)
                return await behavior(request, context)

        return guarded

    def _generating(self, behavior: Behavior) -> Behavior:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            admitted, request, context = await self._admit(request, context)
            CURRENT.set(admitted.admission)
            held = HeldGenerator(admitted.admission, behavior(request, context))
            # A call that ends while a response is being sent leaves its generator suspended.
            context.add_done_callback(held.call_ended)
            async for response in held:
                yield response

        return guarded

    def _on_a_thread(self, behavior: Behavior, *, is_stream: bool) -> Behavior:
        run = carry_out_stream if is_stream else carry_out

        def guarded(request: Any, context: Any) -> Any:
            request, raw = request if isinstance(request, Message) else (request, None)
            try:
                admitted = self._rules.admit(self._method, self._metadata, request, raw)
            except REFUSALS as error:
                refusal = refusal_of(error, self._guard)
                context.abort(refusal.code, refusal.details, refusal.trailing)
            return run(admitted, behavior, request, seen(context, self._metadata, admitted))

        return guarded

    async def _admit(self, request: Any, context: Any) -> tuple[Admitted, Any, Any]:
        request, raw = request if isinstance(request, Message) else (request, None)
        try:
            admitted = self._rules.admit(self._method, self._metadata, request, raw)
        except REFUSALS as error:
            refusal = refusal_of(error, self._guard)
            await context.abort(refusal.code, refusal.details, refusal.trailing)
            raise
        return admitted, request, seen(context, self._metadata, admitted)


class HeldGenerator:
    """The responses of an admitted call: the write is under way until the handler has ended."""

    def __init__(self, admission: Admission, responses: AsyncGenerator[Any, None]) -> None:
        self._admission = admission
        self._responses = responses
        self._scope = copy_context()
        self._closing: asyncio.Task[None] | None = None

    def __aiter__(self) -> HeldGenerator:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._responses)
        except BaseException:
            # The last response, an exception, or a cancellation: the handler has ended.
            self._admission.release()
            raise

    def call_ended(self, _context: Any) -> None:
        """Closes the handler, if the call ended before it, and ends the write."""
        # What the handler does at its end is a part of the write, and finds its term.
        loop = asyncio.get_running_loop()
        self._closing = loop.create_task(self._close(), context=self._scope)

    async def _close(self) -> None:
        try:
            await self._responses.aclose()
        finally:
            self._admission.release()


def _of_read(behavior: Behavior, metadata: tuple[Any, ...]) -> Behavior:
    if inspect.isasyncgenfunction(behavior):

        async def generating(request: Any, context: Any) -> AsyncIterator[Any]:
            async for response in behavior(request, SeenContext(context, metadata)):
                yield response

        return generating
    if inspect.iscoroutinefunction(behavior):

        async def awaited(request: Any, context: Any) -> Any:
            return await behavior(request, SeenContext(context, metadata))

        return awaited
    return of_read(behavior, metadata)
