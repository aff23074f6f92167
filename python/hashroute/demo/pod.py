"""A feature pod: one small service over gRPC and ZeroMQ, as a user would write it.

It knows nothing of hashroute. Run as `python -m hashroute.demo.pod`; it says `{"ready": true}` once
both ports listen, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import grpc
import zmq
import zmq.asyncio
from grpc import aio

from hashroute.demo._proto import features_pb2, features_pb2_grpc
from hashroute.demo.lines import heard, say
from hashroute.demo.symbols import Symbols

if TYPE_CHECKING:
    from typing import TypeAlias

    Context: TypeAlias = aio.ServicerContext[
        features_pb2.GetFeaturesRequest, features_pb2.GetFeaturesResponse
    ]

# HealthCheckResponse{status: SERVING}: the whole of what this pod ever says about its health.
HEALTH_SERVING = b"\x08\x01"


class FeaturePod(features_pb2_grpc.FeatureServiceServicer):
    """Answers for the features of one symbol at a time.

    Args:
        name: The id that its answers carry.
        symbols: What it computes features from.
    """

    def __init__(self, name: str, symbols: Symbols) -> None:
        self._name = name
        self._symbols = symbols

    def answer(self, symbol: str) -> features_pb2.GetFeaturesResponse | None:
        """Returns the features of `symbol`, or None if it is not listed."""
        features = self._symbols.features(symbol)
        if features is None:
            return None
        return features_pb2.GetFeaturesResponse(symbol=symbol, pod=self._name, **asdict(features))

    async def GetFeatures(  # noqa: N802  # the method's name in the proto
        self,
        request: features_pb2.GetFeaturesRequest,
        context: Context,
    ) -> features_pb2.GetFeaturesResponse:
        """Answers one gRPC request."""
        answer = self.answer(request.symbol)
        if answer is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.symbol!r} is not listed")
        return answer

    def answer_frames(self, frames: list[bytes]) -> list[bytes]:
        """Returns the reply to one ZeroMQ message: its envelope, an empty frame, and the answer.

        The message is `[envelope…, empty, key, GetFeaturesRequest]`; an answer of no bytes means
        not listed.
        """
        delimiter = frames.index(b"")
        request = features_pb2.GetFeaturesRequest.FromString(frames[-1])
        answer = self.answer(request.symbol)
        body = b"" if answer is None else answer.SerializeToString()
        return [*frames[: delimiter + 1], body]


async def serve_zmq(pod: FeaturePod, socket: zmq.asyncio.Socket) -> None:
    """Answers ZeroMQ requests until it is cancelled."""
    while True:
        frames = await socket.recv_multipart()
        await socket.send_multipart(pod.answer_frames(frames))


def health_handlers() -> grpc.GenericRpcHandler:
    """Returns `grpc.health.v1.Health/Check`, by hand so that the demo needs no further package."""

    async def check(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return HEALTH_SERVING

    return grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health",
        {"Check": grpc.unary_unary_rpc_method_handler(check)},
    )


async def serve(name: str, grpc_address: str, zmq_address: str) -> None:
    """Serves both transports until standard input ends."""
    pod = FeaturePod(name, Symbols.load())
    server = aio.server()
    features_pb2_grpc.add_FeatureServiceServicer_to_server(pod, server)
    server.add_generic_rpc_handlers((health_handlers(),))
    server.add_insecure_port(grpc_address)
    await server.start()

    context = zmq.asyncio.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(zmq_address)
    answering = asyncio.create_task(serve_zmq(pod, socket))

    say({"ready": True})
    async for _ in heard():
        pass
    answering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await answering
    context.destroy(linger=0)
    await server.stop(grace=None)


def main() -> None:
    """Runs one pod."""
    parser = argparse.ArgumentParser(prog="hashroute.demo.pod")
    parser.add_argument("--name", required=True)
    parser.add_argument("--grpc", required=True, help="HOST:PORT")
    parser.add_argument("--zmq", required=True, help="tcp://HOST:PORT")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.name, arguments.grpc, arguments.zmq))


if __name__ == "__main__":
    main()
