"""The single writer: who votes, who may write, how long a lease is, and what guards the pod."""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hashroute.config.addresses import Address, AddressOf
from hashroute.config.findings import nearest
from hashroute.config.section import Section, option
from hashroute.config.values import DurationBetween, Name, NameOrNone, invalid

DRIFT_PPM_MAX: Final = 100_000

LEASES: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "tight": {"ttl": "150ms", "renewal_interval": "25ms", "margin": "3ms"},
    "slow": {"ttl": "1s", "renewal_interval": "200ms"},
}
"""The leases that have a name; what one leaves out is as in the default."""

EMBEDDED: Final = "embedded"
ETCD: Final = "etcd"


class LeaseSection(Section):
    """The numbers of a lease. Every process of a cluster has the same; they are fixed for its life.

    A name stands for a whole table: `"default"` (300 ms, renewed each 50 ms), `"tight"` (150 and
    25 ms, 3 ms margin: for real-time priority) or `"slow"` (1 s and 200 ms: for a machine that
    nobody has measured). The arithmetic is in `docs/single-writer.md`. Refused is what breaks
    L(1 - 2 rho) - eps >= 2 h: one lost message would end the lease.
    """

    ttl: Annotated[timedelta, DurationBetween("1ms", "10m")] = option(
        "300ms",
        "L: for how long a voter lets nobody else write after it granted a renewal. A dead writer "
        "is replaced so much later.",
        because="replaced within half a second, and a stall of 237 ms does not end the lease",
    )
    renewal_interval: Annotated[timedelta, DurationBetween("1ms", "1m")] = option(
        "50ms",
        "h: the time between two renewals.",
        because="four may be lost in a row, at 20 small messages a second to each voter",
    )
    drift_ppm: Annotated[int, Field(ge=0, le=DRIFT_PPM_MAX)] = option(
        1000,
        "rho: how far a clock may drift from true time, in millionths.",
        because="twice the most that NTP steers a clock by",
    )
    margin: Annotated[timedelta, DurationBetween("0ms", "1m")] = option(
        "10ms",
        "eps: how much earlier a member stops, for the way from the look at the clock to the act.",
        because="longer than an ordinary thread usually waits for its turn",
    )


