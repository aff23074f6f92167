"""Planned moves, asked for by a process that has long started: what is timed is the move alone.

A program: ``python -m tests.soak.moves CONFIG``. It reads the names of pods, one a line, drains
each, and answers with one line of JSON: ``{"asked_at", "asked"}``, when it asked first and how
often it had to.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hashroute import HashrouteError
from hashroute.cli.quorum._operator import target_of_file

SECONDS_MAX = 60.0
"""Longer than any cluster takes to agree; it only bounds a trial that has failed."""


def main(config: str) -> None:
    """Drains until there is nothing more to read."""
    operator = target_of_file(Path(config), timeout_ms=5_000).operator()
    print("ready", flush=True)
    for line in sys.stdin:
        change = json.dumps({"drain": {"pod": line.strip()}})
        asked_at, asked = time.monotonic(), 0
        while True:
            asked += 1
            try:
                operator.change(change)
                break
            except HashrouteError as error:
                # Right after another fault a voter or the other pod may not answer yet.
                if time.monotonic() > asked_at + SECONDS_MAX:
                    raise SystemExit(f"{line.strip()} was not drained: {error}") from error
        print(json.dumps({"asked_at": asked_at, "asked": asked}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
