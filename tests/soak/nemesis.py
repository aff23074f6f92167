"""What goes wrong, one thing after another, and how long the pod's keys stay unwritten.

Each fault hits one pod. It is over when the other pod writes the keys that the faulty one had; then
what was broken is healed, and the next one waits until both pods write again.
"""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.soak.cluster import PODS, VOTERS, Cluster, until
from tests.soak.etcd import Leaders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


STAYS = frozenset({"kill -9 of the witness", "lossy links", "SIGSTOP of etcd"})
"""Faults that the writer survives."""

RETURNS = frozenset({"restart at once"})
"""Faults after which the pod's next process may be back before the other pod has taken over."""

ETCD_FROZEN_SECONDS = 1.0
"""More than three leases of the default."""

CUTS = frozenset({"cut off", "cut off, sends only", "cut off, hears only"})
"""Faults that hit whatever else runs on the host of the pod."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was made: which, to whom, and when."""

    kind: str
    pod: str
    at: float
    resumed_after: float
    """Until the last of the pod's keys had a write acknowledged: by the other pod if that is to
    take over. In seconds."""
    is_failover: bool
    leader: str | None = None
    """On etcd: the host whose member of etcd led it at that moment, if one did."""
    led_again_after: float | None = None
    """On etcd, of a cut: until the members of etcd that were not cut off had a leader among them.
    In seconds."""

    @property
    def label(self) -> str:
        """The kind, and of a cut on etcd whether it hit etcd's leader too."""
        if self.leader is None or self.kind not in CUTS:
            return self.kind
        return f"{self.kind}, etcd led from {'there' if self.leader == self.pod else 'elsewhere'}"


def summary(sample: list[float]) -> dict[str, float]:
    """The median, the 99th percentile and the worst of a sample."""
    ordered = sorted(sample)
    p50, p99 = (ordered[min(len(ordered) - 1, int(p * len(ordered)))] for p in (0.5, 0.99))
    return {"times": len(ordered), "p50": p50, "p99": p99, "worst": ordered[-1]}


class Tail:
    """The clients' log, followed: who carried out the newest write of each key, and when it began.

    The newest is the one that began last. An answer that a cut has held up says nothing of who
    writes now.
    """

    def __init__(self, log: Path) -> None:
        self._stream = log.open(encoding="utf-8")
        self._part = ""
        self.last: dict[str, tuple[str, float]] = {}
        self._since = 0.0
        self._first: dict[tuple[str, str], float] = {}

    def watch(self, since: float) -> None:
        """From now on, remembers the first write of each key by each writer after that time."""
        self._since = since
        self._first.clear()

    def first(self, key: str, writers: set[str]) -> float | None:
        """When the first write of the key by one of these was acknowledged."""
        found = [self._first[key, writer] for writer in writers if (key, writer) in self._first]
        return min(found, default=None)

    def read(self) -> None:
        """Takes in what was written since."""
        while line := self._stream.readline():
            self._part += line
            if not line.endswith("\n"):
                return
            write, self._part = json.loads(self._part), ""
            if write["ending"] == "acknowledged":
                _, newest = self.last.get(write["key"], ("", 0.0))
                if write["began_at"] > newest:
                    self.last[write["key"]] = (write["writer"], write["began_at"])
                if write["ended_at"] > self._since:
                    self._first.setdefault((write["key"], write["writer"]), write["ended_at"])

    def keys_of(self, pod: str) -> set[str]:
        """The keys that the pod wrote last."""
        self.read()
        return {key for key, (writer, _) in self.last.items() if writer == pod}


