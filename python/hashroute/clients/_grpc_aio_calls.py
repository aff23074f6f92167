"""asyncio calls that may be at one pod after the other.

``_inner`` is always a call of grpcio at one pod; this module adds only which one counts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from grpc import aio

from hashroute.clients._grpc_aio_ends import CancelledCall, RefusedCall, end_of
from hashroute.clients._grpc_exchange import Answered, Exchange, Later
from hashroute.clients._waiting import Pause
from hashroute.errors import ClosedError, HashrouteError, RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    import grpc

    from hashroute.clients._grpc_aio_ends import AioAttempt
    from hashroute.clients._replay_aio import AsyncReplay

    AioExchange = Exchange[aio.Channel]
    OpenCall = Callable[[AioAttempt], Any]


class _RoutedCall(aio.Call):
    """What all calls have in common: attempts, one after the other, until one of them is final."""

    def __init__(self, exchange: AioExchange | HashrouteError, open_call: OpenCall) -> None:
        self._open_call = open_call
        self._is_cancelled = False
        self._final: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._callbacks: list[Callable[[Any], None]] = []
        self._replay: AsyncReplay | None = None
        # What is waited for at no pod, and who waits: one task for all who ask.
        self._later: Later | None = None
        self._unpaused = asyncio.Event()
        self._going: asyncio.Task[bool] | None = None
        if isinstance(exchange, HashrouteError):
            self._inner: Any = RefusedCall(exchange)
            self._final.set_result(None)
            return
        self._inner = RefusedCall(RequestError("the call was not sent yet"))
        self._exchange = exchange
        try:
            self._go(exchange.begin())
        except ClosedError:
            raise
        except HashrouteError as error:
            self._end(RefusedCall(error))

    def cancel(self) -> bool:
        """Cancels the attempt that is under way; no other follows."""
        if self._final.done():
            return False
        self._is_cancelled = True
        self._unpaused.set()
        return bool(self._inner.cancel()) or self._later is not None

    def cancelled(self) -> bool:
        """Returns whether the call ended by :meth:`cancel`."""
        return self._is_cancelled and bool(self._inner.cancelled())

    def done(self) -> bool:
        """Returns whether no attempt will follow, and none is under way."""
        return self._final.done()

    def time_remaining(self) -> float | None:
        """Returns the seconds until the deadline of the call, over all attempts."""
        return None if self._final.done() else self._exchange.seconds_left()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls ``callback`` with this call when no attempt will follow."""
        if self._final.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        """Waits for the end, and returns the status of the last attempt."""
        await self._settled()
        status: grpc.StatusCode = await self._inner.code()
        return status

    async def details(self) -> str:
        """Waits for the end, and returns the text of the status."""
        await self._settled()
        text: str = await self._inner.details()
        return text

    async def trailing_metadata(self) -> Any:
        """Waits for the end, and returns the trailing metadata of the last attempt."""
        await self._settled()
        return await self._inner.trailing_metadata()

    async def initial_metadata(self) -> Any:
        """Waits for the initial metadata. Who has seen them stays with their pod."""
        while True:
            inner = self._inner
            metadata = await inner.initial_metadata()
            if not inner.done() or not await self._goes_on(inner):
                self._started()
                return metadata

    async def wait_for_connection(self) -> None:
        """Waits until the present attempt has a connection."""
        while self._later is not None:
            await self._goes_on(self._inner)
        await self._inner.wait_for_connection()

    def _started(self) -> None:
        if not self._final.done():
            self._exchange.response_started = True

    def _go(self, step: AioAttempt | Later) -> None:
        if isinstance(step, Later):
            self._later = step
            return
        attempt = step
        try:
            inner = self._open_call(attempt)
        except BaseException as error:
            attempt.end("cancelled")
            attempt.check_open(error)
            raise
        attempt.cancel = _from_any_thread(inner.cancel)
        if attempt.is_superseded or self._is_cancelled:
            inner.cancel()
        self._attempt, self._inner = attempt, inner
        self._ending = asyncio.ensure_future(self._watch(attempt, inner))

    async def _watch(self, attempt: AioAttempt, inner: Any) -> Answered | None:
        """Waits for the end of an attempt; returns how it failed, if it did."""
        answered = await end_of(attempt, inner)
        attempt.end(None if answered is None else answered.failing)
        if answered is None or self._is_cancelled or self._exchange.response_started:
            self._end(inner)
        return answered

    async def _goes_on(self, inner: Any) -> bool:
        """Returns whether another attempt took over from ``inner``, which ended; starts it."""
        if self._final.done() or self._inner is not inner:
            return self._inner is not inner
        if self._going is None:
            self._going = asyncio.ensure_future(self._take_over(inner))
        return await asyncio.shield(self._going)

    async def _take_over(self, inner: Any) -> bool:
        try:
            step = await self._next()
            if self._final.done():
                return self._inner is not inner
            if step is not None:
                self._go(step)
                return True
        except HashrouteError as error:
            inner = RefusedCall(error)
        finally:
            self._going = None
        self._end(inner)
        return False

    async def _next(self) -> AioAttempt | None:
        """Waits until something follows, and returns it; None if nothing does."""
        step: AioAttempt | Later | None = self._later
        if step is None:
            answered = await asyncio.shield(self._ending)
            if answered is None or self._final.done():
                return None
            step = self._exchange.after(self._attempt, answered)
        while isinstance(step, Later):
            self._later = step
            await self._sleep(step)
            self._later = None
            if self._is_cancelled:
                self._end(CancelledCall())
                return None
            step = self._exchange.again()
        return step

    async def _sleep(self, later: Later) -> None:
        pause = Pause(later.due, later.record, _from_any_thread(self._unpaused.set))
        self._exchange.client.waiting.pause(pause)
        try:
            if not self._is_cancelled:
                await self._unpaused.wait()
        finally:
            pause.end()
            self._unpaused.clear()

    async def _settled(self) -> None:
        while not self._final.done():
            inner = self._inner
            if self._later is None:
                # The usual end, an answer, needs no task that takes over.
                await asyncio.shield(self._ending)
            await self._goes_on(inner)

    def _end(self, inner: Any) -> None:
        self._inner = inner
        if self._final.done():
            return
        self._exchange.close()
        self._final.set_result(None)
        if self._replay is not None:
            self._replay.end()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class _UnaryResponse(_RoutedCall):
    """A call with one response; its attempts follow one another without being asked for."""

    def __init__(self, exchange: AioExchange | HashrouteError, open_call: OpenCall) -> None:
        super().__init__(exchange, open_call)
        self._driver = asyncio.ensure_future(self._settled())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        try:
            await asyncio.shield(self._driver)
        except asyncio.CancelledError:
            # Who waited was cancelled, so nobody wants the answer.
            self.cancel()
            raise
        if isinstance(self._inner, RefusedCall):
            raise self._inner.error() from self._inner.cause
        return await self._inner


