"""What a run leaves behind: the plain facts that the analysis, the report and the tests share.

All times are `time.monotonic()` seconds, one clock for every process on the machine, less the start
of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashroute import Ring

OK = "OK"


class Transport(StrEnum):
    """How a request travels."""

    GRPC = "grpc"
    ZMQ = "zmq"


class Path(StrEnum):
    """Which way a request takes: through the sidecar, or straight to the pod that owns its key."""

    SIDECAR = "sidecar"
    DIRECT = "direct"


class Kind(StrEnum):
    """What is done to a pod."""

    KILL = "kill"
    RESTART = "restart"
    FREEZE = "freeze"
    RESUME = "resume"
    DRAIN = "drain"
    ADD = "add"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and the one answer, or the one error, that it ended in.

    Attributes:
        intended_at: When the schedule wanted it sent; a client that stalls cannot hide behind a
            late send.
        latency_seconds: From `intended_at` to the answer.
        client: The model server that asked.
        transport: How it travelled.
        path: Which way it took.
        symbol: Its key.
        code: `OK`, or the name of the error.
        pod: The pod that says it computed the answer; empty for an error.
        named_pod: The pod that the sidecar names as the one that answered; empty where the
            transport names none.
    """

    intended_at: float
    latency_seconds: float
    client: str
    transport: Transport
    path: Path
    symbol: str
    code: str
    pod: str
    named_pod: str

    @property
    def answered_at(self) -> float:
        """When the answer arrived."""
        return self.intended_at + self.latency_seconds


@dataclass(frozen=True, slots=True)
class Event:
    """One thing done to one pod.

    Attributes:
        kind: What was done.
        pod: To which pod.
        at: The moment before it was done.
        done_at: When it was known to be done: the dead process reaped, the restarted one ready, the
            call answered.
        moved_slots: The slots that the sidecar says it moved; None if its ring stayed as it was.
    """

    kind: Kind
    pod: str
    at: float
    done_at: float
    moved_slots: int | None = None


@dataclass(frozen=True, slots=True)
class PodSample:
    """What the sidecar said of one pod.

    Attributes:
        state: Its state in the view: `active`, `draining`, ….
        health: The worse of its transports: `up`, `suspect` or `down`.
        in_flight: Requests in flight over both transports.
        spills: Requests that came to it since the sidecar started because a pod before it on the
            preference list was at its load bound.
        failovers: Requests that came to it because a pod before it was down.
    """

    state: str
    health: str
    in_flight: int
    spills: int
    failovers: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What the sidecar said of itself at one moment.

    Attributes:
        at: When it was asked.
        epoch: The epoch of its view.
        digest: The digest of its ring.
        retries: Tries that it repeated elsewhere since it started.
        pods: By id; those of its view.
    """

    at: float
    epoch: int
    digest: str
    retries: int
    pods: Mapping[str, PodSample]

    @property
    def detours(self) -> int:
        """Requests that by its own account may have been answered by another than the owner."""
        passed_over = sum(pod.spills + pod.failovers for pod in self.pods.values())
        return self.retries + passed_over


@dataclass(frozen=True, slots=True)
class Stall:
    """A time in which the machine did not run a process that had asked to be woken.

    Attributes:
        cpu: The processor that the stalled ticker was bound to.
        at: When it should have run.
        seconds: How much later it ran.
    """

    cpu: int
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RingInForce:
    """The ring in force from a moment on, until that of the next one.

    Attributes:
        ring: The demo's own ring over the pods that own slots.
        at: The moment before the sidecar was asked to follow it.
        done_at: When the sidecar and every model server were known to follow it; until then the one
            before may be.
        sidecar_digest: The digest that the sidecar gave for it.
        client_digests: The digest that each model server computed by itself from the pods, by
            client.
    """

    ring: Ring
    at: float
    done_at: float
    sidecar_digest: str
    client_digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClientTotals:
    """What one model server counted by itself.

    Attributes:
        sent: Requests that its schedule called for.
        unmatched: Replies that belonged to no request waiting for one: an answer too many.
    """

    sent: int
    unmatched: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that a run observed.

    Attributes:
        racks: The rack (zone) of every pod that took part, in the order in which pods are shown.
        duration_seconds: How long requests were sent.
        warm_until: Before this moment connections and caches were cold; latencies are not compared.
        compared: The spans of time in which every other request went straight to the owner of its
            key.
        rate: Requests a second that were scheduled, over all clients.
        answers: In order of `intended_at`.
        events: In order of `at`.
        rings: In order of `at`; the first is in force from the start.
        samples: In order of `at`.
        stalls: In order of `at`.
        totals: By client.
        health_timeout_seconds: After how long without an answer the sidecar takes a pod for down.
    """

    racks: Mapping[str, str]
    duration_seconds: float
    warm_until: float
    compared: tuple[tuple[float, float], ...]
    rate: float
    answers: tuple[Answer, ...]
    events: tuple[Event, ...]
    rings: tuple[RingInForce, ...]
    samples: tuple[Sample, ...]
    stalls: tuple[Stall, ...]
    totals: Mapping[str, ClientTotals]
    health_timeout_seconds: float
