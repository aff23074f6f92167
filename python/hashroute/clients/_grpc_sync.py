"""A ``grpc.Channel`` that sends each request to the pod of its key."""
# ruff: noqa: FBT001, FBT002, PLR0917, ARG002 - the signatures are grpcio's

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from hashroute.clients._grpc_exchange import Attempt, Client, Sending
from hashroute.clients._grpc_sync_calls import StreamCall, UnaryCall
from hashroute.clients._grpc_sync_ends import RefusedCall
from hashroute.clients._replay import Replay
from hashroute.errors import ClosedError, HashrouteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from hashroute.clients._grpc_pods import PodChannel
    from hashroute.clients._keys import Metadata
    from hashroute.router import Router

    Serializer = Callable[[Any], bytes]
    Deserializer = Callable[[bytes], Any]


class RoutedChannel(grpc.Channel):
    """A channel to whichever pod owns the key of a request; see :func:`hashroute.clients.grpc`."""

    def __init__(self, client: Client[grpc.Channel], router: Router | None) -> None:
        self._client = client
        self._owned_router = router
        self._callbacks: dict[Callable[[grpc.ChannelConnectivity], None], Any] = {}
        self._callbacks_lock = threading.Lock()

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

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool | None = False,
    ) -> None:
        """Tells ``callback`` READY while any pod is thought to be up, else TRANSIENT_FAILURE.

        Connections to pods are made when a request needs them, so there is none to wait for.
        """
        with self._callbacks_lock:
            self._callbacks[callback] = None
        self._client.waiting.add_listener(self._tell)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tells ``callback`` nothing more."""
        with self._callbacks_lock:
            self._callbacks.pop(callback, None)

    def close(self) -> None:
        """Closes the channels to the pods; calls that are under way are cancelled."""
        self._client.waiting.close()
        for channel in self._client.channels.close():
            channel.close()
        if self._owned_router is not None:
            self._owned_router.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _tell(self) -> None:
        is_up = self._client.router.has_pod_up
        now = (
            grpc.ChannelConnectivity.READY if is_up else grpc.ChannelConnectivity.TRANSIENT_FAILURE
        )
        with self._callbacks_lock:
            told = [callback for callback, before in self._callbacks.items() if before is not now]
            self._callbacks.update(dict.fromkeys(told, now))
        for callback in told:
            callback(now)


class _Method:
    """A method of the service, with what the stub knows of it."""

    kind: ClassVar[str]
    call: ClassVar[type[UnaryCall | StreamCall]]

    def __init__(
        self,
        client: Client[grpc.Channel],
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
        self._by_pod: weakref.WeakKeyDictionary[PodChannel[grpc.Channel], Any] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

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
        source, is_whole, message = self._source(request)
        sending = Sending(timeout, tuple(metadata or ()), wait_for_ready, is_whole)
        looked_into = None if self.kind.startswith("stream_") else request
        try:
            exchange = self._client.begin(self._method, looked_into, message, sending)

            def open_call(attempt: Attempt[grpc.Channel]) -> Any:
                return self._open(attempt.leased)(
                    source(),
                    credentials=credentials,
                    compression=compression,
                    **exchange.options(attempt),
                )

            return self.call(exchange, open_call)
        except ClosedError:
            raise
        except HashrouteError as error:
            return RefusedCall(error)

    def _source(self, request: Any) -> tuple[Callable[[], Any], Callable[[], bool], bytes | None]:
        """Returns what gives its message or messages to each attempt, and whether it still can.

        And the message as bytes, if the key is looked for in them: they are then sent as they are.
        """
        if self.kind.startswith("stream_"):
            replay = Replay(iter(request))
            return replay.reader, lambda: replay.is_whole, None
        message = self._serializer(request) if self._is_raw and self._serializer else None
        sent = request if message is None else message
        return lambda: sent, lambda: True, message

    def _open(self, pod: PodChannel[grpc.Channel]) -> Any:
        """What starts a call of this method at the pod."""
        with self._lock:
            found = self._by_pod.get(pod)
            if found is None:
                make = getattr(pod.channel, self.kind)
                serializer = None if self._is_raw else self._serializer
                found = self._by_pod[pod] = make(self._method, serializer, self._deserializer)
        return found.future if self.kind.endswith("_unary") else found


# The four shapes of a call differ in how grpcio names their parameters and how they end; their
# further arguments are those of `_Method._invoke`.


class UnaryUnary(_Method, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""

    kind = "unary_unary"
    call = UnaryCall

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the response, or raises RpcError."""
        return self.with_call(request, *args, **kwargs)[0]

    def with_call(self, request: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Returns the response and its call, or raises RpcError."""
        return _waited(self._invoke(request, *args, **kwargs))

    def future(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the call, which is a future."""
        return self._invoke(request, *args, **kwargs)


class UnaryStream(_Method, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""

    kind = "unary_stream"
    call = StreamCall

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the call, which iterates over the responses."""
        return self._invoke(request, *args, **kwargs)


class StreamUnary(_Method, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response."""

    kind = "stream_unary"
    call = UnaryCall

    def __call__(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        """Returns the response, or raises RpcError."""
        return self.with_call(request_iterator, *args, **kwargs)[0]

    def with_call(
        self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Returns the response and its call, or raises RpcError."""
        return _waited(self._invoke(request_iterator, *args, **kwargs))

    def future(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        """Returns the call, which is a future."""
        return self._invoke(request_iterator, *args, **kwargs)


class StreamStream(_Method, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """Streams both ways."""

    kind = "stream_stream"
    call = StreamCall

    def __call__(self, request_iterator: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        """Returns the call, which iterates over the responses."""
        return self._invoke(request_iterator, *args, **kwargs)


def _waited(call: Any) -> tuple[Any, Any]:
    try:
        return call.result(), call
    except BaseException:
        # An interrupt must not leave the pod at work for nobody; what has ended is not disturbed.
        call.cancel()
        raise
