"""One visit to one cluster: it is started, every fault is made on it, idle and busy, and it ends.

The cluster, the faults and the clock are those of the trials (``tests/soak``), not copies of them:
what is timed here is then what the judge there has found to keep the promises, and the history of
each visit is judged here too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benches.failover.etcd_owner import EtcdOwners
from tests.soak.cluster import HOSTS, Cluster, Trial, busy
from tests.soak.history import judge, read_effects, read_owners, read_writes
from tests.soak.hosts import Hosts
from tests.soak.nemesis import Nemesis, summary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.soak.cluster import Engine

FAULTS = ("kill -9", "SIGSTOP", "cut off", "cut off, sends only")
MOVE = "drain"
BUSY = (0, 2)
"""So many busy processes beside the cluster: none, and one for each core of a small machine."""

QUIET_SECONDS = 2.0
"""Before each fault: one is timed on a cluster at rest, not on one that still mends the last one.
Before a move the second half of it shows how long writes take here without one."""

Sample = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is started: a row of the table, idle and busy."""

    engine: Engine
    lease: str
    priority: str

    @property
    def trial(self) -> Trial:
        """The cluster of it: unmodified grpcio clients write, through a router."""
        return Trial(
            engine=self.engine,
            lease=self.lease,
            priority=self.priority,
            kinds=("grpc",),
        )

    def __str__(self) -> str:
        return f"{self.engine}, {self.lease} lease, {self.priority}"


SETTINGS = (
    *(
        Setting(engine="embedded", lease=lease, priority=priority)
        for lease in ("default", "tight")
        for priority in ("realtime", "ordinary")
    ),
    Setting(engine="etcd", lease="default", priority="realtime"),
    *(
        Setting(engine="etcd-voters", lease=lease, priority="realtime")
        for lease in ("default", "tight")
    ),
)


@dataclass
class Visit:
    """What one visit measured."""

    faults: list[Sample]
    moves: list[Sample]
    peer: list[Sample]
    violations: list[str]


def visit(setting: Setting, place: Path, *, faults: int, seed: int) -> Visit:
    """Starts a cluster, makes each kind of fault ``faults`` times idle and busy, and ends it."""
    found = Visit([], [], [], [])
    with Hosts.start(HOSTS) as hosts, Cluster.start(setting.trial, hosts, place) as cluster:
        nemesis = Nemesis(cluster, seed)
        for count in BUSY:
            about = {
                "engine": setting.engine, "lease": setting.lease,
                "priority": setting.priority, "busy": count,
            }  # fmt: skip
            with busy(count):
                for _ in range(faults):
                    time.sleep(QUIET_SECONDS)
                    fault = nemesis.strike(MOVE)
                    end = fault.at + fault.resumed_after
                    found.moves.append({**about, "pod": fault.pod, "at": fault.at, "end": end})
                for kind in FAULTS * faults:
                    time.sleep(QUIET_SECONDS)
                    fault = nemesis.strike(kind)
                    ms = fault.resumed_after * 1e3
                    found.faults.append({**about, "kind": kind, "pod": fault.pod, "ms": ms})
                if setting.engine == "etcd":
                    with EtcdOwners(cluster, place, seed) as owners:
                        found.peer += [{"busy": count, **owners.kill()} for _ in range(faults)]
        cluster.end_writers()
        verdict = judge(
            read_effects(cluster.effects), read_writes(cluster.writes), read_owners(cluster.owners)
        )
        found.violations = [f"{setting}: {violation}" for violation in verdict.violations]
        writes = list(_writes(cluster.writes))
    for move in found.moves:
        move.update(_move(writes, move.pop("at"), move.pop("end")))
        if move["refused"]:
            found.violations.append(f"{setting}: {move['refused']} writes refused by a move")
    return found


def _writes(log: Path) -> Iterator[tuple[float, float, str]]:
    """Each write of the log: when it began, when it ended, and how."""
    for line in log.read_text(encoding="utf-8").splitlines():
        write = json.loads(line)
        yield write["began_at"], write["ended_at"], write["ending"]


def _move(writes: list[tuple[float, float, str]], at: float, end: float) -> Sample:
    """What clients saw of a move, and of as long a time at a time before it.

    A write counts for a move if it was under way between the wish for it and the first write of the
    last key at the other pod; and for the time before if it began and ended in the quiet second.
    """
    window, quiet_since = end - at, at - QUIET_SECONDS / 2
    recent = [write for write in writes if write[0] > quiet_since]
    during = [write for write in recent if write[0] < end and write[1] > at]
    spans = []
    # Of a move that took longer than the quiet second there is that one second beside it.
    for number in range(max(1, int((at - quiet_since) / window))):
        until = at - number * window
        spans.append([w for w in recent if until - window < w[1] <= until])
    longest = [max(ended - began for began, ended, _ in span) * 1e3 for span in spans if span]
    before = [(ended - began) * 1e3 for span in spans for began, ended, _ in span]
    usual = summary(before)
    return {
        "window_ms": window * 1e3,
        "writes": len(during),
        "longest_ms": max(ended - began for began, ended, _ in during) * 1e3,
        "refused": sum(ending == "refused" for *_, ending in during),
        "unknown": sum(ending == "unknown" for *_, ending in during),
        "before_longest_ms": longest,
        "before_p50_ms": usual["p50"],
        "before_p99_ms": usual["p99"],
    }
