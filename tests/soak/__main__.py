"""``python -m tests.soak``: trials for a time or a number of failovers, then the verdict.

Exit codes: 0 every promise was kept, 1 one was broken, 2 the trial could not be run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.soak.cluster import HOSTS, Cluster, Trial, busy
from tests.soak.history import Verdict, judge, read_effects, read_owners, read_writes
from tests.soak.hosts import Hosts, become_root
from tests.soak.nemesis import Fault, Nemesis, summary


def main() -> int:
    """Runs what the command line asks for."""
    arguments = _arguments()
    try:
        become_root()
    except OSError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    trial = Trial(
        engine=arguments.engine, lease=arguments.lease, priority=arguments.priority,
        guard=arguments.guard,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="soak-") as directory, busy(arguments.busy):
        place = arguments.keep or Path(directory)
        place.mkdir(parents=True, exist_ok=True)
        faults, verdict = run(trial, place, arguments)
    report(trial, faults, verdict, arguments)
    return 0 if verdict.held else 1


def run(trial: Trial, place: Path, arguments: argparse.Namespace) -> tuple[list[Fault], Verdict]:
    """Runs one trial; returns the faults that were made and what the history shows."""
    faults: list[Fault] = []
    with Hosts.start(HOSTS) as hosts, Cluster.start(trial, hosts, place) as cluster:
        there = {"there": True, "elsewhere": False}.get(arguments.leader)
        nemesis = Nemesis(cluster, arguments.seed, is_leader_there=there)
        end = time.monotonic() + arguments.seconds
        kinds = list(nemesis.kinds) if arguments.each else []
        named = itertools.cycle(arguments.fault or [None])
        failovers = 0
        while time.monotonic() < end and failovers < arguments.failovers:
            if arguments.each and not kinds:
                break
            kind = kinds.pop(0) if arguments.each else next(named)
            fault = nemesis.strike(kind)
            faults.append(fault)
            with (place / "faults.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(fault)) + "\n")
            failovers += fault.is_failover
            took = f"{fault.resumed_after * 1e3:7.0f} ms"
            if fault.led_again_after is not None:
                took += f"  etcd led again after {fault.led_again_after * 1e3:.0f} ms"
            print(f"{len(faults):4d}  {fault.pod}  {fault.label:46s} {took}", flush=True)
        cluster.end_writers()
        verdict = judge(
            read_effects(cluster.effects), read_writes(cluster.writes), read_owners(cluster.owners)
        )
    return faults, verdict


def report(
    trial: Trial, faults: list[Fault], verdict: Verdict, arguments: argparse.Namespace
) -> None:
    """Prints the figures, and writes them to the file that was asked for."""
    times: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        times[fault.label].append(fault.resumed_after * 1e3)
        if fault.led_again_after is not None and fault.leader == fault.pod:
            times[f"{fault.kind}: etcd led again"].append(fault.led_again_after * 1e3)
    print(f"\n{'until all keys of the pod are written again, ms':50s} times   p50   p99 worst")
    figures: dict[str, Any] = {}
    for kind, sample in sorted(times.items()):
        figures[kind] = summary(sample)
        row = figures[kind]
        print(
            f"{kind:50s} {row['times']:5d} {row['p50']:5.0f} {row['p99']:5.0f} {row['worst']:5.0f}"
        )
    failovers = sum(fault.is_failover for fault in faults)
    print(
        f"\n{len(faults)} faults, {failovers} failovers; {verdict.effects} effects reached the "
        f"store, {verdict.fenced} of them late and fenced; writes: {dict(verdict.endings)}"
    )
    for violation in verdict.violations[:20]:
        print(f"VIOLATION: {violation}")
    print(f"{len(verdict.violations)} violations")
    if arguments.report:
        document = {
            "engine": trial.engine, "guard": trial.guard, "lease": trial.lease,
            "priority": trial.priority, "busy": arguments.busy, "seed": arguments.seed,
            "faults": len(faults), "failovers": failovers, "effects": verdict.effects,
            "fenced": verdict.fenced, "writes": dict(verdict.endings),
            "violations": verdict.violations, "ms": figures,
        }  # fmt: skip
        arguments.report.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long, at most")
    parser.add_argument("--failovers", type=int, default=1 << 30, help="how many, at most")
    parser.add_argument("--each", action="store_true", help="each kind of fault once")
    parser.add_argument(
        "--fault", action="append",
        help="this kind of fault alone; several times: these kinds in turn",
    )  # fmt: skip
    parser.add_argument(
        "--leader", choices=["there", "elsewhere"],
        help="on etcd: whether its leader is moved to the host that is hit, before each fault",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--engine", choices=["embedded", "etcd", "etcd-voters"], default="embedded",
        help="what holds the record, and what grants the leases: voters of ours both, etcd both, "
        "or etcd the record and voters of ours the leases",
    )  # fmt: skip
    parser.add_argument(
        "--guard", choices=["sidecar", "pod"], default="sidecar",
        help="what guards a pod: a sidecar in front of a service over gRPC, or the service itself, "
        "over gRPC and ZeroMQ",
    )  # fmt: skip
    parser.add_argument("--lease", default="default", help="default, tight or slow")
    parser.add_argument("--priority", choices=["realtime", "ordinary"], default="realtime")
    parser.add_argument("--busy", type=int, default=0, help="so many busy processes beside it")
    parser.add_argument("--report", type=Path, help="where to write the figures, as JSON")
    parser.add_argument("--keep", type=Path, help="where to leave logs and configurations")
    arguments = parser.parse_args()
    if arguments.keep and arguments.keep.exists() and any(arguments.keep.iterdir()):
        # Logs are appended to: the judge would take two histories for one.
        parser.error(f"--keep {arguments.keep}: not empty; name a directory of this trial's own")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
