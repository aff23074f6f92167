"""The store behind the services: fenced by term, and a witness of everything that reached it.

A program: ``python -m tests.soak.store HOST:PORT LOG``. One line of JSON a request and an answer.
An effect is ``{"resource", "term", "writer", "value"}``; it is applied only if no higher term was
seen for the resource. Every effect is written to the log before it is answered, applied or not,
with the time by this machine's monotonic clock.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Store:
    """The highest term of each resource, and the log."""

    def __init__(self, log: Path) -> None:
        self._terms: dict[str, int] = {}
        self._lock = threading.Lock()
        self._log = log.open("a", buffering=1, encoding="utf-8")

    def apply(self, effect: dict[str, Any]) -> dict[str, Any]:
        """Applies an effect unless its term is too low; says which."""
        resource, term = str(effect["resource"]), int(effect["term"])
        with self._lock:
            highest = self._terms.get(resource, 0)
            is_applied = term >= highest
            self._terms[resource] = max(highest, term)
            seen = {**effect, "applied": is_applied, "at": time.monotonic()}
            self._log.write(json.dumps(seen) + "\n")
        return {"applied": is_applied, "highest": max(highest, term)}


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        store: Store = self.server.store  # type: ignore[attr-defined]
        for line in self.rfile:
            answer = store.apply(json.loads(line))
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    # A pod that has just started connects on all its threads at once. A connection that found no
    # room would be made a second later, and a release waits for writes under way.
    request_queue_size = 128


def main(address: str, log: str) -> None:
    """Serves until it is ended."""
    host, port = address.rsplit(":", 1)
    with _Server((host, int(port)), _Handler) as server:
        server.store = Store(Path(log))  # type: ignore[attr-defined]
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
