"""What a process tells the cluster that it takes part in: its certificates, its lease.

A cluster is the processes that agree by majority on one record: who owns what, and who may write.
:func:`hashroute.pod.join` makes a process a member of it, :meth:`hashroute.Router.connect` a router
that follows it; ``docs/single-writer.md`` says how it works.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hashroute._hashroute import View
from hashroute._ring import EPSILON_DEFAULT, SLOTS_DEFAULT, Pod
from hashroute.errors import ArgumentTypeError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LEASES", "Lease", "LeaseName", "Priority", "Tls"]

LeaseName = Literal["default", "tight", "slow"]
Priority = Literal["realtime", "ordinary"]
"""What the thread that keeps the lease asks the system for."""

StrPath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates of a process, as PEM files: both sides of a connection show theirs.

    Args:
        ca: who signs the certificates of this cluster.
        certificate: the certificate of this process.
        key: its private key.
        server_name: the name that the certificates of voters are made out to; None: the host of
            their address.
    """

    ca: StrPath
    certificate: StrPath
    key: StrPath
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The numbers of a lease. Every process of a cluster has the same; they are fixed for its life.

    Args:
        ttl_seconds: L, for how long a voter lets nobody else write after it granted a renewal; a
            dead writer is replaced so much later.
        renewal_interval_seconds: h, the time between two renewals.
        drift_ppm: rho, how far a clock may drift from true time, in millionths.
        margin_seconds: eps, how much earlier a member stops than its lease ends.
    """

    ttl_seconds: float = 0.3
    renewal_interval_seconds: float = 0.05
    drift_ppm: int = 1_000
    margin_seconds: float = 0.01


LEASES: Mapping[LeaseName, Lease] = MappingProxyType(
    {
        "default": Lease(),
        "tight": Lease(ttl_seconds=0.15, renewal_interval_seconds=0.025, margin_seconds=0.003),
        "slow": Lease(ttl_seconds=1.0, renewal_interval_seconds=0.2),
    }
)
"""The leases that have a name: ``tight`` wants real-time priority, ``slow`` suits any machine."""

# A node is told a view; what a process that is no member says in it is never looked at.
_NOBODY = Pod("nobody")


def node_settings(
    *,
    cluster: str,
    voters: Sequence[str],
    tls: Tls | None,
    stale_after_seconds: float,
    pod: Pod | None = None,
    listen: str | None = None,
    advertise: str | None = None,
    data: StrPath | None = None,
    lease: Lease | LeaseName = "default",
    priority: Priority = "realtime",
    stall_check_seconds: float = 0.0,
    force: bool = False,
) -> str:
    """Returns the settings of a node as the extension reads them.

    Raises:
        ConfigurationError: an argument says nothing.
    """
    if isinstance(voters, str):
        raise ArgumentTypeError(f"voters is a list of addresses; write [{voters!r}]")
    # The cluster's own numbers count; of these only the pod is looked at.
    view = View([pod or _NOBODY], slots=SLOTS_DEFAULT, epsilon=EPSILON_DEFAULT, seed=0)
    settings = {
        "cluster": cluster,
        "engine": "embedded",
        "voters": list(voters),
        "listen": listen,
        "advertise": advertise,
        "data": None if data is None else os.fspath(data),
        "pod": None if pod is None else pod.id,
        "view": json.loads(view.to_json()),
        "lease": _lease(lease),
        "tls": None if tls is None else _tls(tls),
        "priority": priority,
        "stale_after_ms": _whole(stale_after_seconds, 1_000, "stale_after_seconds"),
        "stall_check_ms": _whole(stall_check_seconds, 1_000, "stall_check_seconds"),
        "force": force,
    }
    return json.dumps(settings)


def _lease(lease: Lease | LeaseName) -> dict[str, int]:
    if not isinstance(lease, Lease):
        if lease not in LEASES:
            names = ", ".join(map(repr, LEASES))
            raise ParameterError(
                f"lease must be {names} or a Lease, not {lease!r}", parameter="lease"
            )
        lease = LEASES[lease]
    return {
        "ttl_us": _whole(lease.ttl_seconds, 1_000_000, "ttl_seconds"),
        "renewal_interval_us": _whole(
            lease.renewal_interval_seconds, 1_000_000, "renewal_interval_seconds"
        ),
        "drift_ppm": lease.drift_ppm,
        "margin_us": _whole(lease.margin_seconds, 1_000_000, "margin_seconds"),
    }


def _tls(tls: Tls) -> dict[str, Any]:
    paths = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
    return {
        **{name: os.fspath(path) for name, path in paths.items()},
        "server_name": tls.server_name,
    }


def _whole(seconds: float, units: int, name: str) -> int:
    """The time in whole units, rounded to the nearest."""
    if not 0 <= seconds < 1e9:  # noqa: PLR2004 - also refuses what is not a number
        raise ParameterError(
            f"{name} must be a number of seconds, finite and not negative, not {seconds!r}",
            parameter=name,
        )
    return round(seconds * units)
