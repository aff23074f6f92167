"""The live ring: chooses pods by key, health and load for programs that send requests themselves.

::

    router = Router([Pod("pod-a", grpc="10.0.0.1:50051"), Pod("pod-b", grpc="10.0.0.2:50051")])
    with router.acquire("EURUSD") as route:
        answer = ask(route.address, "EURUSD")

The channels and sockets of :mod:`hashroute.clients` do the asking too, with failover and retries.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hashroute._hashroute import Route
from hashroute._hashroute import Router as NativeRouter
from hashroute._ring import Pod, PodState, Ring
from hashroute.errors import ArgumentTypeError, ConfigurationError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from hashroute._ring import Pods
    from hashroute._sources import Source
    from hashroute.cluster import Tls

__all__ = [
    "Health",
    "HealthOptions",
    "PodStatus",
    "Retries",
    "Route",
    "Router",
    "Status",
    "Transport",
]

Transport = Literal["grpc", "zmq", "any"]
"""Over what a program talks to the pods; with ``any``, pods need no address."""

CONNECT_SECONDS = 10.0

Health = Literal["up", "suspect", "down"]
"""``suspect`` pods answer probes but not requests; they take requests if no pod is up."""


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """How pods are probed. The defaults find a frozen pod within 200 ms.

    Args:
        interval_seconds: time between two probes of a pod.
        timeout_seconds: time after which a probe without an answer takes the pod out of the way.
        probe: ``grpc`` asks ``grpc.health.v1`` (a server without it counts as alive, one that says
            NOT_SERVING as down); ``connect`` opens a connection.
        service: the service named in the ``grpc`` probe; empty for the server as a whole.
    """

    interval_seconds: float = 0.05
    timeout_seconds: float = 0.15
    probe: Literal["grpc", "connect"] = "grpc"
    service: str = ""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often clients send a request again.

    A request that certainly reached no pod goes to the next one free of charge; one that may have
    is sent again only if it is idempotent, out of a budget, so that an outage is not amplified.

    Args:
        attempts_max: attempts a request may take, the first included; 1 to 8.
        budget_ratio: paid retries earned by each request; 0 to 1.
        budget_reserve: paid retries that may be saved up, and that a new router has.
    """

    attempts_max: int = 3
    budget_ratio: float = 0.2
    budget_reserve: int = 256


@dataclass(frozen=True, slots=True)
class PodStatus:
    """How one pod does. Counters only grow.

    Attributes:
        pod: its id.
        state: its state in the view.
        health: what probes and requests say of it.
        health_seconds: for how long they have said so.
        last_down_reason: why it was last found down; None if it never was.
        in_flight: requests given to it that have not ended.
        requests_ok: requests that ended well.
        requests_error: requests that ended in an error.
        retries: requests that came here after another pod was tried.
        spills: requests that came here because a better pod was busy.
        failovers: requests that came here because the better pods were not up, or were tried.
    """

    pod: str
    state: PodState
    health: Health
    health_seconds: float
    last_down_reason: str | None
    in_flight: int
    requests_ok: int
    requests_error: int
    retries: int
    spills: int
    failovers: int


@dataclass(frozen=True, slots=True)
class Status:
    """A router at one moment.

    Attributes:
        epoch: the number of the view in force.
        digest: of its ring; routers with equal digests send a key to the same owner.
        in_flight: requests that have not ended, over all pods, also those that left.
        pods: sorted by id.
    """

    epoch: int
    digest: str
    in_flight: int
    pods: tuple[PodStatus, ...]


