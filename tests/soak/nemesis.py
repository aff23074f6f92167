"""What goes wrong, one thing after another, and what it takes until the pod's keys are written again.

Each fault hits the pod that the caller names. It returns when the other pod writes the keys that the
faulty one had, heals what it broke, and waits until both pods write again.
"""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.soak.cluster import PODS, VOTERS, Cluster, until
from tests.soak.history import read_writes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that was made: which, to whom, and when."""

    kind: str
    pod: str
    at: float
    resumed_after: float
    """Until the first acknowledged write of the last of the pod's keys, in seconds."""
    is_failover: bool


class Tail:
    """The clients' log, followed: who wrote each key last, and when."""

    def __init__(self, log: Path) -> None:
        self._stream = log.open(encoding="utf-8")
        self._part = ""
        self.last: dict[str, tuple[str, float]] = {}

    def read(self) -> None:
        """Takes in what was written since."""
        while line := self._stream.readline():
            self._part += line
            if not line.endswith("\n"):
                return
            write, self._part = json.loads(self._part), ""
            if write["ending"] == "acknowledged":
                self.last[write["key"]] = (write["writer"], write["ended_at"])

    def keys_of(self, pod: str) -> set[str]:
        """The keys that the pod wrote last."""
        self.read()
        return {key for key, (writer, _) in self.last.items() if writer == pod}

    def written_after(self, keys: set[str], at: float) -> bool:
        """Whether each of the keys was written after that time."""
        self.read()
        return all(self.last[key][1] > at for key in keys)


class Nemesis:
    """Makes faults on a cluster."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._dice = random.Random(seed)
        self._tail = Tail(cluster.writes)
        self.kinds: dict[str, Callable[[str], None]] = {
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
        self._heal: Callable[[], None] = lambda: None

    def strike(self, kind: str | None = None) -> Fault:
        """Makes one fault, by chance if none is named, and waits until all is well again."""
        chosen = kind or self._dice.choice(list(self.kinds))
        pod = self._dice.choice(PODS)
        until(lambda: len(self._tail.keys_of(pod)) > 0, f"{pod} writes something")
        keys = self._tail.keys_of(pod)
        self._heal = lambda: None
        at = time.monotonic()
        self.kinds[chosen](pod)
        until(lambda: self._tail.written_after(keys, at), f"{chosen} of {pod}: written again")
        resumed_after = max(self._tail.last[key][1] for key in keys) - at
        first = self._first_writes(keys, at)
        resumed_after = max((ended for ended, _ in first.values()), default=at) - at
        is_failover = any(writer != pod for _, writer in first.values())
        self._heal()
        self._settle()
        return Fault(chosen, pod, at, resumed_after, is_failover)

    def _first_writes(self, keys: set[str], at: float) -> dict[str, tuple[float, str]]:
        first: dict[str, tuple[float, str]] = {}
        for write in read_writes(self._cluster.writes):
            key = write.value.split("/")[0]
            if write.ending == "acknowledged" and write.ended_at > at and key in keys:
                first.setdefault(key, (write.ended_at, write.writer or ""))
        return first

    def _settle(self) -> None:
        """Returns when both pods write."""
        since = time.monotonic()
        until(
            lambda: all(
                any(self._tail.last[key][1] > since for key in self._tail.keys_of(pod))
                for pod in PODS
            )
            and self._tail.keys_of(PODS[0]) != set()
            and self._tail.keys_of(PODS[1]) != set(),
            "both pods write",
        )

    def _other(self, pod: str) -> str:
        return PODS[1 - PODS.index(pod)]

    def _peers(self, pod: str) -> list[str]:
        """Everybody but the store: what a cut-off pod still has in hand may reach that."""
        return [host for host in (*VOTERS, "client") if host != pod]

    def _restarts(self, *names: str) -> None:
        def heal() -> None:
            for name in names:
                self._cluster.start_node(name)

        self._heal = heal

    def _kill(self, pod: str) -> None:
        self._cluster.signal(pod, signal.SIGKILL)
        self._restarts(pod)

    def _restart(self, pod: str) -> None:
        self._cluster.signal(pod, signal.SIGKILL)
        self._cluster.start_node(pod)

    def _freeze(self, pod: str) -> None:
        self._cluster.signal(pod, signal.SIGSTOP)
        self._heal = lambda: self._cluster.signal(pod, signal.SIGCONT)

    def _cut_off(self, pod: str) -> None:
        self._cluster.hosts.isolate(pod, self._peers(pod))
        self._heal = self._cluster.hosts.heal_all

    def _deafen(self, pod: str) -> None:
        for peer in self._peers(pod):
            self._cluster.hosts.cut(peer, pod)
        self._heal = self._cluster.hosts.heal_all

    def _silence(self, pod: str) -> None:
        for peer in self._peers(pod):
            self._cluster.hosts.cut(pod, peer)
        self._heal = self._cluster.hosts.heal_all

    def _late_effects(self, pod: str) -> None:
        """What the service has in hand reaches the store when another pod has long taken over."""
        service = f"service-{pod}"
        self._cluster.signal(service, signal.SIGSTOP)
        time.sleep(0.02)
        self._cluster.signal(pod, signal.SIGKILL)

        def heal() -> None:
            self._cluster.signal(service, signal.SIGCONT)
            self._cluster.start_node(pod)

        self._heal = heal

    def _drain(self, pod: str) -> None:
        self._cluster.hashroute("quorum", "drain", pod)

        def heal() -> None:
            # Draining is for the process: the next one joins as active.
            self._cluster.signal(pod, signal.SIGKILL)
            self._cluster.start_node(pod)

        self._heal = heal

    def _kill_witness(self, _pod: str) -> None:
        if "witness" in self._cluster.processes:
            self._cluster.signal("witness", signal.SIGKILL)
            self._restarts("witness")

    def _loss(self, pod: str) -> None:
        """Short losses on the links of a pod, in both directions."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            peer, hosts = self._dice.choice(self._peers(pod)), self._cluster.hosts
            pair = (pod, peer) if self._dice.random() < 0.5 else (peer, pod)
            hosts.cut(*pair)
            time.sleep(self._dice.uniform(0.005, 0.04))
            hosts.heal(*pair)
            time.sleep(self._dice.uniform(0.0, 0.03))
