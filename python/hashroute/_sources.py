"""Whom a router follows: a quorum, or a sidecar."""

from __future__ import annotations

import json
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from hashroute._hashroute import Node
from hashroute._ring import Ring
from hashroute.cluster import node_settings
from hashroute.errors import HashrouteError, of_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import grpc

    from hashroute._hashroute import Router
    from hashroute.cluster import Tls

WATCH_INTERVAL_MS = 100
"""How often a sidecar shows a sign of life; it also says then whether its view is another."""
RECONNECT_SECONDS = 0.1


class Source(Protocol):
    """What decides the ring of a router."""

    def first_ring(self, timeout_seconds: float) -> Ring:
        """Waits for the first ring."""

    def feed(self, router: Router) -> None:
        """Puts each ring that follows in force, until :meth:`close`."""

    @property
    def is_stale(self) -> bool:
        """Whether nothing was heard lately."""

    def close(self) -> None:
        """Ends it. A second call does nothing."""


class QuorumSource:
    """The record of a quorum, followed by a node that neither votes nor is a member."""

    def __init__(
        self, voters: Sequence[str], cluster: str, tls: Tls | None, stale_after_seconds: float
    ) -> None:
        self._described = f"the quorum of cluster {cluster!r} at {', '.join(voters)}"
        self._node = Node(
            node_settings(
                cluster=cluster, voters=voters, tls=tls, stale_after_seconds=stale_after_seconds
            )
        )
        self._is_closed = False

    def first_ring(self, timeout_seconds: float) -> Ring:
        """Waits for a record by which a pod owns slots.

        Raises:
            UnavailableError: there is none in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while (view := self._node.view()) is None:
            left, epoch = deadline - time.monotonic(), self._node.epoch
            if left <= 0:
                why = (
                    "no pod has joined yet"
                    if epoch
                    else "no voter told a record: check the addresses and the name of the cluster, "
                    "and whether it was founded (hashroute quorum init)"
                )
                # What became of each way to a voter, such as a certificate that is not taken.
                heard = json.loads(self._node.snapshot())["warnings"]
                why = "; ".join([why, *heard])
                text = f"nothing to route by from {self} after {timeout_seconds} s: {why}"
                raise of_code("quorum_unreachable", text)
            self._node.wait_for_epoch(epoch, left)
        return Ring._of(view)  # noqa: SLF001 - of this package

    def feed(self, router: Router) -> None:
        """Lets the router follow; no Python code runs when a record comes."""
        router.follow(self._node)

    @property
    def is_stale(self) -> bool:
        """Whether no majority of voters was heard lately; after the end, always."""
        if self._is_closed:
            return True
        try:
            return self._node.is_stale
        except HashrouteError:
            # It was closed since the line before.
            return True

    def close(self) -> None:
        """Stops the node."""
        self._is_closed = True
        self._node.stop(0.0)

    def __str__(self) -> str:
        return self._described


def source_behind(
    address: str, tls: Tls | None, timeout_seconds: float, stale_after_seconds: float
) -> Source:
    """Returns what a sidecar itself goes by: its quorum, if it has one; else its own view.

    Raises:
        UnavailableError: the sidecar does not answer.
    """
    sidecar = SidecarSource(address, stale_after_seconds)
    try:
        quorum = sidecar.quorum(timeout_seconds)
    except BaseException:
        sidecar.close()
        raise
    if quorum is None:
        return sidecar
    sidecar.close()
    cluster, voters = quorum
    return QuorumSource(voters, cluster, tls, stale_after_seconds)


class SidecarSource:
    """The view of a sidecar, as its control API tells it."""

    def __init__(self, address: str, stale_after_seconds: float) -> None:
        # Only whoever follows a sidecar pays for gRPC.
        import grpc

        from hashroute._proto.v1 import control_pb2, control_pb2_grpc

        self._address = address
        self._stale_after_seconds = stale_after_seconds
        self._heard = time.monotonic()
        self._pb: Any = control_pb2
        self._errors = grpc.RpcError
        self._channel = grpc.insecure_channel(
            address,
            options=(
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )
        self._stub: Any = control_pb2_grpc.ControlStub(self._channel)
        self._watch: grpc.Call | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def quorum(self, timeout_seconds: float) -> tuple[str, list[str]] | None:
        """Asks for the cluster that the sidecar takes part in, and where its voters are.

        None if it has none, or one whose leases lie in etcd: what is needed to look there it does
        not say.

        Raises:
            UnavailableError: the sidecar does not answer.
        """
        with self._told(timeout_seconds):
            answer = self._stub.GetStatus(
                self._pb.GetStatusRequest(), timeout=timeout_seconds, wait_for_ready=True
            )
        if not answer.status.HasField("quorum"):
            return None
        figures = json.loads(answer.status.quorum)
        record = figures.get("record") or {}
        if figures["engine"] != "embedded" and len(record.get("voters") or ()) <= 1:
            return None
        known = record.get("voters") or figures.get("voters") or []
        voters = [voter["address"] for voter in known]
        return (figures["cluster"], voters) if voters else None

    def first_ring(self, timeout_seconds: float) -> Ring:
        """Asks for the view in force.

        Raises:
            UnavailableError: the sidecar does not answer.
        """
        with self._told(timeout_seconds):
            return self._ask(timeout_seconds)

    def feed(self, router: Router) -> None:
        """Watches the sidecar, on a thread of its own."""
        self._thread = threading.Thread(
            target=self._follow, args=(weakref.ref(router),), name="hashroute-follow", daemon=True
        )
        self._thread.start()

    @property
    def is_stale(self) -> bool:
        """Whether the sidecar was not heard lately."""
        return time.monotonic() - self._heard > self._stale_after_seconds

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()
        watch = self._watch
        if watch is not None:
            watch.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._channel.close()

    def _follow(self, routed: weakref.ref[Router]) -> None:
        while not self._closed.is_set() and routed() is not None:
            with suppress(self._errors):
                self._watch_for(routed)
            self._closed.wait(RECONNECT_SECONDS)

    def _watch_for(self, routed: weakref.ref[Router]) -> None:
        """Keeps a router up to date, until the watch ends or nobody has the router any more."""
        request = self._pb.WatchStatusRequest(interval_ms=WATCH_INTERVAL_MS)
        watch = self._watch = self._stub.WatchStatus(request, wait_for_ready=True)
        if self._closed.is_set():
            watch.cancel()
        seen: tuple[int, str] | None = None
        for answer in watch:
            self._heard = time.monotonic()
            router = routed()
            if router is None:
                watch.cancel()
                return
            now = (answer.status.epoch, answer.status.digest)
            if now != seen:
                router.apply_ring(self._ask(self._stale_after_seconds))
                seen = now
            # Between two answers this thread must not be what keeps the router alive.
            del router

    def _ask(self, timeout_seconds: float) -> Ring:
        answer = self._stub.GetView(
            self._pb.GetViewRequest(), timeout=timeout_seconds, wait_for_ready=True
        )
        self._heard = time.monotonic()
        return _ring(answer.view)

    @contextmanager
    def _told(self, timeout_seconds: float) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            text = f"{self} does not answer within {timeout_seconds} s: {_details(error)}"
            raise of_code("unavailable", text) from None

    def __str__(self) -> str:
        return f"the sidecar at {self._address}"


def _ring(view: Any) -> Ring:
    """The ring of a view as the control API has it, under the same epoch."""
    states = {1: "joining", 2: "active", 3: "draining", 4: "down"}
    pods = [
        {
            "id": pod.id,
            "weight": pod.weight if pod.HasField("weight") else 1.0,
            "zone": pod.zone if pod.HasField("zone") else None,
            "state": states.get(pod.state, "active"),
            "addresses": {
                name: getattr(pod.addresses, name) if pod.addresses.HasField(name) else None
                for name in ("grpc", "zmq")
            },
        }
        for pod in view.pods
    ]
    document = {
        "version": 1,
        "epoch": view.epoch,
        "slots": view.slots,
        "epsilon": view.epsilon,
        "seed": view.seed,
        "pods": pods,
    }
    return Ring.from_json(json.dumps(document))


def _details(error: Any) -> str:
    return str(error.details()) if callable(getattr(error, "details", None)) else str(error)
