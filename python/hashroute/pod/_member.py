"""The member of a cluster: joins, owns, drains, leaves."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from hashroute._hashroute import Node
from hashroute._ring import Pod, Ring
from hashroute.cluster import Lease, LeaseName, Priority, StrPath, Tls, node_settings
from hashroute.errors import ConfigurationError, InternalError, NoLeaseError
from hashroute.pod._record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from hashroute._hashroute import Guard
    from hashroute._ring import Key

# How often somebody who waits for the first lease looks for it, between two records.
LOOK_SECONDS = 0.005
DRAIN_SECONDS = 10.0
GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member at one moment. Counters count from its start.

    Attributes:
        pod: its pod.
        incarnation: its process: 16 hexadecimal digits, drawn at its start.
        epoch: of the newest record that it knows; 0 if it knows none.
        is_stale: whether no majority of voters was heard lately.
        is_named: whether the record names this very process as the pod's writer.
        holds_lease: whether it may write what it owns, at this moment.
        lease_age_seconds: for how long without a gap; None without a lease.
        lease_margin_seconds: how much of the lease is left; None without one.
        slots: how many slots it owns.
        groups: the groups that it leads.
        admitted: writes admitted.
        under_way: writes admitted that have not ended.
        refused: writes refused, by the word of the refusal.
        recovery_promise_seconds: the longest time to a new writer after a failure that the stalls
            measured on this machine allow to promise.
        warnings: trouble that is coming, each as a sentence that says what to do.
    """

    pod: str
    incarnation: str
    epoch: int
    is_stale: bool
    is_named: bool
    holds_lease: bool
    lease_age_seconds: float | None
    lease_margin_seconds: float | None
    slots: int
    groups: tuple[str, ...]
    admitted: int
    under_way: int
    refused: Mapping[str, int]
    recovery_promise_seconds: float
    warnings: tuple[str, ...]


class Member:
    """This process as the member of a cluster for one pod: it may write what the pod owns.

    Made by :func:`join` or :meth:`from_config`; as a ``with`` block it leaves at the end. Safe to
    share between threads. A process that was forked off is no member: join after the fork.
    """

    def __init__(self, node: Node, pod: str) -> None:
        guard = node.guard
        if guard is None:
            raise InternalError(f"the node has no guard for the pod {pod!r}")
        self._node = node
        self._pod = pod
        self._guard = guard
        self._ring: Ring | None = None

    @classmethod
    def from_config(cls, file: StrPath) -> Self:
        """Joins as the file says: ``[quorum]`` with ``pod``, and that pod in ``[pods]``.

        Raises:
            ConfigurationFileError: the file cannot be read, or holds errors.
            ConfigurationError: it makes no member: there is no ``[quorum]``, or no ``pod`` in it.
            StartError: the node could not start; nothing is left running.
        """
        # The models of the configuration take a tenth of a second to import.
        from hashroute.config import load
        from hashroute.config.settings import node_settings_of

        loaded = load(Path(os.fspath(file)))
        quorum = loaded.configuration.quorum
        if quorum is None or quorum.pod is None:
            raise ConfigurationError(
                f"{file}: no member is described there; write a table [quorum] with cluster, "
                "voters, and the pod of [pods] that this process is"
            )
        return cls(Node(json.dumps(node_settings_of(loaded))), quorum.pod)

    @property
    def pod(self) -> str:
        """The id of the pod."""
        return self._pod

    @property
    def guard(self) -> Guard:
        """What admits the pod's writes."""
        return self._guard

    @property
    def address(self) -> str | None:
        """Where this process's own voter listens; None if it does not vote."""
        return self._node.address

    @property
    def record(self) -> Record | None:
        """The newest record that this process knows; None if no voter has told it one yet."""
        text = self._node.record_json()
        return None if text is None else Record.from_json(text)

    @property
    def ring(self) -> Ring | None:
        """The ring of the newest record; None if there is none, or no pod owns slots."""
        view = self._node.view()
        if view is None:
            return None
        ring = self._ring
        if ring is None or ring.epoch != view.epoch:
            # Two threads that come here together make equal rings; either may stay.
            ring = self._ring = Ring._of(view, ring)  # noqa: SLF001 - of this package
        return ring

    def owns(self, key: Key) -> bool:
        """Returns whether the newest record gives the key to this process.

        A hint, such as for warming a cache. Whether a write may be accepted only the guard knows.
        """
        ring, record = self.ring, self.record
        if ring is None or record is None:
            return False
        return ring.owner(key) == self._pod and record.writers.get(self._pod) == self._incarnation()

    def wait_until_writing(self, timeout_seconds: float) -> None:
        """Waits until this process holds a lease, and so may write what it owns.

        Raises:
            NoLeaseError: it does not after ``timeout_seconds``; the text says what is missing.
        """
        deadline = time.monotonic() + timeout_seconds
        while not (status := self.status()).holds_lease:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoLeaseError(_why_not_writing(status, timeout_seconds), epoch=status.epoch)
            # A record wakes it at once; the first grants after it come within a round trip.
            self._node.wait_for_epoch(status.epoch, min(left, LOOK_SECONDS))

    def drain(self, timeout_seconds: float = DRAIN_SECONDS) -> int:
        """Gives up everything that the pod owns, in good order; returns the record's epoch.

        No write is refused for longer than a round: what was admitted ends here, and the next one
        is admitted by the new owner. The process stays a member without slots until it ends; the
        pod's next process owns its share again.

        Raises:
            ChangeRefusedError: it was not agreed on; nothing was given up.
            DeadlineExceededError: no answer in time; it may yet be made.
            UnavailableError: nobody who could make the change can be reached.
            ClosedError: this process has left.
        """
        return self._node.drain(timeout_seconds)

    def leave(self, grace_seconds: float = GRACE_SECONDS) -> bool:
        """Ends the membership: admits nothing more, waits for the writes under way, and stops.

        Returns whether all of them ended within ``grace_seconds``. Then the lease is given back,
        and another pod may write at once; else it runs out by itself. Drain before, if others are
        to take over without a gap. Leaving twice does nothing.
        """
        return self._node.stop(grace_seconds)

    def status(self) -> MemberStatus:
        """Returns how this member does at this moment.

        Raises:
            ClosedError: it has left.
        """
        snapshot = json.loads(self._node.snapshot())
        return _status(self._pod, snapshot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.leave)

    def __repr__(self) -> str:
        return f"<Member for {self._pod!r} at epoch {self._node.epoch}>"

    def _incarnation(self) -> str:
        return self.status().incarnation


