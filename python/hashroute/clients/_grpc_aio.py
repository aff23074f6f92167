"""A ``grpc.aio.Channel`` that sends each request to the pod of its key."""
# ruff: noqa: FBT001, FBT002, PLR0917 - the signatures are grpcio's

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
from grpc import aio

from hashroute.clients._grpc_aio_calls import (
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
)
from hashroute.clients._grpc_exchange import Attempt, Client, Sending
from hashroute.clients._replay_aio import AsyncReplay
from hashroute.errors import HashrouteError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from hashroute.clients._grpc_pods import PodChannel
    from hashroute.clients._keys import Metadata
    from hashroute.router import Router

    Serializer = Callable[[Any], bytes]
    Deserializer = Callable[[bytes], Any]


class RoutedAioChannel(aio.Channel):
    """A channel to whichever pod owns the key of a request; belongs to one event loop."""

    def __init__(self, client: Client[aio.Channel], router: Router | None) -> None:
        self._client = client
        self._owned_router = router

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """Returns the multi-callable of a method with one request and one response."""
        return UnaryUnary(self._client, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """Returns the multi-callable of a method with one request and a stream of responses."""
        return UnaryStream(self._client, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """Returns the multi-callable of a method with a stream of requests and one response."""
        return StreamUnary(self._client, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """Returns the multi-callable of a method with streams both ways."""
        return StreamStream(self._client, method, request_serializer, response_deserializer)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002
        """Returns READY while any pod is thought to be up, else TRANSIENT_FAILURE.

        Connections to pods are made when a request needs them, so there is none to wait for.
        """
        if self._client.channels.is_closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if self._client.router.has_pod_up:
            return grpc.ChannelConnectivity.READY
        return grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits until the state is another than ``last_observed_state``."""
        loop = asyncio.get_running_loop()
        looked = asyncio.Event()

        def look() -> None:
            loop.call_soon_threadsafe(looked.set)

        self._client.waiting.add_listener(look)
        try:
            while self.get_state() is last_observed_state:
                looked.clear()
                await looked.wait()
        finally:
            self._client.waiting.remove_listener(look)

    async def channel_ready(self) -> None:
        """Waits until the state is READY."""
        while (state := self.get_state()) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Closes the channels to the pods; calls still under way after ``grace`` are cancelled."""
        self._client.waiting.close()
        await asyncio.gather(*(channel.close(grace) for channel in self._client.channels.close()))
        if self._owned_router is not None:
            self._owned_router.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Method:
    """A method of the service, with what the stub knows of it."""

    kind: ClassVar[str]
    call: ClassVar[type[UnaryUnaryCall | UnaryStreamCall | StreamUnaryCall | StreamStreamCall]]

    def __init__(
        self,
        client: Client[aio.Channel],
        method: str,
        serializer: Serializer | None,
        deserializer: Deserializer | None,
    ) -> None:
        self._client = client
        self._method = method
        self._serializer = serializer
        self._deserializer = deserializer
        # A key in the message is read from its bytes, which are then sent as they are.
        self._is_raw = (
            client.finder.needs_message
            and serializer is not None
            and self.kind.startswith("unary_")
        )
        self._by_pod: weakref.WeakKeyDictionary[PodChannel[aio.Channel], Any] = (
            weakref.WeakKeyDictionary()
        )

    def _invoke(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Starts a call. One that can reach no pod is returned, as one that has failed.

        Raises:
            ClosedError: the channel was closed.
        """
        replay = AsyncReplay(request) if self.kind.startswith("stream_") else None
        message = self._serializer(request) if self._is_raw and self._serializer else None
        sent = request if message is None else message
        sending = Sending(
            timeout,
            tuple(metadata or ()),
            wait_for_ready,
            lambda: replay is None or replay.is_whole,
        )
        looked_into = request if replay is None else None
        try:
            exchange = self._client.begin(self._method, looked_into, message, sending)
        except HashrouteError as error:
            return self.call(error, lambda _: None)

        def open_call(attempt: Attempt[aio.Channel]) -> Any:
            return self._open(attempt.leased)(
                sent if replay is None else replay.reader(),
                credentials=credentials,
                compression=compression,
                **exchange.options(attempt),
            )

        call = self.call(exchange, open_call)
        call._replay = replay  # noqa: SLF001 - of the call from here on
        return call

    def _open(self, pod: PodChannel[aio.Channel]) -> Any:
        """What starts a call of this method at the pod."""
        found = self._by_pod.get(pod)
        if found is None:
            make = getattr(pod.channel, self.kind)
            serializer = None if self._is_raw else self._serializer
            found = self._by_pod[pod] = make(self._method, serializer, self._deserializer)
        return found


class UnaryUnary(_Method, aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""

    kind = "unary_unary"
    call = UnaryUnaryCall

    def __call__(self, request: Any, **kwargs: Any) -> Any:
        """Returns the call, which is awaited for the response."""
        return self._invoke(request, **kwargs)


class UnaryStream(_Method, aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""

    kind = "unary_stream"
    call = UnaryStreamCall

    def __call__(self, request: Any, **kwargs: Any) -> Any:
        """Returns the call, which iterates over the responses."""
        return self._invoke(request, **kwargs)


class StreamUnary(_Method, aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response."""

    kind = "stream_unary"
    call = StreamUnaryCall

    def __call__(self, request_iterator: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Returns the call, which is awaited for the response."""
        return self._invoke(request_iterator, *args, **kwargs)


class StreamStream(_Method, aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """Streams both ways."""

    kind = "stream_stream"
    call = StreamStreamCall

    def __call__(self, request_iterator: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Returns the call, which iterates over the responses."""
        return self._invoke(request_iterator, *args, **kwargs)
