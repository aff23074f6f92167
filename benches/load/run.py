"""The load bound at work: real skew, requests in flight, and where they go.

    python -m benches.load.run --json bench-report/load.json

A simulation, not a measurement of time: a fixed number of requests is in flight; in each turn one
of them, drawn evenly, ends, and one for a symbol drawn by its traded volume arrives. So every pod
answers at the same pace, and only the placing differs. All ways get the same arrivals and endings,
and the figures repeat exactly on any machine.

The router does not tell how many pods it asked. A model of it does: it must choose the same pod for
every single request, or the benchmark ends with an error.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashroute import FewSlotsWarning
from hashroute.bench import machine_facts

from benches.load.ways import Chwbl, Real, Remembering, Walking

if TYPE_CHECKING:
    from benches.load.ways import Way

POD_COUNTS = (4, 16, 128)
FACTORS = (1.1, 1.25, 2.0)
IN_FLIGHT = 64
"""For each pod, on average: enough that a share is not a matter of single requests."""
SEED = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives, and which of the requests in flight ends before it."""

    symbols: list[str]
    endings: list[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one load on one way."""

    pods: list[str]
    """Of each request, in order of arrival."""
    figures: dict[str, float]


def main() -> int:
    """Runs the simulation; returns 0, or 1 if router and model differ."""
    parser = argparse.ArgumentParser(prog="python -m benches.load.run")
    parser.add_argument("--json", type=Path, required=True, help="where to write the figures")
    parser.add_argument(
        "--arrivals", type=int, default=100_000, help="requests that are placed (%(default)s)"
    )
    parser.add_argument("--pods", type=int, nargs="+", default=POD_COUNTS, help="%(default)s")
    arguments = parser.parse_args()
    # A thousand pods have few slots each; how few is not the question here.
    warnings.simplefilter("ignore", FewSlotsWarning)
    runs: list[dict[str, Any]] = []
    for count in arguments.pods:
        load = _load(count, arguments.arrivals)
        pods = [f"pod-{number:04}" for number in range(count)]
        runs.append(_row(count, None, "no bound", _outcome(Walking(pods, count), load, count)))
        for c in FACTORS:
            modelled, real = (_outcome(way(pods, c), load, count) for way in (Remembering, Real))
            if modelled.pods != real.pods:
                print(f"{count} pods, c = {c}: router and model differ", file=sys.stderr)
                return 1
            runs += [
                _row(count, c, "hashroute", modelled),
                _row(count, c, "without memory", _outcome(Walking(pods, c), load, count)),
                _row(count, c, "CHWBL on a ring", _outcome(Chwbl(pods, c), load, count)),
            ]
    _write(arguments.json, arguments.arrivals, runs)
    return 0


def _load(pods: int, arrivals: int) -> Load:
    random_source = random.Random(SEED)
    data = resources.files("hashroute.demo") / "data" / "nasdaq_volume.csv"
    rows = list(csv.DictReader(data.read_text(encoding="utf-8").splitlines()))
    volumes = list(itertools.accumulate(int(row["volume"]) for row in rows))
    in_flight = pods * IN_FLIGHT
    return Load(
        random_source.choices(
            [row["symbol"] for row in rows], cum_weights=volumes, k=in_flight + arrivals
        ),
        [random_source.randrange(in_flight) for _ in range(arrivals)],
    )


def _outcome(way: Way, load: Load, count: int) -> Outcome:
    in_flight = count * IN_FLIGHT
    held = [way.place(symbol).pod for symbol in load.symbols[:in_flight]]
    pods = list(held)
    loads = Counter(held)
    peak = max(loads.values())
    away = probes = 0
    for symbol, ending in zip(load.symbols[in_flight:], load.endings, strict=True):
        way.finish(ending)
        loads[held[ending]] -= 1
        held[ending] = held[-1]
        held.pop()
        placed = way.place(symbol)
        held.append(placed.pod)
        pods.append(placed.pod)
        loads[placed.pod] += 1
        peak = max(peak, loads[placed.pod])
        away += not placed.is_home
        probes += placed.probes
    arrivals = len(load.endings)
    figures = {
        "peak_by_mean": peak / IN_FLIGHT,
        "off_home": away / arrivals,
        "probes": probes / arrivals,
    }
    return Outcome(pods, figures)


def _row(pods: int, c: float | None, way: str, outcome: Outcome) -> dict[str, Any]:
    return {"pods": pods, "c": c, "way": way, **outcome.figures}


def _write(path: Path, arrivals: int, runs: list[dict[str, Any]]) -> None:
    document = {
        "format": "hashroute-bench-load/1",
        "command": "python -m benches.load.run --json bench-report/load.json",
        "facts": {**machine_facts(), "arrivals": f"{arrivals:,}", "seed": SEED},
        "runs": runs,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
