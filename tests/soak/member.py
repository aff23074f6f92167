"""A service that is the member itself: it votes, and guards its own gRPC and ZeroMQ handlers.

A program: ``python -m tests.soak.member CONFIG NAME GRPC ZMQ STORE [TIMELINE]``. What it does is
what the unchangeable service does behind a sidecar (:mod:`tests.soak.service`): it hands the term
of each admission to the store, and knows nothing else. If TIMELINE is given, it keeps that
(:mod:`tests.soak.timeline`).
"""

from __future__ import annotations

import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import hashroute.pod.grpc
import hashroute.pod.zmq
import zmq
from hashroute.pod import Member

from tests.soak import timeline
from tests.soak.clients import WRITTEN
from tests.soak.service import METHOD, Methods, StoreClient

if TYPE_CHECKING:
    from hashroute.pod import Guard


def serve_grpc(name: str, address: str, store: StoreClient, guard: Guard) -> grpc.Server:
    """Serves gRPC behind the guard."""
    interceptor = hashroute.pod.grpc.interceptor(
        guard, writes=[METHOD], key="metadata:x-hashroute-key"
    )
    server = grpc.server(futures.ThreadPoolExecutor(32), interceptors=[interceptor])
    server.add_generic_rpc_handlers((Methods(name, store),))
    if server.add_insecure_port(address) == 0:
        raise SystemExit(f"{address} cannot be listened on")
    server.start()
    return server


def serve_zmq(name: str, socket: zmq.Socket[bytes], store: StoreClient, guard: Guard) -> None:
    """Serves ZeroMQ behind the guard, one write at a time."""
    guarded = hashroute.pod.zmq.Guard(guard)
    while True:
        with guarded.receive(socket) as request:
            _key, value = request.frames
            applied = store.apply(
                resource=str(request.tag.slot),
                term=request.term,
                writer=name,
                value=value.decode(),
            )
            if applied:
                request.reply(WRITTEN, name.encode())
            else:
                request.reply(b"fenced: the store has seen a higher term")


def main(config: str, name: str, grpc_address: str, zmq_address: str, *rest: str) -> None:
    """Serves until it is ended."""
    store, *log = rest
    client = StoreClient(store)
    with Member.from_config(config) as member, zmq.Context() as context:
        socket = context.socket(zmq.ROUTER)
        socket.bind(zmq_address)
        arguments = (name, socket, client, member.guard)
        threading.Thread(target=serve_zmq, args=arguments, daemon=True).start()
        for file in log:
            timeline.keep(member._node.snapshot, Path(file))
        server = serve_grpc(name, grpc_address, client, member.guard)
        print("ready", flush=True)
        server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
