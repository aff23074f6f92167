"""The two ways in which a model server asks for features: a gRPC channel, a ZeroMQ socket.

Both are what any unmodified client uses; whether the address is a pod's or the sidecar's makes no
difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import Protocol

import zmq
import zmq.asyncio
from grpc import aio

from hashroute.demo._proto import features_pb2, features_pb2_grpc

# After this long a request has failed; far beyond any recovery that is promised.
DEADLINE_SECONDS = 3.0
ERROR_PREFIX = b"HASHROUTE-ERROR "


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer.

    Attributes:
        pod: The pod that says it computed the answer.
        named_pod: The pod that the sidecar names in `x-hashroute-pod`; empty if nobody did.
    """

    pod: str
    named_pod: str


class RequestFailedError(Exception):
    """A request ended in an error.

    Attributes:
        code: The name of the error, such as `UNAVAILABLE`.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Link(Protocol):
    """A connection to one address; any number of requests may be under way."""

    @property
    def unmatched(self) -> int:
        """Replies so far that belonged to no request waiting for one."""

    async def ask(self, symbol: str) -> Reply:
        """Returns the answer for `symbol`.

        Raises:
            RequestFailedError: The request ended in an error.
        """

    async def close(self) -> None:
        """Closes the connection; requests under way fail."""


class GrpcLink:
    """A gRPC channel to `address` (`HOST:PORT`)."""

    # A call has one status by construction, so no reply can be left over.
    unmatched = 0

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address)
        self._stub = features_pb2_grpc.FeatureServiceStub(self._channel)

    async def ask(self, symbol: str) -> Reply:
        """See `Link.ask`."""
        request = features_pb2.GetFeaturesRequest(symbol=symbol)
        call = self._stub.GetFeatures(request, timeout=DEADLINE_SECONDS)
        try:
            answer = await call
            metadata = await call.initial_metadata()
        except aio.AioRpcError as error:
            raise RequestFailedError(error.code().name) from error
        return Reply(pod=answer.pod, named_pod=str(metadata.get("x-hashroute-pod", "")))

    async def close(self) -> None:
        """See `Link.close`."""
        await self._channel.close()


class ZmqLink:
    """A ZeroMQ DEALER socket connected to `address` (`tcp://HOST:PORT`).

    The frame before the delimiter numbers the request; whoever answers must hand the envelope back
    untouched.
    """

    def __init__(self, address: str) -> None:
        self.unmatched = 0
        self._context = zmq.asyncio.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._waiting: dict[bytes, asyncio.Future[list[bytes]]] = {}
        self._sent = 0
        self._reading = asyncio.create_task(self._read())

    async def ask(self, symbol: str) -> Reply:
        """See `Link.ask`."""
        number = struct.pack("<Q", self._sent)
        self._sent += 1
        request = features_pb2.GetFeaturesRequest(symbol=symbol).SerializeToString()
        reply: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        try:
            await self._socket.send_multipart([number, b"", symbol.encode(), request])
            async with asyncio.timeout(DEADLINE_SECONDS):
                body = await reply
        except TimeoutError:
            raise RequestFailedError("DEADLINE_EXCEEDED") from None
        finally:
            del self._waiting[number]
        return self._parsed(body)

    async def close(self) -> None:
        """See `Link.close`."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        self._context.destroy(linger=0)

    async def _read(self) -> None:
        while True:
            number, _delimiter, *body = await self._socket.recv_multipart()
            waiting = self._waiting.get(number)
            if waiting is None or waiting.done():
                self.unmatched += 1
            else:
                waiting.set_result(body)

    @staticmethod
    def _parsed(body: list[bytes]) -> Reply:
        if body[0].startswith(ERROR_PREFIX):
            raise RequestFailedError(body[0][len(ERROR_PREFIX) :].split()[0].decode())
        if body == [b""]:
            raise RequestFailedError("NOT_FOUND")
        return Reply(pod=features_pb2.GetFeaturesResponse.FromString(body[0]).pod, named_pod="")