class _StreamResponse(_RoutedCall):
    """A call with a stream of responses, which may move until its caller has the first of them."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def read(self) -> Any:
        """Returns the next response, or ``grpc.aio.EOF`` after the last."""
        while True:
            inner = self._inner
            try:
                response = await inner.read()
            except aio.AioRpcError:
                if not await self._goes_on(inner):
                    if isinstance(self._inner, RefusedCall):
                        raise self._inner.error() from self._inner.cause
                    raise
            except asyncio.CancelledError:
                # Either we left the pod ourselves, or whoever reads here was cancelled.
                if _is_being_cancelled() or not await self._goes_on(inner):
                    self.cancel()
                    if isinstance(self._inner, RefusedCall):
                        raise self._inner.error() from self._inner.cause
                    raise
            else:
                self._started()
                return response

    async def _iterate(self) -> AsyncIterator[Any]:
        while (response := await self.read()) is not aio.EOF:
            yield response


class _StreamRequest(_RoutedCall):
    """A call to which requests are written one by one."""

    _replay: AsyncReplay

    async def write(self, request: Any) -> None:
        """Sends a request; waits while the pod is far behind."""
        if self._final.done():
            raise asyncio.InvalidStateError("the call has ended; see its code() and details()")
        if self._replay.is_ended:
            raise asyncio.InvalidStateError("nothing can be written after done_writing()")
        await self._replay.write(request)

    async def done_writing(self) -> None:
        """Says that no request will follow."""
        self._replay.end()


class UnaryUnaryCall(_UnaryResponse, aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """One request, one response."""


class UnaryStreamCall(_StreamResponse, aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class StreamUnaryCall(_UnaryResponse, _StreamRequest, aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A stream of requests, one response."""


class StreamStreamCall(_StreamResponse, _StreamRequest, aio.StreamStreamCall):  # type: ignore[type-arg]
    """Streams both ways."""


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _from_any_thread(act: Callable[[], object]) -> Callable[[], None]:
    """Returns what has ``act`` done by the running loop; nothing, once that is closed."""
    loop = asyncio.get_running_loop()

    def hand_over() -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(act)

    return hand_over