class Nemesis:
    """Makes faults on a cluster."""

    def __init__(self, cluster: Cluster, seed: int, *, is_leader_there: bool | None = None) -> None:
        """Faults on this cluster, by this seed.

        Args:
            is_leader_there: on etcd, whether its leader is on the host that is hit, each time;
                None leaves it to where it happens to be.

        """
        self._cluster = cluster
        self._is_leader_there = is_leader_there
        self._leaders = Leaders(cluster.leaders) if cluster.trial.is_on_etcd else None
        self._dice = random.Random(seed)
        self._tail = Tail(cluster.writes)
        self.kinds: dict[str, Callable[[str], float]] = {
            "kill -9": self._kill,
            "SIGSTOP": self._freeze,
            "cut off": self._cut_off,
            "cut off, sends only": self._deafen,
            "cut off, hears only": self._silence,
            "SIGSTOP of the service, then kill -9": self._late_effects,
            "drain": self._drain,
            "kill -9 of the witness": self._kill_witness,
            "restart at once": self._restart,
            "lossy links": self._loss,
        }
        if cluster.trial.guard == "pod":
            # Service and member are one process: SIGSTOP stops both, with writes in hand.
            del self.kinds["SIGSTOP of the service, then kill -9"]
        if cluster.trial.engine == "etcd-voters":
            self.kinds["SIGSTOP of etcd"] = self._freeze_etcd
        self._heal: Callable[[], None] = lambda: None

    def strike(self, kind: str | None = None) -> Fault:
        """Makes one fault, by chance if none is named, and waits until all is well again."""
        chosen = kind or self._dice.choice(list(self.kinds))
        is_failover = chosen not in STAYS
        pod = self._dice.choice(PODS)
        if self._is_leader_there is not None:
            self._cluster.lead_etcd_from(pod if self._is_leader_there else self._other(pod))
            self._settle()
        until(lambda: len(self._tail.keys_of(pod)) > 0, f"{pod} writes something")
        keys = self._tail.keys_of(pod)
        may_stay = chosen in STAYS | RETURNS
        writers = set(PODS) if may_stay else {self._other(pod)}
        self._heal = lambda: None
        self._tail.watch(time.monotonic())
        at = self.kinds[chosen](pod)

        def resumed() -> list[float]:
            self._tail.read()
            firsts = [self._tail.first(key, writers) for key in keys]
            return [first for first in firsts if first is not None]

        until(lambda: len(resumed()) == len(keys), f"{chosen} of {pod}: written again")
        resumed_after = max(0.0, max(resumed()) - at)
        leader = self._leaders.leader(at) if self._leaders else None
        led_again = self._leaders.led_again(at, pod) if self._leaders and chosen in CUTS else None
        self._heal()
        self._settle()
        return Fault(chosen, pod, at, resumed_after, is_failover, leader, led_again)

    def _settle(self) -> None:
        """Returns when both pods write."""
        since = time.monotonic()

        def writes(pod: str) -> bool:
            keys = self._tail.keys_of(pod)
            return any(self._tail.last[key][1] > since for key in keys)

        until(lambda: all(writes(pod) for pod in PODS), "both pods write")

    def _other(self, pod: str) -> str:
        return PODS[1 - PODS.index(pod)]

    def _peers(self, pod: str) -> list[str]:
        """Everybody but the store: what a cut-off pod still has in hand may reach that."""
        return [host for host in (*VOTERS, "client") if host != pod]

    def _strike(self, name: str, number: signal.Signals) -> float:
        """Sends a signal; returns when."""
        at = time.monotonic()
        self._cluster.signal(name, number)
        return at

    def _restarts(self, *names: str) -> None:
        def heal() -> None:
            for name in names:
                self._cluster.start_node(name)

        self._heal = heal

    def _kill(self, pod: str) -> float:
        at = self._strike(pod, signal.SIGKILL)
        self._restarts(pod)
        return at

    def _restart(self, pod: str) -> float:
        at = self._strike(pod, signal.SIGKILL)
        self._cluster.start_node(pod)
        return at

    def _freeze(self, pod: str) -> float:
        at = self._strike(pod, signal.SIGSTOP)
        self._heal = lambda: self._cluster.signal(pod, signal.SIGCONT)
        return at

    def _cut_off(self, pod: str) -> float:
        at = time.monotonic()
        self._cluster.hosts.isolate(pod, self._peers(pod))
        self._heal = self._cluster.hosts.heal_all
        return at

    def _deafen(self, pod: str) -> float:
        at = time.monotonic()
        for peer in self._peers(pod):
            self._cluster.hosts.cut(peer, pod)
        self._heal = self._cluster.hosts.heal_all
        return at

    def _silence(self, pod: str) -> float:
        at = time.monotonic()
        for peer in self._peers(pod):
            self._cluster.hosts.cut(pod, peer)
        self._heal = self._cluster.hosts.heal_all
        return at

    def _late_effects(self, pod: str) -> float:
        """What the service has in hand reaches the store when another pod has long taken over."""
        service = f"service-{pod}"
        self._cluster.signal(service, signal.SIGSTOP)
        time.sleep(0.02)  # a fault lasts; not a poll
        at = self._strike(pod, signal.SIGKILL)

        def heal() -> None:
            self._cluster.signal(service, signal.SIGCONT)
            self._cluster.start_node(pod)

        self._heal = heal
        return at

    def _drain(self, pod: str) -> float:
        at = self._cluster.drain(pod)

        def heal() -> None:
            # Draining is for the process: the next one joins as active.
            self._cluster.signal(pod, signal.SIGKILL)
            self._cluster.start_node(pod)

        self._heal = heal
        return at

    def _kill_witness(self, _pod: str) -> float:
        if "witness" in self._cluster.processes:
            self._cluster.signal("witness", signal.SIGKILL)
            self._restarts("witness")
        return time.monotonic()

    def _freeze_etcd(self, _pod: str) -> float:
        """All of etcd stops for longer than leases last; what counts is written after that."""
        members = [f"etcd-{name}" for name in VOTERS]
        for member in members:
            self._cluster.signal(member, signal.SIGSTOP)

        def heal() -> None:
            for member in members:
                self._cluster.signal(member, signal.SIGCONT)

        self._heal = heal
        time.sleep(ETCD_FROZEN_SECONDS)  # a fault lasts; not a poll
        self._tail.read()
        at = time.monotonic()
        self._tail.watch(at)
        return at

    def _loss(self, pod: str) -> float:
        """Short losses on the links of a pod, in both directions."""
        at = time.monotonic()
        end = at + 1.0
        while time.monotonic() < end:
            peer, hosts = self._dice.choice(self._peers(pod)), self._cluster.hosts
            pair = (pod, peer) if self._dice.random() < 0.5 else (peer, pod)
            hosts.cut(*pair)
            time.sleep(self._dice.uniform(0.005, 0.04))  # a fault lasts; not a poll
            hosts.heal(*pair)
            time.sleep(self._dice.uniform(0.0, 0.03))  # a fault lasts; not a poll
        return at
