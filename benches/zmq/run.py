"""The ZeroMQ data plane beside libzmq's proxy: latency a hop adds and CPU time of a round trip.

    python -m benches.zmq.run --json bench-report/zmq.json

Driver, pods and proxy share one core, so that the figures are about work done, not about how the
scheduler spreads it. Each round runs every way once and starts its proxy anew; figures are medians
over the rounds. The driver, the pods and the proxy to compare with are one C program on libzmq,
built here into target/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashroute.bench import machine_facts

from benches.grpc.processes import BenchError, cpu_seconds, resident_megabytes
from benches.zmq.paths import PROGRAM, WAYS, Setting, Way, build, pod, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTSTANDING = {"alone": 1, "saturated": 100}


def main() -> int:
    """Runs the benchmark; returns 0, or 2 if it could not run."""
    arguments = _arguments()
    try:
        build()
        document = _run(arguments)
    except BenchError as error:
        print(f"benches.zmq.run: {error}", file=sys.stderr)
        return 2
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.zmq.run")
    parser.add_argument("--json", type=Path, required=True, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="load per way, size and round (%(default)s)"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 1024], help="bytes of a body (%(default)s)"
    )
    parser.add_argument(
        "--core",
        type=int,
        default=max(os.sched_getaffinity(0)),
        help="the core that driver, pods and proxy share (%(default)s)",
    )
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    facts = {**machine_facts(), **versions()}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first, second = (stack.enter_context(pod(arguments.core, directory)) for _ in range(2))
        setting = Setting((first, second), arguments.core, directory)
        runs = []
        for number in range(arguments.rounds):
            for name, way in WAYS.items():
                print(f"round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr)
                with way(setting) as standing:
                    runs.extend(
                        {"round": number, "way": name, "bytes": size, **figures}
                        for size, figures in _figures(standing, arguments)
                    )
    sizes = " ".join(map(str, arguments.sizes))
    return {
        "format": "hashroute-bench-zmq/1",
        "command": "python -m benches.zmq.run --json bench-report/zmq.json"
        f" --rounds {arguments.rounds} --seconds {arguments.seconds} --sizes {sizes}",
        "facts": facts,
        "runs": runs,
    }


def _figures(way: Way, arguments: argparse.Namespace) -> Iterator[tuple[int, dict[str, Any]]]:
    """Loads a way, alone and saturated; CPU time is the proxy's, for every call it carried."""
    for size in arguments.sizes:
        figures: dict[str, Any] = {}
        for name, outstanding in OUTSTANDING.items():
            before = cpu_seconds(way.pid) if way.pid else 0.0
            load = _load(way.address, outstanding, size, arguments)
            spent = cpu_seconds(way.pid) - before if way.pid else 0.0
            figures[name] = {
                **load,
                "cpu_us": spent * 1e6 / load["calls"],
                "calls_per_s": load["calls"] / load["elapsed_s"],
            }
        figures["resident_mb"] = resident_megabytes(way.pid) if way.pid else 0.0
        yield size, figures


def _load(
    address: str, outstanding: int, size: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    load = (PROGRAM, "load", f"tcp://{address}", outstanding, arguments.seconds, size)
    pinned = ["taskset", "--cpu-list", str(arguments.core), *map(str, load)]
    done = subprocess.run(
        pinned, capture_output=True, check=False, text=True, timeout=arguments.seconds + 30
    )
    if done.returncode != 0:
        raise BenchError(f"the load on {address} broke off: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main())
