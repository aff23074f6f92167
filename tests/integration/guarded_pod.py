"""A pod of a cluster, as a program of its own: a guarded server whose writes reach a fenced store.

`python -m tests.integration.guarded_pod KIND NAME ADDRESS VOTERS STORE LEASE` joins the cluster and
prints `ready` once it may write. KIND is `sync` or `aio` (a gRPC server), or `zmq` (a ROUTER loop).
What a write did is one row of the store: one that is carried out twice shows as two rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from concurrent import futures

import grpc
import grpc.aio
import hashroute.pod.grpc
import hashroute.pod.zmq
import zmq
from hashroute import Pod
from hashroute.pod import current_admission

from tests.integration.clusters import CLUSTER
from tests.integration.fenced_store import StoreClient
from tests.integration.processes import SECONDS_MAX

WRITES = ["/orders.Writes/*"]
KEY = "metadata:x-hashroute-key"


def write(store: StoreClient, entry: str, slot: int, term: int, writer: str) -> bytes:
    """Carries a write out, and returns the answer; after an entry `die` the pod answers nothing."""
    store.write(entry, slot, term, writer)
    if entry.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return json.dumps({"pod": writer, "term": term}).encode()


class Methods(grpc.GenericRpcHandler):
    """`Write` writes an id, `Batch` several, `Who` only says who answers."""

    def __init__(self, name: str, store: StoreClient, *, is_aio: bool) -> None:
        self._name = name
        self._store = store
        self._is_aio = is_aio

    def service(self, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2]
        if method == "Batch":
            return grpc.stream_unary_rpc_method_handler(
                self._aio_batch if self._is_aio else self._batch
            )
        behavior = {"Write": self._write, "Who": self._who}.get(method)
        if behavior is None:
            return None

        async def awaited(request, context):
            return behavior(request, context)

        return grpc.unary_unary_rpc_method_handler(awaited if self._is_aio else behavior)

    def _who(self, _request, _context):
        return self._name.encode()

    def _write(self, request, context):
        metadata = dict(context.invocation_metadata())
        term = current_admission().term
        assert metadata["x-hashroute-term"] == str(term)
        slot = int(metadata["x-hashroute-slot"])
        return write(self._store, request.decode(), slot, term, self._name)

    def _batch(self, requests, context):
        answers = [self._write(request, context) for request in requests]
        return answers[-1]

    async def _aio_batch(self, requests, context):
        answers = [self._write(request, context) async for request in requests]
        return answers[-1]


def serve_sync(methods: Methods, guard, address: str, stop: threading.Event) -> None:
    interceptor = hashroute.pod.grpc.interceptor(guard, writes=WRITES, key=KEY)
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[interceptor])
    server.add_generic_rpc_handlers((methods,))
    server.add_insecure_port(address)
    server.start()
    ready()
    stop.wait()
    server.stop(None).wait()


async def serve_aio(methods: Methods, guard, address: str, stop: threading.Event) -> None:
    interceptor = hashroute.pod.grpc.aio_interceptor(guard, writes=WRITES, key=KEY)
    server = grpc.aio.server(interceptors=[interceptor])
    server.add_generic_rpc_handlers((methods,))
    server.add_insecure_port(address)
    await server.start()
    ready()
    await asyncio.to_thread(stop.wait)
    await server.stop(None)


def serve_zmq(name: str, store: StoreClient, guard, address: str, stop: threading.Event) -> None:
    guarded = hashroute.pod.zmq.Guard(guard)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.rcvtimeo = 100
        socket.bind(address)
        ready()
        while not stop.is_set():
            try:
                request = guarded.receive(socket)
            except zmq.Again:
                continue
            with request:
                _key, entry = request.frames
                answer = write(store, entry.decode(), request.tag.slot, request.term, name)
                request.reply(answer)


def ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def main() -> None:
    _, kind, name, address, voters, store_address, lease = sys.argv
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    store = StoreClient(store_address)
    with hashroute.pod.join(
        cluster=CLUSTER,
        voters=json.loads(voters),
        pod=Pod(name, zmq=address) if kind == "zmq" else Pod(name, grpc=address),
        lease=lease,
        priority="ordinary",
        stall_check_seconds=0,
        force=True,
    ) as member:
        member.wait_until_writing(SECONDS_MAX)
        guard = member.guard
        if kind == "zmq":
            serve_zmq(name, store, guard, address, stop)
        elif kind == "aio":
            asyncio.run(serve_aio(Methods(name, store, is_aio=True), guard, address, stop))
        else:
            serve_sync(Methods(name, store, is_aio=False), guard, address, stop)


if __name__ == "__main__":
    main()
