"""The gRPC data plane beside its peers: latency a hop adds and CPU time it takes for a call.

    python -m benches.grpc.run --json bench-report/grpc.json

Driver, pods and proxy share one core, so that the figures are about work done, not about how the
scheduler spreads it. Each round runs every way once and starts its proxy anew; figures are medians
over the rounds. The examples `grpc_load` and `echo_pod` must be built in release mode.
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

from benches.grpc.paths import WAYS, Setting, Way, versions
from benches.grpc.processes import (
    BenchError,
    cpu_seconds,
    free_address,
    resident_megabytes,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target"))
EXAMPLES = TARGET / "release" / "examples"
OUTSTANDING = {"alone": 1, "saturated": 64}


def main() -> int:
    """Runs the benchmark; returns 0, or 2 if it could not run."""
    arguments = _arguments()
    try:
        document = _run(arguments)
    except BenchError as error:
        print(f"benches.grpc.run: {error}", file=sys.stderr)
        return 2
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.grpc.run")
    parser.add_argument("--json", type=Path, required=True, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="load per way, load and round (%(default)s)"
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
        pods = tuple(_pods(stack, directory, arguments.core))
        runs = []
        for number in range(arguments.rounds):
            for name, way in WAYS.items():
                print(f"round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr)
                with way(Setting((pods[0], pods[1]), arguments.core, directory)) as standing:
                    figures = _figures(standing, arguments)
                runs.append({"round": number, "way": name, **figures})
    return {
        "format": "hashroute-bench-grpc/1",
        "command": "python -m benches.grpc.run --json bench-report/grpc.json"
        f" --rounds {arguments.rounds} --seconds {arguments.seconds}",
        "facts": facts,
        "runs": runs,
    }


def _pods(stack: ExitStack, directory: Path, core: int) -> Iterator[str]:
    for _ in range(2):
        address = free_address()
        pod = running(
            [_example("echo_pod"), address], core=core, listens=address, directory=directory
        )
        stack.enter_context(pod)
        yield address


def _figures(way: Way, arguments: argparse.Namespace) -> dict[str, Any]:
    """Loads a way, alone and saturated; CPU time is the proxy's, for every call it carried."""
    figures: dict[str, Any] = {}
    for name, outstanding in OUTSTANDING.items():
        before = cpu_seconds(way.pid) if way.pid else 0.0
        load = _load(way.address, outstanding, arguments)
        spent = cpu_seconds(way.pid) - before if way.pid else 0.0
        figures[name] = {
            **load,
            "cpu_us": spent * 1e6 / load["calls"],
            "calls_per_s": load["calls"] / load["elapsed_s"],
        }
    figures["resident_mb"] = resident_megabytes(way.pid) if way.pid else 0.0
    return figures


def _load(address: str, outstanding: int, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [_example("grpc_load"), address, str(outstanding), str(arguments.seconds)]
    pinned = ["taskset", "--cpu-list", str(arguments.core), *map(str, command)]
    done = subprocess.run(
        pinned, capture_output=True, check=False, text=True, timeout=arguments.seconds + 30
    )
    if done.returncode != 0:
        raise BenchError(f"the load on {address} broke off: {done.stderr.strip()}")
    load: dict[str, Any] = json.loads(done.stdout)
    return load


def _example(name: str) -> Path:
    built = EXAMPLES / name
    if not built.exists():
        raise BenchError(
            f"{name} is not built: cargo build --release --package hashroute-sidecar --examples"
        )
    return built


if __name__ == "__main__":
    sys.exit(main())
