"""How `Ring.owner` scales over threads: `python -m benches.python.threads [--json FILE]`.

Threads ask at the same time, each for keys of its own: of one ring that they share, as
`ring.owner(key)` and by a bound method of their own; of a ring each; and `len`, for what the
interpreter's own loop does. CPU time of each thread's own, so that
neighbours on the machine do not count; what threads cost one another does. With the interpreter
lock a call costs the same whatever the number of threads, and they use one core together; free
of it (`python3.14t`) they use as many cores as they are, and the cost of a call must not rise.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hashroute import Ring
from hashroute.bench.machine import machine_facts
from hashroute.bench.suite import pod_ids, random_keys

KEY_COUNT = 1024
PASSES = 2_000
ROUNDS = 7
PODS = 16
NOT_TOGETHER = (
    "Some threads ran in turn, for want of free cores or by the interpreter lock: what they cost\n"
    "one another when they run together does not show there."
)


@dataclass(frozen=True)
class Scaling:
    """One way at one number of threads: medians over the rounds, with the extremes."""

    way: str
    threads: int
    cpu_ns_a_call: tuple[float, float, float]
    cores_used: tuple[float, float, float]


def main() -> None:
    """Measures, prints the table, and writes the JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    facts = machine_facts()
    results = measure(options.rounds)
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    print(f"\n{'way':<26}{'threads':>8}{'CPU ns a call':>26}{'x 1 thread':>12}{'cores used':>22}")
    for result in results:
        alone = next(one for one in results if (one.way, one.threads) == (result.way, 1))
        print(
            f"{result.way:<26}{result.threads:>8}{_shown(result.cpu_ns_a_call):>26}"
            f"{result.cpu_ns_a_call[0] / alone.cpu_ns_a_call[0]:>12.2f}"
            f"{_shown(result.cores_used):>22}"
        )
    if any(result.cores_used[0] < 0.75 * result.threads for result in results):
        print(f"\n{NOT_TOGETHER}")
    if options.json is not None:
        document = {"facts": facts, "scaling": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measure(rounds: int) -> list[Scaling]:
    """Times every way at every number of threads once a round, all in turn."""
    counts = [count for count in (1, 2, 4, 8) if count <= max(2, os.cpu_count() or 1)]
    cases = [(way, count) for way in WAYS for count in counts]
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for way, count in cases:
            taken[way, count].append(_timed(WAYS[way](count)))
    return [
        Scaling(
            way=way,
            threads=count,
            cpu_ns_a_call=_spread([cpu for cpu, _ in samples]),
            cores_used=_spread([cores for _, cores in samples]),
        )
        for (way, count), samples in taken.items()
    ]


Pass = Callable[[list[str]], object]
"""Asks once for each of the keys."""


def _by_name(count: int) -> list[Pass]:
    ring = Ring(pod_ids(PODS))

    def ask(keys: list[str]) -> None:
        for key in keys:
            ring.owner(key)

    return [ask] * count


def _shared(count: int) -> list[Pass]:
    ring = Ring(pod_ids(PODS))
    return [_one_by_one(ring.owner) for _ in range(count)]


def _apart(count: int) -> list[Pass]:
    pickled = pickle.dumps(Ring(pod_ids(PODS)))
    return [_one_by_one(pickle.loads(pickled).owner) for _ in range(count)]  # noqa: S301 - our own


def _nothing(count: int) -> list[Pass]:
    return [_one_by_one(len) for _ in range(count)]


def _one_by_one(function: Callable[[Any], object]) -> Pass:
    def ask(keys: list[str]) -> None:
        for key in keys:
            function(key)

    return ask


WAYS: dict[str, Callable[[int], list[Pass]]] = {
    "ring.owner(key), one ring": _by_name,
    "owner of one ring": _shared,
    "owner, a ring each": _apart,
    "len: a call, no work": _nothing,
}


def _timed(passes: list[Pass]) -> tuple[float, float]:
    """CPU nanoseconds a call, and CPU seconds of all threads by seconds on the wall."""
    together = threading.Barrier(len(passes))
    cpu_ns = [0] * len(passes)
    walls: list[tuple[int, int]] = [(0, 0)] * len(passes)

    def ask(place: int) -> None:
        ask_each = passes[place]
        keys = [f"{place}-{key}" for key in random_keys(KEY_COUNT)]
        together.wait()
        begun, cpu = time.perf_counter_ns(), time.thread_time_ns()
        for _ in range(PASSES):
            ask_each(keys)
        cpu_ns[place] = time.thread_time_ns() - cpu
        walls[place] = (begun, time.perf_counter_ns())

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(passes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_ns = max(end for _, end in walls) - min(begin for begin, _ in walls)
    return sum(cpu_ns) / (len(passes) * PASSES * KEY_COUNT), sum(cpu_ns) / wall_ns


def _spread(samples: list[float]) -> tuple[float, float, float]:
    return statistics.median(samples), min(samples), max(samples)


def _shown(spread: tuple[float, float, float]) -> str:
    return f"{spread[0]:.2f} ({spread[1]:.2f}-{spread[2]:.2f})"


if __name__ == "__main__":
    main()
