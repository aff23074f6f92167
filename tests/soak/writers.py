"""Clients that write all the time, and note how each write ended.

A program: ``python -m tests.soak.writers ROUTER LOG KEYS``; it runs until it is told to end
(SIGTERM), and finishes the writes under way. Unmodified grpcio: all it knows is the address of the
router.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

import grpc

from tests.soak.service import METHOD

DEADLINE_SECONDS = 5.0
INTERVAL_SECONDS = 0.040
"""Between two writes of a key. Whether the one before was answered does not matter: who waits for
an answer that a dead pod owes him learns nothing of the next writer."""
OUTSTANDING_MAX = 1_000


def ending(error: grpc.RpcError) -> str:
    """What a client may believe of a write that ended in an error."""
    trailers = {**dict(error.trailing_metadata() or ()), **dict(error.initial_metadata() or ())}
    return "refused" if trailers.get("x-hashroute-outcome") == "not-applied" else "unknown"


class Writer:
    """Sends writes and notes how each ended."""

    def __init__(self, channel: grpc.Channel, log: IO[str]) -> None:
        self._call = channel.unary_unary(METHOD)
        self._log = log
        self._outstanding = threading.BoundedSemaphore(OUTSTANDING_MAX)

    def send(self, key: str, number: int) -> None:
        """Sends one write; waits only if far too many were not answered."""
        self._outstanding.acquire()
        value, began_at = f"{key}/{number}", time.monotonic()
        metadata = [("x-hashroute-key", key)]
        future = self._call.future(value.encode(), timeout=DEADLINE_SECONDS, metadata=metadata)
        noted = {"value": value, "key": key, "began_at": began_at}
        future.add_done_callback(lambda done: self._note(done, noted))

    def _note(self, done: grpc.Future, noted: dict[str, object]) -> None:
        noted["ended_at"] = time.monotonic()
        error = done.exception()
        if error is None:
            noted |= {"ending": "acknowledged", "writer": done.result().decode()}
        else:
            text = f"{error.code().name}: {error.details()}"
            noted |= {"ending": ending(error), "writer": None, "error": text}
        self._log.write(json.dumps(noted) + "\n")
        self._outstanding.release()

    def finish(self) -> None:
        """Returns when every write has ended."""
        for _ in range(OUTSTANDING_MAX):
            self._outstanding.acquire()


def main(router: str, log: str, count: str) -> None:
    """Writes until it is told to end."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    keys = [f"key-{number}" for number in range(int(count))]
    pace = INTERVAL_SECONDS / len(keys)
    with (
        Path(log).open("a", buffering=1, encoding="utf-8") as stream,
        grpc.insecure_channel(router) as channel,
    ):
        writer = Writer(channel, stream)
        print("ready", flush=True)
        for number, key in zip(itertools.count(), itertools.cycle(keys), strict=False):
            writer.send(key, number)
            if over.wait(pace):
                break
        writer.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
