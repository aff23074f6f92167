"""The shape of a configuration: what may be written, the defaults, and why they are what they are.

The tables of ``docs/configuration.md`` and the JSON Schema are made from this module by
``tools/reference.py``, so a description here is what users read.
"""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from hashroute.config.addresses import Address, AddressOf
from hashroute.config.keys import DEFAULT_SOURCE, KeySource, KeySourceKind, MethodPattern
from hashroute.config.quorum import GuardSection, QuorumSection, WritesSection
from hashroute.config.section import Section, option
from hashroute.config.values import DurationBetween, Name, NameOrNone, SizeBetween, Slots

WEIGHT_MIN = 0.000001
WEIGHT_MAX = 1_100_000.0


class RingSection(Section):
    """How keys are spread over pods. Every router of one fleet needs the same values here."""

    slots: Slots = option(
        65536,
        "The number of slots that keys are cut into; a power of two.",
        because="fine enough that a pod's share is within epsilon up to about a thousand pods, "
        "and the table fits a core's cache",
    )
    epsilon: Annotated[float, Field(ge=0, le=10)] = option(
        0.05,
        "How far above its weighted fair share of the slots a pod may own: 0.05 is five per cent.",
        because="pods stay even, and a change moves hardly more slots than it must; "
        "closer to 0 moves more",
    )
    seed: Annotated[int, Field(ge=0, le=(1 << 64) - 1)] = option(
        0,
        "Enters the hash of pod names, so that two fleets with equal names can be spread "
        "differently. Changing it moves nearly every key.",
        because="one mapping for everybody unless somebody asks for another",
    )


class ListenSection(Section):
    """Addresses to listen on. An empty string, or leaving a key out, turns that door off."""

    grpc: Annotated[Address | None, AddressOf(listens=True)] = option(
        "", "`host:port` for gRPC (HTTP/2 without TLS).", because="only what is asked for listens"
    )
    zmq: Annotated[Address | None, AddressOf("tcp://", listens=True)] = option(
        "", "`tcp://host:port` for ZeroMQ.", because="only what is asked for listens"
    )
    admin: Annotated[Address | None, AddressOf(listens=True)] = option(
        "",
        "`host:port` for `/livez`, `/readyz`, `/metrics`, `/ring` and the live page.",
        because="only what is asked for listens",
    )
    control: Annotated[Address | None, AddressOf(listens=True)] = option(
        "127.0.0.1:9003",
        "`host:port` of the control API, which the command line talks to. Whoever reaches it may "
        "change the ring.",
        because="the command line works without options, and only from this machine",
    )


class PodSection(Section):
    """One pod; its name in the file is its id. It needs an address for what it is to serve."""

    grpc: Annotated[Address | None, AddressOf()] = option(
        None, "`host:port` of its gRPC server.", because="a pod may serve one transport only"
    )
    zmq: Annotated[Address | None, AddressOf("tcp://")] = option(
        None,
        "`tcp://host:port` of its ZeroMQ REP or ROUTER socket.",
        because="a pod may serve one transport only",
    )
    weight: Annotated[float, Field(ge=WEIGHT_MIN, le=WEIGHT_MAX)] = option(
        1.0,
        "How much it owns relative to the other pods. Counts in millionths.",
        because="equal pods are the usual case",
    )
    zone: Name | None = option(
        None,
        "What fails together with it, such as its rack. Retries and spills go to another zone "
        "first.",
        because="a guess would be worse than none",
    )
    state: Literal["active", "draining"] = option(
        "active",
        "`draining` owns no slots and gets nothing new; it finishes what it has.",
        because="a pod is written down to be used",
    )


