"""A service behind a guard: it keeps orders, and refuses what an older writer sends late.

    python orders.py pod-a 127.0.0.1:50051

It knows one thing of hashroute: `x-hashroute-term`, the fencing token that the guard hands it with
each write. A store that keeps the highest term of a key and refuses lower ones stays right even if
a writer was paused between the guard and the store.
"""

from __future__ import annotations

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

SCHEMA = "CREATE TABLE orders (key TEXT PRIMARY KEY, term INTEGER NOT NULL, text TEXT NOT NULL)"
# One statement, so nothing can come between the comparison and the write.
WRITE = """
INSERT INTO orders VALUES (:key, :term, :text)
ON CONFLICT (key) DO UPDATE SET term = :term, text = :text WHERE orders.term <= :term
"""


class Orders(grpc.GenericRpcHandler):
    """`/desk.Orders/Place` and `/desk.Gateway/Send`, with bytes as messages."""

    def __init__(self, pod: str) -> None:
        self.pod = pod
        self.store = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self.store.execute(SCHEMA)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Returns how a call of one of the two methods is answered."""
        if details.method not in {"/desk.Orders/Place", "/desk.Gateway/Send"}:
            return None
        return grpc.unary_unary_rpc_method_handler(self.write)

    def write(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Stores one order under its key, unless a newer writer did so before."""
        metadata = dict(context.invocation_metadata())
        key = metadata.get("x-hashroute-key", "the gateway")
        term = int(metadata["x-hashroute-term"])
        row = {"key": key, "term": term, "text": request.decode()}
        if self.store.execute(WRITE, row).rowcount == 0:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"a writer after term {term} wrote")
        return f"{self.pod} has {key} under term {term}".encode()


def main(pod: str, address: str) -> None:
    """Serves until it is stopped."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Orders(pod)])
    server.add_insecure_port(address)
    server.start()
    print(f"{pod} serves on {address}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