def join(
    *,
    cluster: str,
    voters: Sequence[str],
    pod: Pod,
    listen: str | None = None,
    advertise: str | None = None,
    data: StrPath | None = None,
    lease: Lease | LeaseName = "default",
    tls: Tls | None = None,
    priority: Priority = "realtime",
    stale_after_seconds: float = 1.0,
    stall_check_seconds: float = 2.0,
    force: bool = False,
) -> Member:
    """Makes this process the member of a cluster for a pod; returns when the node has started.

    It takes part as soon as a majority of voters hears it: see :meth:`Member.wait_until_writing`.
    The cluster must have been founded, with ``hashroute quorum init``.

    Args:
        cluster: the name of the cluster; a process of another one is refused.
        voters: ``host:port`` of voters to learn the cluster from. Who votes is in the record.
        pod: the pod as it describes itself: its id, weight, zone, and where it is reached. One that
            the record does not know yet is added to it.
        listen: ``host:port`` to vote on, with ``data``; None for a member that does not vote.
        advertise: how others reach ``listen``, if that is another address.
        data: the directory for what a voter must never forget.
        lease: the cluster's lease: ``default``, ``tight``, ``slow``, or its numbers.
        tls: certificates; None for connections in the clear.
        priority: what the thread that keeps the lease asks for. Where the system does not allow
            ``realtime`` it is what every thread has.
        stale_after_seconds: without a word of a majority of voters for so long, what is known
            counts as stale.
        stall_check_seconds: for how long stalls of this machine are measured before it joins.
        force: whether to start although they are too long for the lease.

    Raises:
        ConfigurationError: an argument says nothing, or the lease is not safe.
        StartError: an address or the disk cannot be used, or the machine stalls for too long.
            Nothing is left running.
    """
    settings = node_settings(
        cluster=cluster,
        voters=voters,
        tls=tls,
        stale_after_seconds=stale_after_seconds,
        pod=pod,
        listen=listen,
        advertise=advertise,
        data=data,
        lease=lease,
        priority=priority,
        stall_check_seconds=stall_check_seconds,
        force=force,
    )
    return Member(Node(settings), pod.id)


def _status(pod: str, snapshot: dict[str, Any]) -> MemberStatus:
    member = snapshot["member"]
    return MemberStatus(
        pod=pod,
        incarnation=member["incarnation"],
        epoch=snapshot["epoch"],
        is_stale=snapshot["is_stale"],
        is_named=member["is_named"],
        holds_lease=member["holds_lease"],
        lease_age_seconds=_seconds(member["lease_age_ms"]),
        lease_margin_seconds=_seconds(member["lease_margin_ms"]),
        slots=member["slots"],
        groups=tuple(member["groups"]),
        admitted=member["admitted"],
        under_way=member["under_way"],
        refused=MappingProxyType(member["refused"]),
        recovery_promise_seconds=snapshot["recovery_promise_ms"] / 1000,
        warnings=tuple(snapshot["warnings"]),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _why_not_writing(status: MemberStatus, timeout_seconds: float) -> str:
    if not status.epoch:
        why = (
            "no voter has told it a record: check the addresses in voters and the name of the "
            "cluster, and whether it was founded (hashroute quorum init)"
        )
    elif not status.is_named:
        why = (
            "the record does not name this process yet: a process of the pod from before may still "
            "hold its lease, or no majority of voters answers"
        )
    else:
        why = "no majority of voters answers it"
    return f"pod {status.pod!r} holds no lease after {timeout_seconds} s: {why}"
