"""Measures what the machine itself takes away: how late a process runs that asked to be woken.

One thread a processor, bound to it, asks to be woken every few milliseconds. A wake-up that comes
late is a stall that no program on this machine could have avoided, so recovery times are judged net
of it. Run as `python -m hashroute.demo.ticker`; it says `{"ready": true}`, then each batch of
stalls, and ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from hashroute.demo.lines import say

TICK_SECONDS = 0.005
# Timer slack and a busy neighbour cost this much on a healthy machine; below it nothing is called a
# stall.
STALL_SECONDS_MIN = 0.003
# Stalls of many processors tell no more than those of a few, and each ticker costs 200 wake-ups a
# second.
TICKERS_MAX = 4


def main() -> None:
    """Runs one ticker a processor until standard input ends."""
    speaking = threading.Lock()
    for cpu in sorted(os.sched_getaffinity(0))[:TICKERS_MAX]:
        threading.Thread(target=tick, args=(cpu, speaking), daemon=True).start()
    say({"ready": True})
    sys.stdin.read()


def tick(cpu: int, speaking: threading.Lock) -> None:
    """Says every stall of one processor, for as long as the process lives."""
    # Zero means the calling thread, so each ticker binds only itself.
    os.sched_setaffinity(0, {cpu})
    due = time.monotonic()
    while True:
        due += TICK_SECONDS
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        late = time.monotonic() - due
        if late >= STALL_SECONDS_MIN:
            with speaking:
                say({"stall": [cpu, due, late]})
            due += late


if __name__ == "__main__":
    main()
