"""Counts the instructions of the lookup, the build and one change, against a record.

Counts do not wobble as times do, so a small regression shows on any machine. Exits 1 if a count
rose by more than `TOLERANCE`; with --record, writes benches/instructions.json anew.
Needs valgrind; without it, or with another compiler than the record's, it says so and exits 0.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benches" / "instructions.json"
TOLERANCE = 0.02
# What `rust/core/examples/counted.rs` can do, and what each does before the work that counts.
WORK = {"lookup": "setup", "build": None, "follow": "build"}
RUN_SECONDS_MAX = 300


def main() -> int:
    """Prints one line a count and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the counts of today down")
    record = parser.parse_args().record
    if shutil.which("valgrind") is None:
        print("instructions: not counted, valgrind is missing: apt-get install valgrind")
        return 0
    compiler = output("rustc", "--version").strip()
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else None
    if not record and (known is None or known["compiler"] != compiler):
        before = "nothing was" if known is None else f"{known['compiler']} was"
        print(f"instructions: not compared, {before} recorded and this is {compiler}:")
        print("  look at the times, then run tools/instructions.py --record")
        return 0
    counts = count(build())
    if record:
        text = json.dumps({"compiler": compiler, "counts": counts}, indent=2)
        RECORD.write_text(text + "\n", encoding="utf-8")
    return compare(counts, counts if known is None or record else known["counts"])


def build() -> Path:
    """Builds the program that does the work and returns its path."""
    cargo = ("cargo", "build", "--release", "-p", "hashroute-core", "--example", "counted")
    lines = output(*cargo, "--message-format=json").splitlines()
    built = [json.loads(line) for line in lines if line.startswith("{")]
    return Path(next(one["executable"] for one in built if one.get("executable")))


def count(program: Path) -> dict[str, int]:
    """The instructions of each piece of work, without what comes before it."""
    names = {*WORK, *(before for before in WORK.values() if before)}
    totals = {name: total(program, name) for name in sorted(names)}
    return {name: totals[name] - (totals[before] if before else 0) for name, before in WORK.items()}


def total(program: Path, name: str) -> int:
    """All instructions of one run."""
    callgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    run = subprocess.run(
        [*callgrind, str(program), name],
        capture_output=True,
        text=True,
        check=True,
        timeout=RUN_SECONDS_MAX,
    )
    found = re.search(r"Collected\s*:\s*(\d+)", run.stderr)
    if found is None:
        raise SystemExit(f"instructions: valgrind did not say how many:\n{run.stderr}")
    return int(found.group(1))


def compare(counts: dict[str, int], known: dict[str, int]) -> int:
    """Prints each count beside the recorded one; 1 if one of them rose too far, else 0."""
    worse = 0
    for name, now in counts.items():
        ratio = now / known[name] if name in known else 1.0
        verdict = "ok"
        if ratio > 1 + TOLERANCE:
            verdict, worse = f"more than {TOLERANCE:.0%} above the record", 1
        elif ratio < 1 - TOLERANCE:
            verdict = "better than the record: --record keeps it"
        print(f"instructions: {name:8} {now:12,}  x {ratio:.3f}  {verdict}")
    return worse


def output(*command: str) -> str:
    """What a command prints; its complaints go to the terminal."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