class NamedLease:
    """Lets a lease be given by its name in place of its table."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_lease_table, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"enum": [*LEASES]}, handler(schema)]}


def _lease_table(value: object) -> object:
    if isinstance(value, str) and value in LEASES:
        return LEASES[value]
    if isinstance(value, dict | LeaseSection):
        return value
    meant = nearest(value, LEASES) if isinstance(value, str) else None
    names = ", ".join(f'"{name}"' for name in LEASES)
    raise invalid(
        "lease",
        "not a lease",
        expected=f'{names}, or a table such as {{ ttl = "300ms", renewal_interval = "50ms" }}',
        suggestion=f'"{meant or "default"}"',
    )


class TlsSection(Section):
    """Certificates: both sides of every connection show theirs. Paths are relative to this file."""

    ca: Annotated[str, Field(description="Who signs the certificates of this cluster, as PEM.")]
    certificate: Annotated[str, Field(description="The certificate of this process, as PEM.")]
    key: Annotated[str, Field(description="Its private key, as PEM.")]
    server_name: str | None = option(
        None,
        "The name that the certificates of voters are made out to.",
        because="usually that is the host of their address",
    )


class GroupSection(Section):
    """A group of services, such as a pair of FIX gateways, of which one leads and alone writes.

    What stands here is for the founding; later `hashroute quorum add-group` adds one.
    """

    candidates: Annotated[
        tuple[Name, ...],
        Field(
            strict=False,
            min_length=1,
            max_length=64,
            description="The pods that may lead, best first.",
        ),
    ]


class EtcdSection(Section):
    """The etcd cluster of `engine = "etcd"`."""

    endpoints: Annotated[
        tuple[Annotated[Address, AddressOf()], ...],
        Field(strict=False, min_length=1, max_length=16, description="`host:port` of its members."),
    ]
    prefix: Annotated[str, Field(pattern=r"^/[!-~]{0,254}$")] = option(
        "/hashroute",
        "What comes before every key; the name of the cluster follows it.",
        because="one etcd serves several users",
    )


class QuorumSection(Section):
    """One writer at a time. Without this table nobody enforces it.

    A process with `listen` and `data` votes; one with `pod` is the member of that pod, and may
    write; one with neither is a router that follows the record.
    """

    engine: Literal["embedded", "etcd"] = option(
        EMBEDDED,
        "What holds the record and the leases: voters of our own, or an etcd cluster. With etcd "
        "and `voters` the record lies in etcd, and the voters grant the leases.",
        because="it needs nothing beside the pods, and is the quicker one by far",
    )
    cluster: Annotated[
        Name, Field(description="The name of the cluster; a process of another one is refused.")
    ]
    voters: Annotated[
        tuple[Annotated[Address, AddressOf()], ...], Field(strict=False, max_length=5)
    ] = option(
        (),
        "`host:port` of the 1, 3 or 5 voters that a cluster is founded with, and to learn it from "
        'later. Who votes after that is in the record. With `engine = "etcd"` none, or 3 or 5 that '
        "grant the leases.",
        because="who votes must be said, never guessed",
    )
    listen: Annotated[Address | None, AddressOf(listens=True)] = option(
        "",
        "`host:port` of this process's own voter. Without `tls` whoever reaches it may take part: "
        "keep it inside a network that you trust.",
        because="most routers do not vote",
    )
    advertise: Annotated[Address | None, AddressOf(may_be_empty=True)] = option(
        "",
        "How others reach `listen`, if that is another address, such as behind `0.0.0.0`.",
        because="usually it is the same",
    )
    data: str | None = option(
        None,
        "The directory of the voter's disk, for what it must never forget; relative to this file.",
        because="only voters need one",
    )
    pod: Annotated[str | None, NameOrNone()] = option(
        None,
        "The pod of `[pods]` that this process is the member of: it holds the lease for it.",
        because="a router and a witness write nothing",
    )
    lease: Annotated[LeaseSection, NamedLease()] = option(
        "default",
        "The lease: `default`, `tight`, `slow`, or a table of its numbers.",
        because="half a second to a new writer, on machines as they are",
    )
    priority: Literal["realtime", "ordinary"] = option(
        "realtime",
        "The priority of the thread that keeps the lease. Where the system does not allow "
        "`realtime` it is what every thread has, and a warning says so.",
        because="stalls are what ends leases, and this shortens them most",
    )
    stale_after: Annotated[timedelta, DurationBetween("10ms", "1h")] = option(
        "1s",
        "Without a word of a majority of voters for so long, answers of reads are marked "
        "`x-hashroute-stale: true`.",
        because="twice the time to a new writer at the default lease",
    )
    stall_check: Annotated[timedelta, DurationBetween("0ms", "1m")] = option(
        "2s",
        "For how long stalls of the machine are measured at the start, before anything is joined.",
        because="long enough to meet the usual ones, short enough to wait for",
    )
    force: bool = option(
        False,
        "Whether to start although the stalls measured are too long for the lease (a quarter of "
        "its ttl).",
        because="such a lease ends by itself again and again",
    )
    tls: TlsSection | None = option(
        None,
        "Certificates for all connections of the quorum.",
        because="many clusters have a network to themselves",
    )
    groups: dict[Name, GroupSection] = Field(
        default_factory=dict,
        description="Groups of services with one leader, by name.",
        max_length=1024,
    )
    etcd: EtcdSection | None = option(
        None, 'The etcd cluster of `engine = "etcd"`.', because="the embedded engine needs none"
    )


class GuardSection(Section):
    """A guard in front of a service that cannot be changed: admits writes, or refuses them.

    The sidecar listens here a second time. What comes in is for its own pod alone, and is passed
    on if the pod may write what is asked for. The address of the pod in `[pods]` is then this one.
    """

    grpc: Annotated[Address | None, AddressOf(listens=True)] = option(
        "", "`host:port` to listen on for gRPC.", because="only what is asked for listens"
    )
    grpc_service: Annotated[Address | None, AddressOf(may_be_empty=True)] = option(
        "",
        "`host:port` of the service that what was admitted is passed on to.",
        because="only you know where it is",
    )
    zmq: Annotated[Address | None, AddressOf("tcp://", listens=True)] = option(
        "", "`tcp://host:port` to listen on for ZeroMQ.", because="only what is asked for listens"
    )
    zmq_service: Annotated[Address | None, AddressOf("tcp://", may_be_empty=True)] = option(
        "",
        "`tcp://host:port` of the service that what was admitted is passed on to.",
        because="only you know where it is",
    )
    untagged: Literal["reject", "own"] = option(
        "reject",
        "What a write gets that does not say by which record it was routed: `reject` refuses it; "
        "`own` judges it by this pod's own record.",
        because="a caller that comes past every router is probably a mistake",
    )


class WritesSection(Section):
    """How long writes are tried."""

    patience: Annotated[timedelta, DurationBetween("0ms", "1h")] = option(
        "2s",
        "How long a router looks for the pod that accepts a write before it answers with the last "
        "refusal; never longer than the caller's deadline.",
        because="four times what a new writer takes to be there",
    )
