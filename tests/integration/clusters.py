"""Clusters of real voters and members, all in the process of the test or beside it."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hashroute import Pod, Ring, Router, _hashroute
from hashroute.cluster import LEASES, node_settings
from hashroute.pod import join

from tests.integration.processes import SECONDS_MAX, Program, until

if TYPE_CHECKING:
    from hashroute.pod import Member

    from tests.integration.fenced_store import Store

CLUSTER = "test"
# Patient enough for a busy machine; a test of failures says "tight" or "default".
LEASE = "slow"


def free_address() -> str:
    """An address that nothing listens on; the next to listen there is the test's own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host, port = taken.getsockname()
    return f"{host}:{port}"


class Cluster:
    """Voters without pods, founded, for members and routers of the test; ends with its block."""

    def __init__(
        self,
        directory: Path,
        *,
        voters: int = 1,
        lease: str = LEASE,
        pods: tuple[str, ...] = ("pod-a", "pod-b"),
        groups: dict[str, list[str]] | None = None,
        slots: int = 1024,
    ) -> None:
        self.lease = lease
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.addresses = [free_address() for _ in range(voters)]
        self.voters = [self.vote(number) for number in range(voters)]
        self.operator = _hashroute.Operator(
            json.dumps(
                {
                    "cluster": CLUSTER,
                    "voters": self.addresses,
                    "tls": None,
                    "timeout_ms": int(SECONDS_MAX * 1000),
                }
            )
        )
        view = Ring(pods, slots=slots).to_json()
        self.operator.found(view, json.dumps(lease_json(lease)), json.dumps(groups or {}))

    def vote(self, number: int) -> _hashroute.Node:
        """Starts a voter, for the first time or again on what it left."""
        voter = _hashroute.Node(
            node_settings(
                cluster=CLUSTER,
                voters=self.addresses,
                tls=None,
                stale_after_seconds=1.0,
                listen=self.addresses[number],
                data=self._directory / f"voter-{number}",
                lease=self.lease,
                priority="ordinary",
                force=True,
            )
        )
        self._stack.callback(voter.stop, 0.0)
        return voter

    def join(self, pod: str | Pod, *, is_waited_for: bool = True) -> Member:
        """Joins as a pod; returns when it may write."""
        member = join(
            cluster=CLUSTER,
            voters=self.addresses,
            pod=Pod(pod) if isinstance(pod, str) else pod,
            lease=self.lease,
            priority="ordinary",
            stall_check_seconds=0,
            force=True,
        )
        self._stack.callback(member.leave, 0.0)
        if is_waited_for:
            member.wait_until_writing(SECONDS_MAX)
        return member

    def connect(self, **options) -> Router:
        """Returns a router that follows, and has the record of now."""
        router = Router.connect(self.addresses, cluster=CLUSTER, **options)
        self._stack.callback(router.close)
        return router

    def change(self, **change) -> int:
        """Makes a change of the record, such as `drain={"pod": "pod-a"}`."""
        return self.operator.change(json.dumps(change))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()


def lease_json(lease: str) -> dict[str, int]:
    """The numbers of a lease as an operator takes them."""
    numbers = LEASES[lease]
    return {
        "ttl_us": round(numbers.ttl_seconds * 1e6),
        "renewal_interval_us": round(numbers.renewal_interval_seconds * 1e6),
        "drift_ppm": numbers.drift_ppm,
        "margin_us": round(numbers.margin_seconds * 1e6),
    }


def key_of(ring: Ring, pod: str) -> str:
    """A key that this pod owns."""
    return next(key for key in map(str, range(100_000)) if ring.owner(key) == pod)


def until_epoch(member: Member, epoch: int) -> None:
    """Waits until the member goes by this record, or a newer one."""
    until(lambda: member.record is not None and member.record.epoch >= epoch, f"epoch {epoch}")


class GuardedPod(Program):
    """`guarded_pod.py` as a process, for a cluster; may be killed, frozen, and started again."""

    def __init__(self, kind: str, name: str, cluster: Cluster, store: Store) -> None:
        self.name = name
        self.address = free_address()
        self._arguments = (
            *(kind, name, f"tcp://{self.address}" if kind == "zmq" else self.address),
            *(json.dumps(cluster.addresses), store.address, cluster.lease),
        )
        self.start()

    def start(self) -> None:
        """Starts it, for the first time or again, and returns when it may write."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.guarded_pod", *self._arguments],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], SECONDS_MAX)
        assert readable, f"{self.name} did not start within {SECONDS_MAX} s"
        with self.process.stdout as output:
            assert output.readline() == b"ready\n"
