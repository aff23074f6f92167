"""Writes the tables of docs/benchmarks.md and docs/single-writer.md from bench-report/.

    python -m benches.report

Each table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. A benchmark whose figures
are not in bench-report/ keeps the table it has, so a part can be measured again alone.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hashroute.bench.report import readable_ns

from benches import ring_tables
from benches.failover import tables as failover_tables

ROOT = Path(__file__).parents[1]
OPERATIONS = {"test_lookup": "one lookup", "test_batch": "a key of a batch", "test_build": "build"}


def main() -> int:
    """Rewrites the tables; returns 0, or 2 if the page has no place for one of them."""
    parser = argparse.ArgumentParser(prog="python -m benches.report")
    parser.add_argument("--figures", type=Path, default=ROOT / "bench-report")
    parser.add_argument("--page", type=Path, help="instead of the page that each table is on")
    parser.add_argument("--only", choices=TABLES, help="the tables of these figures alone")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else TABLES:
        path = arguments.page or ROOT / "docs" / PAGES.get(name, "benchmarks.md")
        page = path.read_text(encoding="utf-8")
        figures = arguments.figures / f"{name}.json"
        if not figures.exists():
            print(f"{figures} does not exist: its tables stay as they are", file=sys.stderr)
            continue
        document = json.loads(figures.read_text(encoding="utf-8"))
        text = "\n\n".join([_provenance(document), *TABLES[name](document)])
        page, places = re.subn(
            rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)",
            lambda found, text=text: f"{found[1]}{text}\n{found[2]}",
            page,
            flags=re.DOTALL,
        )
        if places != 1:
            print(f"{path} must have one place for {name}: {places}", file=sys.stderr)
            return 2
        path.write_text(page, encoding="utf-8")
    return 0


def _provenance(document: dict[str, Any]) -> str:
    facts = " · ".join(f"{name} {fact}" for name, fact in document["facts"].items())
    return f"Measured: {facts}.\nAgain: `{document['command']}`"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # The first column names the row; the others hold figures, which line up at the right.
    rule = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def _ring_tables(document: dict[str, Any]) -> list[str]:
    rows = []
    for entry in document["benchmarks"]:
        name = " / ".join(filter(None, (entry["group"], entry["function"], entry["size"])))
        median, low, high = (
            entry[part] / entry["elements"] for part in ("median_ns", "low_ns", "high_ns")
        )
        rows.append((name, *readable_ns(median, low, high)))
    return [_table(("benchmark", "median", "95 % confidence"), rows)]


def _python_tables(document: dict[str, Any]) -> list[str]:
    medians: dict[tuple[str, str, int], float] = {}
    cells: dict[tuple[str, str, int], str] = {}
    for entry in document["benchmarks"]:
        operation = OPERATIONS[entry["name"].partition("[")[0]]
        extra, stats = entry["extra_info"], entry["stats"]
        contender = extra["contender"] + (" (floor)" if extra["is_floor"] else "")
        place = (operation, contender, int(entry["params"]["pods"]))
        median, low, high = (
            stats[part] * 1e9 / extra["operations"] for part in ("median", "q1", "q3")
        )
        medians[place] = median
        cells[place] = "{} ({})".format(*readable_ns(median, low, high))
    return [_python_table(operation, medians, cells) for operation in OPERATIONS.values()]


def _python_table(
    operation: str,
    medians: dict[tuple[str, str, int], float],
    cells: dict[tuple[str, str, int], str],
) -> str:
    places = [place for place in cells if place[0] == operation]
    sizes = sorted({size for _, _, size in places})
    contenders = list(dict.fromkeys(contender for _, contender, _ in places))
    rows = []
    for contender in contenders:
        row = [contender]
        for size in sizes:
            ratio = medians[operation, contender, size] / medians[operation, contenders[0], size]
            row.append(f"{cells[operation, contender, size]}, {ratio:.2f}")
        rows.append(row)
    return _table((f"{operation}, at", *(f"{size} pods" for size in sizes)), rows)


def _grpc_tables(document: dict[str, Any]) -> list[str]:
    goals = {
        "added p50, 1 outstanding": (_added_p50, "0.5"),
        "CPU a call, 1 outstanding": (_cpu_alone, "0.6"),
        "CPU a call, saturated": (_cpu_saturated, "0.2"),
    }
    rounds = _rounds(document["runs"])
    return [*_relay_tables(rounds, "HAProxy", goals), _failures(document["runs"])]


def _zmq_tables(document: dict[str, Any]) -> list[str]:
    goals = {
        "added p50, 1 outstanding": (_added_p50, "0.5"),
        "CPU a call, saturated": (_cpu_saturated, "0.35"),
    }
    parts = []
    for size in sorted({run["bytes"] for run in document["runs"]}):
        rounds = _rounds([run for run in document["runs"] if run["bytes"] == size])
        parts += [f"Bodies of {size} bytes:", *_relay_tables(rounds, "zmq_proxy", goals)]
    return [*parts, _failures(document["runs"])]


def _relay_tables(
    rounds: list[dict[str, Any]], peer: str, goals: dict[str, tuple[Figure, str]]
) -> list[str]:
    """Returns each way's figures, and ours by the peer's of the same round beside the goals."""
    absolute = [
        (way, *(_spread([figure(taken, way) for taken in rounds]) for figure in FIGURES.values()))
        for way in rounds[0]
    ]
    ratios = [
        (
            heading,
            _spread([figure(taken, "hashroute") / figure(taken, peer) for taken in rounds], 2),
            goal,
        )
        for heading, (figure, goal) in goals.items()
    ]
    headings = (f"hashroute by {peer}, same round", "median (min to max)", "goal, at most")
    return [_table(("way", *FIGURES), absolute), _table(headings, ratios)]


def _failover_tables(document: dict[str, Any]) -> list[str]:
    parts = (failover_tables.failovers, failover_tables.peer, failover_tables.moves)
    return [_table(*table(document)) for table in parts]


def _load_tables(document: dict[str, Any]) -> list[str]:
    rows = []
    for run in document["runs"]:
        way = run["way"] if run["c"] is None else f"c = {run['c']:g}: {run['way']}"
        figures = (f"{run['peak_by_mean']:.2f}", f"{run['off_home']:.2%}", f"{run['probes']:.2f}")
        rows.append((f"{run['pods']} pods, {way}", *figures))
    return [_table(("way", "peak / mean load", "requests off home", "probes a request"), rows)]


def _rounds(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the runs by round, and in each round by way."""
    rounds: dict[int, dict[str, Any]] = {}
    for run in runs:
        rounds.setdefault(run["round"], {})[run["way"]] = run
    return list(rounds.values())


