"""The peer: two processes that own a key by turns, by etcd's own leases, on the same etcd.

Each runs on the host of a pod and talks to the member of etcd there. The one that owns the key is
killed; what counts is when the other one owns it.
"""

from __future__ import annotations

import json
import random
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tests.soak.cluster import PODS, SECONDS_MAX

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
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end(*self._processes)

    def kill(self) -> dict[str, Any]:
        """Kills the owner at any time between two renewals; the other one owns the key then.

        Raises:
            RuntimeError: time and again the owner had lost its lease before it was killed.

        """
        for _ in range(TRIES_MAX):
            time.sleep(self._dice.uniform(0.0, 1.0))
            at = time.monotonic()
            self._end(self._owner)
            told = self._read(self._waiting, "owns_at")
            self._owner, self._waiting = self._waiting, self._owner
            if "waits" not in self._start(self._waiting, "waits", "owns_at"):
                self._begin()
            # On a busy machine a renewal may be late, and the key goes to the other one unasked.
            if told["owns_at"] > at:
                return {"ms": (told["owns_at"] - at) * 1e3, "ttl_seconds": told["ttl_seconds"]}
        raise RuntimeError(f"no lease of etcd held for a second, {TRIES_MAX} times")

    def _begin(self) -> None:
        """One owns the key, and the other waits for it."""
        for _ in range(TRIES_MAX):
            self._end(*self._processes)
            self._start(self._owner, "owns_at")
            if "waits" in self._start(self._waiting, "waits", "owns_at"):
                return
        raise RuntimeError(f"no lease of etcd held for a second, {TRIES_MAX} times")

    def _end(self, *hosts: str) -> None:
        for host in hosts:
            process = self._processes.pop(host)
            process.kill()
            process.wait()

    def _start(self, host: str, *words: str) -> dict[str, Any]:
        """Starts a process; returns the first line that has one of these words."""
        url = f"http://{self._cluster.hosts[host].address}:{ETCD_PORT}"
        command = [sys.executable, "-m", "benches.failover.etcd_lease", url]
        with (self._place / f"etcd-owner-{host}.log").open("ab") as log:
            self._processes[host] = subprocess.Popen(
                self._cluster.hosts[host].command(command),
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        return self._read(host, *words)

    def _read(self, host: str, *words: str) -> dict[str, Any]:
        stream = self._processes[host].stdout
        assert stream is not None
        while select.select([stream], [], [], SECONDS_MAX)[0]:
            line = stream.readline()
            if not line:
                break
            told: dict[str, Any] = json.loads(line)
            if any(word in told for word in words):
                return told
        raise RuntimeError(f"the process on {host} ended or said nothing: no etcd, or no lease")
