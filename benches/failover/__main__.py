"""The time to a new writer, on real processes, beside etcd's own leases.

    python -m benches.failover --json bench-report/failover.json

Two pods, a witness, a router, a store and clients, each on a host of its own (network namespaces).
From the fault until the last key of the pod had a write acknowledged by the other pod, in
milliseconds; keys are written every 40 ms. Each round visits every setting once, so that what else
the machine does hits all alike. A planned move is told by what clients see of it: the longest
write, and writes refused. The history of every visit is judged.

Exit codes: 0 measured, 1 a promise was broken, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hashroute._release import release
from hashroute.bench import machine_facts

from benches.failover import tables
from benches.failover.blocks import SETTINGS, Setting, visit
from tests.soak.hosts import become_root

FORMAT = "hashroute-bench-failover/1"


def main() -> int:
    """Runs the benchmark, prints its tables, and writes the figures."""
    arguments = _arguments()
    try:
        become_root()
    except OSError as error:
        print(f"benches.failover: {error}", file=sys.stderr)
        return 2
    document = _run(arguments)
    for table in (tables.failovers, tables.peer, tables.moves):
        print()
        _print(*table(document))
    for violation in document["violations"][:20]:
        print(f"VIOLATION: {violation}")
    return 1 if document["violations"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.failover", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=1800.0, help="start no round that would end later"
    )
    parser.add_argument("--rounds", type=int, default=1_000, help="so many rounds at most")
    parser.add_argument(
        "--faults", type=int, default=2, help="of each kind, in each visit (%(default)s)"
    )
    parser.add_argument("--only", default="", help="settings with these words in their name alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = [it for it in SETTINGS if arguments.only in str(it)]
    document: dict[str, Any] = {
        "format": FORMAT,
        "command": "python -m benches.failover --json bench-report/failover.json"
        f" --seconds {arguments.seconds:.0f} --faults {arguments.faults}",
        "facts": {**machine_facts(), "hashroute": release(),
                  "load average before": f"{os.getloadavg()[0]:.2f}"},
        "faults": [], "moves": [], "peer": [], "violations": [], "loads": [], "rounds": 0,
    }  # fmt: skip
    begun, longest = time.monotonic(), 0.0
    for number in range(arguments.rounds):
        round_begun = time.monotonic()
        if number and round_begun + longest > begun + arguments.seconds:
            break
        for setting in settings:
            print(f"round {number + 1}: {setting}", file=sys.stderr)
            document["loads"].append(os.getloadavg()[0])
            _visit(setting, document, number, arguments)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(document, indent=1) + "\n"
                arguments.json.write_text(text, encoding="utf-8")
        document["rounds"] = number + 1
        longest = max(longest, time.monotonic() - round_begun)
    return document


def _visit(
    setting: Setting, document: dict[str, Any], number: int, arguments: argparse.Namespace
) -> None:
    with tempfile.TemporaryDirectory(prefix="failover-") as directory:
        seed = arguments.seed + number
        try:
            found = visit(setting, Path(directory), faults=arguments.faults, seed=seed)
        except (RuntimeError, TimeoutError) as error:
            # Not within a minute, or not at all: one broken visit does not end the others.
            document["violations"].append(f"{setting}: {error}")
            return
    for name in ("faults", "moves", "peer"):
        document[name] += [{"round": number, **sample} for sample in getattr(found, name)]
    document["violations"] += found.violations


def _print(headings: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, ["-" * width for width in widths], *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
