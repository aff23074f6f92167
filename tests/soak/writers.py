"""Clients that write all the time, and note how each write ended.

A program: ``python -m tests.soak.writers LOG KEYS KIND…``, each kind one of
:data:`tests.soak.clients.KINDS`; the keys are dealt out among them. It runs until it is told to end
(SIGTERM), and finishes the writes under way.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from tests.soak.clients import INTERVAL_SECONDS, KINDS, Client, Log


def write(client: Client, log: Log, kind: str, keys: list[str], over: threading.Event) -> None:
    """Writes each key all the time, one after the other; then lets the last ones end."""
    pace, due = INTERVAL_SECONDS / len(keys), time.monotonic()
    for number, key in zip(itertools.count(), itertools.cycle(keys), strict=False):
        if over.is_set():
            break
        client.send(log.begin(key, number, kind))
        due = max(due + pace, time.monotonic())
        client.wait(due)
    client.finish()


def main(path: str, count: str, *kinds: str) -> None:
    """Writes until it is told to end."""
    over = threading.Event()
    # Blocked in every thread, and waited for: whichever thread it came to would take it otherwise.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    keys = [f"key-{number}" for number in range(int(count))]
    with (
        Path(path).open("a", buffering=1, encoding="utf-8") as stream,
        ExitStack() as stack,
    ):
        log = Log(stream)
        threads = [
            threading.Thread(
                target=write,
                args=(
                    stack.enter_context(KINDS[kind]()),
                    log,
                    kind,
                    keys[number :: len(kinds)],
                    over,
                ),
            )
            for number, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        signal.sigwait({signal.SIGTERM})
        over.set()
        for thread in threads:
            thread.join()
        log.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
