"""Runs the benchmarks of the ring in Rust and gathers what they measured.

python -m benches.ring --json bench-report/ring.json

Beside that file it writes movement.json, heirs.json and ratios.json: what the programs of the same
names in rust/core/examples print. `--only movement heirs ratios` leaves criterion's part out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashroute.bench import machine_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = ("cargo", "bench", "--package", "hashroute-core")
EXAMPLE = ("cargo", "run", "--quiet", "--release", "--package", "hashroute-core", "--example")
# Each with what it is told: histories of every kind, and rounds of every pair.
EXAMPLES = {"movement": ("20",), "heirs": (), "ratios": ("201",)}
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[1] / "target"))
CRITERION = TARGET / "criterion"


def main() -> int:
    """Runs the benchmarks; returns 0, or 2 if they could not run."""
    parser = argparse.ArgumentParser(prog="python -m benches.ring")
    parser.add_argument("--json", type=Path, required=True, help="where to write the figures")
    choices = ("criterion", *EXAMPLES)
    parser.add_argument("--only", nargs="+", choices=choices, default=choices, help="which parts")
    arguments = parser.parse_args()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    facts = {**machine_facts(), "rustc": _rustc_version()}
    if "criterion" in arguments.only:
        started = time.time()
        if subprocess.run(COMMAND, check=False).returncode != 0:
            return _failed(COMMAND)
        document = {
            "format": "hashroute-bench-ring/1",
            "command": "python -m benches.ring --json bench-report/ring.json",
            "facts": facts,
            "benchmarks": sorted(_measured_since(started), key=_place_in_table),
        }
        _write(arguments.json, document)
    for name, told in EXAMPLES.items():
        if name not in arguments.only:
            continue
        command = (*EXAMPLE, name, "--", *told, "--json")
        run = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if run.returncode != 0:
            return _failed(command)
        again = f"python -m benches.ring --json bench-report/ring.json --only {name}"
        document = {"command": again, "facts": facts, **json.loads(run.stdout)}
        _write(arguments.json.with_name(f"{name}.json"), document)
    return 0


def _failed(command: tuple[str, ...]) -> int:
    print(f"benches.ring: `{' '.join(command)}` failed; it says why above", file=sys.stderr)
    return 2


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _measured_since(started: float) -> Iterator[dict[str, Any]]:
    """Yields the benchmarks of this run; criterion leaves those of earlier ones beside them."""
    for estimates_path in CRITERION.glob("**/new/estimates.json"):
        if estimates_path.stat().st_mtime < started:
            continue
        identity = json.loads(estimates_path.with_name("benchmark.json").read_text("utf-8"))
        median = json.loads(estimates_path.read_text("utf-8"))["median"]
        interval = median["confidence_interval"]
        yield {
            "group": identity["group_id"],
            "function": identity["function_id"] or "",
            "size": identity["value_str"] or "",
            "elements": (identity["throughput"] or {}).get("Elements", 1),
            "median_ns": median["point_estimate"],
            "low_ns": interval["lower_bound"],
            "high_ns": interval["upper_bound"],
        }


def _place_in_table(entry: dict[str, Any]) -> tuple[str, str, int, str]:
    size: str = entry["size"]
    return entry["group"], entry["function"], int(size) if size.isdigit() else 0, size


def _rustc_version() -> str:
    printed = subprocess.run(["rustc", "--version"], capture_output=True, check=True, text=True)
    return printed.stdout.split()[1]


if __name__ == "__main__":
    sys.exit(main())
