"""The peer: two processes that own a key by turns, by etcd's own leases, on the same etcd.

Each runs on the host of a pod and talks to the member of etcd there. The one that owns the key is
killed; what counts is when the other one owns it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tests.soak.cluster import PODS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.cluster import Cluster

ETCD_PORT = 2379
TRIES_MAX = 20


class EtcdOwners:
    """The owner of the key, and the one that waits for it; both end with the block."""

    def __init__(self, cluster: Cluster, place: Path, seed: int) -> None:
        self._cluster = cluster
        self._place = place
        self._dice = random.Random(seed)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._owner, self._waiting = PODS

    def __enter__(self) -> Self:
        try:
            for host, word in ((self._owner, "owns_at"), (self._waiting, "waits")):
                self._start(host, word)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def kill(self) -> dict[str, Any]:
        """Kills the owner at any time between two renewals; the other one owns the key then.

        Raises:
            RuntimeError: time and again the owner had lost its lease before it was killed.

        """
        for _ in range(TRIES_MAX):
            time.sleep(self._dice.uniform(0.0, 1.0))
            killed = self._processes[self._owner]
            at = time.monotonic()
            killed.kill()
            killed.wait()
            told = self._read(self._waiting, "owns_at")
            dead, self._owner, self._waiting = self._owner, self._waiting, self._owner
            self._start(dead, "waits")
            # On a busy machine a renewal may be late, and the key goes to the other one unasked.
            if told["owns_at"] > at:
                return {"ms": (told["owns_at"] - at) * 1e3, "ttl_seconds": told["ttl_seconds"]}
        raise RuntimeError(f"no lease of etcd held for a second, {TRIES_MAX} times")

    def _start(self, host: str, word: str) -> None:
        url = f"http://{self._cluster.hosts[host].address}:{ETCD_PORT}"
        words = [sys.executable, "-m", "benches.failover.etcd_lease", url]
        with (self._place / f"etcd-owner-{host}.log").open("ab") as log:
            self._processes[host] = subprocess.Popen(
                self._cluster.hosts[host].command(words), stdout=subprocess.PIPE, stderr=log
            )
        self._read(host, word)

    def _read(self, host: str, word: str) -> dict[str, Any]:
        stream = self._processes[host].stdout
        assert stream is not None
        for line in stream:
            told: dict[str, Any] = json.loads(line)
            if word in told:
                return told
        raise RuntimeError(f"the process on {host} ended: see etcd-owner-{host}.log")