class Router(NativeRouter):
    """A ring with health and load, for requests that the program sends itself.

    Safe to share between threads and event loops: ``acquire`` takes no lock and never waits.
    A pod that is down is passed over without a change of the ring, in favour of the key's next
    preference; so is one that has more than max(``floor``, ``c`` x its fair share) of the requests
    in flight (P3). If no pod is well, the best there is gets the request.

    Args:
        pods: a :class:`Ring`, or what makes one.
        c: how far above its fair share of the requests in flight a pod may go; at least 1.
        floor: what a pod may always have in flight, so that a quiet fleet does not spill.
        health: how gRPC pods are probed. None probes nobody: then only :meth:`report` brings back
            a pod that ``route.failed("refused")`` or ``("lost")`` took out of the way. ZeroMQ pods
            are never probed: :mod:`hashroute.clients.zmq` reports what its connections show.
        retries: how often clients send a request again.
        transport: which address of the pods is meant; a pod without it gets no requests. None for
            what the pods have: ``grpc`` if any pod has such an address, else ``zmq``, else ``any``.

    Raises:
        ConfigurationError: as :class:`Ring`, or a number is out of range.
    """

    __slots__ = ("__weakref__", "_changing", "_ring", "_source")
    _ring: Ring
    _changing: threading.Lock
    _source: Source | None

    def __new__(
        cls,
        pods: Ring | Pods,
        *,
        c: float = 1.25,
        floor: int = 16,
        health: HealthOptions | None = HealthOptions(),
        retries: Retries = Retries(),
        transport: Transport | None = None,
    ) -> Self:
        """Starts to route, and to probe pods that have a gRPC address."""
        ring = pods if isinstance(pods, Ring) else Ring(pods)
        transport = transport or _transport_of(ring)
        router = super().__new__(
            cls,
            ring,
            transport=transport,
            c=c,
            floor=floor,
            health=health if transport == "grpc" else None,
            retries=retries,
        )
        router._ring = ring
        router._changing = threading.Lock()
        router._source = None
        return router

    @classmethod
    def connect(
        cls,
        target: str | Sequence[str],
        *,
        cluster: str | None = None,
        tls: Tls | None = None,
        timeout_seconds: float = CONNECT_SECONDS,
        stale_after_seconds: float = 1.0,
        c: float = 1.25,
        floor: int = 16,
        health: HealthOptions | None = HealthOptions(),
        retries: Retries = Retries(),
        transport: Transport | None = None,
    ) -> Self:
        """Returns a router that follows a quorum or a sidecar: what they agree on counts here too.

        A change reaches the router as it is made, and needs no restart. With a quorum it knows who
        may write: ``route.term`` and ``route.epoch`` are those of the record.

        Args:
            target: with ``cluster``, ``host:port`` of voters to learn the cluster from; without,
                the control address of a sidecar: its quorum is followed, if it has one, else its
                view.
            cluster: the name of the cluster.
            tls: certificates for the quorum; None for connections in the clear.
            timeout_seconds: how long to wait for the first record, or view.
            stale_after_seconds: without a word of a majority of voters, or of the sidecar, for so
                long, :attr:`is_stale` is true.
            c: as for a router that is made of pods.
            floor: the same.
            health: the same.
            retries: the same.
            transport: the same.

        Raises:
            UnavailableError: nothing was heard in time; the text says of whom.
            ConfigurationError: an argument says nothing.
            StartError: the system gives no thread.
        """
        from hashroute._sources import QuorumSource, source_behind

        source: Source
        if cluster is not None:
            voters = [target] if isinstance(target, str) else target
            source = QuorumSource(voters, cluster, tls, stale_after_seconds)
        elif isinstance(target, str):
            source = source_behind(target, tls, timeout_seconds, stale_after_seconds)
        else:
            raise ParameterError(
                "to follow a quorum, name its cluster: Router.connect(voters, cluster=…); to "
                "follow a sidecar, give its control address",
                parameter="cluster",
            )
        try:
            ring = source.first_ring(timeout_seconds)
            router = cls(
                ring, c=c, floor=floor, health=health, retries=retries, transport=transport
            )
            source.feed(router)
        except BaseException:
            source.close()
            raise
        router._source = source
        return router

    @property
    def ring(self) -> Ring:
        """The ring in force."""
        if self._source is not None and self.view().epoch != self._ring.epoch:
            with self._changing:
                self._ring = Ring._of(self.view(), self._ring)  # noqa: SLF001 - of this package
        return self._ring

    @property
    def is_stale(self) -> bool:
        """Whether what this router goes by may be old: it heard nothing lately of whom it follows.

        Always false for a router that follows nobody.
        """
        return self._source is not None and self._source.is_stale

    def add(self, pod: str | Pod, *, weight: float = 1.0, zone: str | None = None) -> None:
        """Adds a pod; see :meth:`Ring.add`. Requests in flight are not disturbed."""
        self._change(lambda ring: ring.add(pod, weight=weight, zone=zone))

    def remove(self, pod: str) -> None:
        """Removes a pod; see :meth:`Ring.remove`. What it has in flight may finish."""
        self._change(lambda ring: ring.remove(pod))

    def reweight(self, pod: str, weight: float) -> None:
        """Gives a pod another weight; see :meth:`Ring.reweight`."""
        self._change(lambda ring: ring.reweight(pod, weight))

    def drain(self, pod: str) -> None:
        """Gives a pod nothing new; it stays in the view and finishes what it has in flight."""
        self._change(lambda ring: ring.with_state(pod, "draining"))

    def apply(self, ring: Ring) -> None:
        """Puts another ring in force. Slots that keep their owner keep their term.

        Raises:
            SettingError: the ring's epoch is lower than that of the ring in force.
        """
        if not isinstance(ring, Ring):
            raise ArgumentTypeError(f"ring must be a Ring, not {type(ring).__name__}")
        self._change(lambda _: ring)

    def status(self) -> Status:
        """Returns how the pods do at this moment."""
        ring = self.ring
        return Status(
            epoch=ring.epoch,
            digest=ring.digest,
            in_flight=self.in_flight,
            pods=tuple(PodStatus(*fields) for fields in self.pod_statuses()),
        )

    @property
    def has_pod_up(self) -> bool:
        """Whether any pod that owns slots is up."""
        return any(
            pod.health == "up" and pod.state in {"joining", "active"} for pod in self.status().pods
        )

    def close(self) -> None:
        """Stops probing and following: all stays as it is from now on. Routing itself goes on."""
        self.stop()
        if self._source is not None:
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Router over {self.transport}: {self.ring!r}, {self.in_flight} in flight>"

    def _change(self, change: Callable[[Ring], Ring]) -> None:
        if self._source is not None:
            raise ConfigurationError(
                f"this router follows {self._source}: what it routes by is changed there"
            )
        # Two changes at once must not both start from the same ring, or one of them is lost.
        with self._changing:
            ring = change(self._ring)
            self.apply_ring(ring)
            self._ring = ring


def _transport_of(ring: Ring) -> Transport:
    pods = ring.pods
    if any(pod.grpc for pod in pods):
        return "grpc"
    return "zmq" if any(pod.zmq for pod in pods) else "any"