def _failures(runs: list[dict[str, Any]]) -> str:
    failed = {run["way"]: 0 for run in runs}
    for run in runs:
        failed[run["way"]] += run["alone"]["failed"] + run["saturated"]["failed"]
    ways = [f"{way} {count}" for way, count in failed.items() if count]
    return f"Failed calls: {', '.join(ways) or 'none on any way'}."


def _added_p50(taken: dict[str, Any], way: str) -> float:
    return float(taken[way]["alone"]["p50_us"] - taken["direct"]["alone"]["p50_us"])


def _added_p99(taken: dict[str, Any], way: str) -> float:
    return float(taken[way]["alone"]["p99_us"] - taken["direct"]["alone"]["p99_us"])


def _cpu_alone(taken: dict[str, Any], way: str) -> float:
    return float(taken[way]["alone"]["cpu_us"])


def _cpu_saturated(taken: dict[str, Any], way: str) -> float:
    return float(taken[way]["saturated"]["cpu_us"])


Figure = Callable[[dict[str, Any], str], float]
FIGURES: dict[str, Figure] = {
    "p50, µs, 1 outstanding": lambda taken, way: float(taken[way]["alone"]["p50_us"]),
    "added p50": _added_p50,
    "added p99": _added_p99,
    "CPU µs a call, 1 outstanding": _cpu_alone,
    "CPU µs a call, saturated": _cpu_saturated,
    "thousand calls/s, saturated": lambda taken, way: taken[way]["saturated"]["calls_per_s"] / 1e3,
    "RSS, MB": lambda taken, way: float(taken[way]["resident_mb"]),
}


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """Returns the median and the range; a dash for what is 0 in every round: it does not apply."""
    if not any(values):
        return "-"
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "ring": _ring_tables,
    "movement": lambda document: [_table(*ring_tables.movement(document))],
    "heirs": lambda document: [_table(*ring_tables.heirs(document))],
    "ratios": lambda document: [_table(*ring_tables.ratios(document))],
    "python": _python_tables,
    "grpc": _grpc_tables,
    "zmq": _zmq_tables,
    "load": _load_tables,
    "failover": _failover_tables,
}
"""What makes the tables of each file of figures."""

PAGES = {"failover": "single-writer.md"}
"""Where tables are that are not on the page of benchmarks."""


if __name__ == "__main__":
    sys.exit(main())
