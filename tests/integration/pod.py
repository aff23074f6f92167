"""A pod for the tests, as a program of its own: a gRPC server without a schema.

`python pod.py NAME ADDRESS` prints `ready PORT` once it serves. The method alone says what happens,
whatever the service is called, so a test chooses a route by the service's name. Messages are plain
bytes. Metadata whose name begins with `initial-` or `trailing-` comes back as such.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

FLOOD_MESSAGE = bytes(64 * 1024)
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.so_reuseport", 0),
]


class Methods(grpc.GenericRpcHandler):
    """Every method of every service."""

    def __init__(self, name: str, servicer: health.aio.HealthServicer) -> None:
        self.name = name
        self.health = servicer
        self.notes: list[str] = []
        self.flooded = 0
        self.released = asyncio.Event()

    def service(self, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2].lower()
        for kind, make in KINDS.items():
            behaviour = getattr(self, f"{kind}_{method}", None)
            if behaviour is not None:
                return make(behaviour)
        return None

    async def unary_echo(self, request, context):
        await self._return_metadata(context)
        return request

    async def unary_describe(self, _request, context):
        """What of the call reached the pod, as JSON; binary metadata in base64."""
        left = context.time_remaining()
        described = {
            "pod": self.name,
            "peer": context.peer(),
            "seconds_left": left if left is not None and left < 1e6 else None,
            "metadata": [
                [name, base64.b64encode(value).decode() if isinstance(value, bytes) else value]
                for name, value in context.invocation_metadata()
            ],
        }
        return json.dumps(described).encode()

    async def unary_fail(self, request, context):
        """Fails as the request says: `code`, `details`, and if initial metadata goes `first`."""
        failure = json.loads(request)
        if failure.get("first"):
            await context.send_initial_metadata((("initial-answer", "yes"),))
        code = next(code for code in grpc.StatusCode if code.value[0] == failure["code"])
        await context.abort(code, failure["details"], _named(context, "trailing-", "grpc-status-"))

    async def unary_hang(self, request, _context):
        """Answers never; notes when the call came and when it was cancelled."""
        self.notes.append(f"hang {request.decode()}")
        try:
            await asyncio.Event().wait()
        finally:
            self.notes.append(f"cancelled {request.decode()}")

    async def unary_wait(self, request, _context):
        """Answers when the pod is released; notes when the call came."""
        self.notes.append(f"wait {request.decode()}")
        await self.released.wait()
        return request

    async def unary_release(self, _request, _context):
        self.released.set()
        return b""

    async def unary_serve(self, request, _context):
        """Says from now on that the pod serves (`yes`), or that it does not (`no`)."""
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if request == b"yes" else statuses.NOT_SERVING
        await self.health.set("", status)
        return b""

    async def unary_notes(self, _request, _context):
        return json.dumps({"notes": self.notes, "flooded": self.flooded}).encode()

    async def unary_bytes(self, request, _context):
        return bytes(int(request))

    async def unary_zip(self, request, context):
        """Answers with a compressed message."""
        context.set_compression(grpc.Compression.Gzip)
        return request

    async def serverstream_count(self, request, context):
        await self._return_metadata(context)
        for number in range(int(request)):
            yield str(number).encode()

    async def serverstream_countandfail(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()
        await context.abort(grpc.StatusCode.DATA_LOSS, "the rest is gone")

    async def serverstream_flood(self, request, _context):
        """Sends as many large messages as asked for; `flooded` counts those that were taken."""
        self.flooded = 0
        for _ in range(int(request)):
            yield FLOOD_MESSAGE
            self.flooded += 1

    async def clientstream_gather(self, requests, context):
        await self._return_metadata(context)
        sizes = [len(request) async for request in requests]
        return json.dumps({"messages": len(sizes), "bytes": sum(sizes)}).encode()

    async def clientstream_ignore(self, requests, _context):
        """Reads nothing until the pod is released, then everything."""
        self.notes.append("ignore")
        await self.released.wait()
        return str(sum([len(request) async for request in requests])).encode()

    async def bidistream_chat(self, requests, context):
        await self._return_metadata(context)
        async for request in requests:
            yield b"heard " + request

    async def _return_metadata(self, context) -> None:
        initial, trailing = _named(context, "initial-"), _named(context, "trailing-")
        if initial:
            await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailing)


KINDS = {
    "unary": grpc.unary_unary_rpc_method_handler,
    "serverstream": grpc.unary_stream_rpc_method_handler,
    "clientstream": grpc.stream_unary_rpc_method_handler,
    "bidistream": grpc.stream_stream_rpc_method_handler,
}


def _named(context, *prefixes: str) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(entry for entry in context.invocation_metadata() if entry[0].startswith(prefixes))


async def serve(name: str, address: str) -> None:
    """Serves until SIGTERM, then finishes what is in flight."""
    server = grpc.aio.server(options=OPTIONS)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((Methods(name, servicer),))
    service = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((service, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(address)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write(f"ready {port}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop(grace=10)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], sys.argv[2]))
