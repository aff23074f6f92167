"""A service that cannot be changed: it writes to the store what its guard lets through.

A program: ``python -m tests.soak.service NAME HOST:PORT STORE``. It takes the term of each write
from ``x-hashroute-term`` and hands it to the store, as a service should, and knows nothing else.
"""

from __future__ import annotations

import json
import queue
import socket
import sys
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

METHOD = "/soak.Service/Write"


class StoreClient:
    """Connections to the store, as many as there are writes at one time."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._address = (host, int(port))
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def apply(self, **effect: object) -> bool:
        """Sends one effect; returns whether it was applied."""
        with self._connection() as stream:
            stream.write(json.dumps(effect).encode() + b"\n")
            stream.flush()
            return bool(json.loads(stream.readline())["applied"])

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            stream = self._idle.get_nowait()
        except queue.Empty:
            stream = socket.create_connection(self._address).makefile("rwb")
        yield stream
        self._idle.put(stream)


class Methods(grpc.GenericRpcHandler):
    """``Write``: the value is in the request; slot and term come with the admission."""

    def __init__(self, name: str, store: StoreClient) -> None:
        self._name = name
        self._store = store

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(self._write)

    def _write(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        applied = self._store.apply(
            resource=metadata["x-hashroute-slot"],
            term=int(metadata["x-hashroute-term"]),
            writer=self._name,
            value=request.decode(),
        )
        if not applied:
            context.abort(grpc.StatusCode.ABORTED, "fenced: the store has seen a higher term")
        return self._name.encode()


def main(name: str, address: str, store: str) -> None:
    """Serves until it is ended."""
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Methods(name, StoreClient(store)),))
    if server.add_insecure_port(address) == 0:
        raise SystemExit(f"{address} cannot be listened on")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