class RouteSection(Section):
    """A rule for gRPC methods. The first route that matches a method counts.

    A method without a route is keyed by `metadata:x-hashroute-key`, goes to any pod without it,
    and is not repeated.
    """

    match: Annotated[
        MethodPattern,
        Field(description="`/package.Service/Method`, `/package.Service/*`, or `/*` for all."),
    ]
    key: Annotated[
        tuple[Annotated[KeySource, KeySourceKind()], ...],
        Field(strict=False, min_length=1, max_length=8),
    ] = option(
        (str(DEFAULT_SOURCE),),
        "Where the key is looked for, in this order: `metadata:NAME`, `field:PATH` (by names or "
        "by numbers), `path` (the method), `peer` (the caller's address).",
        because="the one way that needs no knowledge of the messages",
    )
    on_missing: Literal["reject", "any"] = option(
        "reject",
        "What a request without a key gets: `reject` answers INVALID_ARGUMENT and says what was "
        "looked for; `any` sends it to some pod.",
        because="a forgotten key shows at once instead of as a cold cache",
    )
    idempotent: bool = option(
        False,
        "Whether a request that may have reached a pod may be sent again to another.",
        because="only you know whether twice is harmless",
    )
    descriptor_set: str | None = option(
        None,
        "A file made by `protoc --include_imports --descriptor_set_out`, to find `field:` names "
        "in; relative to the configuration file. Not needed for numbers, the Open Inference "
        "Protocol and Feast.",
        because="numbers and the built-in services need none",
    )
    write: bool = option(
        False,
        "Whether what the request changes has one writer: it goes to the owner of its key's slot "
        "and to nobody else, and waits for a new owner if there is none.",
        because="most requests are reads, which any pod may serve in need",
    )
    group: Annotated[str | None, NameOrNone()] = option(
        None,
        "The group of `[quorum.groups]` whose leader is the one writer: the request goes to it. "
        "Needs no key, and makes it a write.",
        because="most writes are spread by key",
    )


class ZmqSection(Section):
    """Rules for ZeroMQ requests."""

    key_frame: Annotated[int, Field(ge=0, le=255)] = option(
        0,
        "Which frame is the key, counted from 0 after the envelope.",
        because="the first frame that the application wrote",
    )
    idempotent: bool = option(
        False,
        "Whether a request that may have reached a pod may be sent again to another.",
        because="only you know whether twice is harmless",
    )
    envelope: Literal["delimited"] = option(
        "delimited",
        "How the envelope ends: with the first empty frame, as REQ sends it. A DEALER sends that "
        "frame itself.",
        because="it is what REQ and REP agree on",
    )
    request_timeout: Annotated[timedelta, DurationBetween("1ms", "24h")] = option(
        "30s",
        "How long a request may take before it is answered with DEADLINE_EXCEEDED.",
        because="longer than any answer worth waiting for; ZeroMQ carries no deadline of its own",
    )
    message_bytes_max: Annotated[int, SizeBetween("1B", "2GiB")] = option(
        "64MiB",
        "The largest message, all frames together.",
        because="a batch of tensors fits, a runaway client does not",
    )
    on_missing: Literal["reject", "any"] = option(
        "reject",
        "What a message without the key frame gets: an error reply, or some pod.",
        because="a forgotten key shows at once",
    )
    write: bool = option(
        False,
        "Whether what requests change has one writer: they go to the owner of their key's slot and "
        "to nobody else.",
        because="most requests are reads, which any pod may serve in need",
    )
    group: Annotated[str | None, NameOrNone()] = option(
        None,
        "The group of `[quorum.groups]` whose leader is the one writer of all requests. Needs no "
        "key frame, and makes them writes.",
        because="most writes are spread by key",
    )


class HealthSection(Section):
    """How pods are probed. A pod that is down is passed over; its slots stay its own."""

    interval: Annotated[timedelta, DurationBetween("1ms", "1h")] = option(
        "50ms",
        "Time between two probes of a pod.",
        because="a frozen pod is found within two or three of them, at some 20 small calls a "
        "second",
    )
    timeout: Annotated[timedelta, DurationBetween("1ms", "1h")] = option(
        "150ms",
        "Time without an answer after which a pod counts as down.",
        because="frozen pods are out of the way within 300 ms, and a pause for garbage "
        "collection is not a failure",
    )
    probe: Literal["grpc", "connect"] = option(
        "grpc",
        "`grpc` asks `grpc.health.v1` (a server without that service counts as alive, one that "
        "says NOT_SERVING as down); `connect` opens a connection.",
        because="it also finds a process that accepts and does not answer",
    )
    service: str = option(
        "",
        "The service named in the question; empty asks for the whole server.",
        because="a server as a whole is what the ring routes to",
    )


