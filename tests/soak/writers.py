"""Clients that write all the time, and note how each write ended.

A program: ``python -m tests.soak.writers ROUTER LOG KEYS``; it runs until it is told to end (SIGTERM),
and finishes the writes under way. Unmodified grpcio: all it knows is the address of the router.
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

THREADS = 8
DEADLINE_SECONDS = 5.0
PAUSE_SECONDS = 0.004
"""Between two writes of a thread: the trial is about who writes, not about how fast."""


def ending(error: grpc.RpcError) -> str:
    """What a client may believe of a write that ended in an error."""
    trailers = {**dict(error.trailing_metadata() or ()), **dict(error.initial_metadata() or ())}
    return "refused" if trailers.get("x-hashroute-outcome") == "not-applied" else "unknown"


def write_on(channel: grpc.Channel, keys: list[str], log: IO[str], over: threading.Event) -> None:
    """Writes to one key after the other until it is over."""
    call = channel.unary_unary(METHOD)
    for number, key in zip(itertools.count(), itertools.cycle(keys), strict=False):
        if over.wait(PAUSE_SECONDS):
            return
        value = f"{key}/{number}"
        noted: dict[str, object] = {"value": value, "key": key, "writer": None}
        noted["began_at"] = time.monotonic()
        try:
            answer = call(
                value.encode(), timeout=DEADLINE_SECONDS, metadata=[("x-hashroute-key", key)]
            )
            noted |= {"ending": "acknowledged", "writer": answer.decode()}
        except grpc.RpcError as error:
            noted |= {"ending": ending(error), "error": f"{error.code().name}: {error.details()}"}
        noted["ended_at"] = time.monotonic()
        log.write(json.dumps(noted) + "\n")


def main(router: str, log: str, count: str) -> None:
    """Writes until it is told to end."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    keys = [f"key-{number}" for number in range(int(count))]
    with Path(log).open("a", buffering=1, encoding="utf-8") as stream:
        channels = [
            grpc.insecure_channel(router, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(THREADS)
        ]
        threads = [
            threading.Thread(
                target=write_on, args=(channel, keys[place::THREADS], stream, over), daemon=True
            )
            for place, channel in enumerate(channels)
        ]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