class LoadSection(Section):
    """How many requests in flight a pod may have: max(floor, c x its fair share of all)."""

    c: Annotated[float, Field(ge=1, le=1000)] = option(
        1.25,
        "How far above its fair share of the requests in flight a pod may be.",
        because="a hot key spills before its pod queues, and few others leave their owner",
    )
    floor: Annotated[int, Field(ge=1, le=1 << 20)] = option(
        16,
        "A pod may always have this many.",
        because="with few requests in flight every pod would look overloaded",
    )


class RetrySection(Section):
    """When and how often a request is tried again."""

    attempts_max: Annotated[int, Field(ge=1, le=8)] = option(
        3, "Attempts a request may take, the first included.", because="two pods may die at once"
    )
    budget_ratio: Annotated[float, Field(ge=0, le=1)] = option(
        0.2,
        "Repeats that each request earns for requests that may have reached a pod.",
        because="an outage adds at most a fifth to the load",
    )
    budget_reserve: Annotated[int, Field(ge=0, le=1_000_000)] = option(
        256,
        "Repeats that may be saved up, and that a fresh sidecar has.",
        because="the requests in flight on one pod when it dies",
    )
    buffer_bytes: Annotated[int, SizeBetween("0B", "64MiB")] = option(
        "64KiB",
        "How much of a request is kept to be sent again; a longer one is not repeated once more "
        "than this was sent.",
        because="usual requests fit, and memory stays bounded",
    )


class LimitsSection(Section):
    """The bounds on what clients may use."""

    connections_max: Annotated[int, Field(ge=1, le=1 << 20)] = option(
        4096, "Client connections of one transport.", because="far above a rack's model servers"
    )
    requests_max: Annotated[int, Field(ge=1, le=1 << 20)] = option(
        16384,
        "Requests of one transport being worked on.",
        because="memory stays bounded; more than this is a queue, not a load",
    )
    header_list_bytes: Annotated[int, SizeBetween("1KiB", "16MiB")] = option(
        "64KiB", "The largest list of metadata of a request.", because="eight times gRPC's default"
    )
    handshake_timeout: Annotated[timedelta, DurationBetween("1ms", "1h")] = option(
        "10s",
        "Time for a new connection to show that it speaks the protocol.",
        because="a slow start passes, a port scan does not stay",
    )
    keepalive: Annotated[timedelta, DurationBetween("1ms", "1h")] = option(
        "10s",
        "Silence after which a caller is asked whether it is there; it has as long again.",
        because="half-open connections end within 20 s",
    )
    stream_window_bytes: Annotated[int, SizeBetween("1KiB", "16MiB")] = option(
        "64KiB",
        "How much of one stream may wait in the sidecar in each direction.",
        because="a slow reader stops its sender, and memory stays bounded",
    )
    shutdown_grace: Annotated[timedelta, DurationBetween("0ms", "1h")] = option(
        "10s",
        "Time that requests in flight have to finish after SIGTERM.",
        because="well within the 30 s that service managers usually wait",
    )


class Configuration(Section):
    """A whole configuration."""

    ring: RingSection = RingSection()
    listen: ListenSection = ListenSection()
    pods: dict[Name, PodSection] = Field(
        default_factory=dict, description="The pods, by name.", max_length=65_535
    )
    routes: Annotated[tuple[RouteSection, ...], Field(strict=False, max_length=1024)] = ()
    zmq: ZmqSection = ZmqSection()
    health: HealthSection = HealthSection()
    load: LoadSection = LoadSection()
    retry: RetrySection = RetrySection()
    limits: LimitsSection = LimitsSection()
    quorum: QuorumSection | None = None
    guard: GuardSection = GuardSection()
    writes: WritesSection = WritesSection()
