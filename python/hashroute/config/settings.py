"""The settings of the native sidecar, made from a configuration."""

from typing import TYPE_CHECKING, Any

from hashroute.config.checks import TRANSPORTS
from hashroute.config.keys import FieldSource, KeySource, MetadataSource
from hashroute.config.lease import LeaseNumbers
from hashroute.config.quorum import ETCD
from hashroute.config.values import milliseconds_of
from hashroute.errors import InternalError

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.config.addresses import Address
    from hashroute.config.models import Configuration
    from hashroute.config.quorum import EtcdSection, GuardSection, LeaseSection, TlsSection
    from hashroute.config.reading import Loaded

_BY_TRANSPORT: set[str] = set(TRANSPORTS)

VIEW_VERSION = 1
"""The version of the JSON form of a view."""


def view_of(configuration: "Configuration", *, epoch: int) -> dict[str, Any]:
    """Returns the view that a configuration describes, in the JSON form of a view."""
    ring = configuration.ring
    return {
        "version": VIEW_VERSION,
        "epoch": epoch,
        "slots": ring.slots,
        "epsilon": ring.epsilon,
        "seed": ring.seed,
        "pods": [
            {
                "id": name,
                "weight": pod.weight,
                "zone": pod.zone,
                "state": pod.state,
                "addresses": pod.model_dump(mode="json", include=_BY_TRANSPORT),
            }
            for name, pod in sorted(configuration.pods.items())
        ],
    }


def settings_of(loaded: "Loaded", view: dict[str, Any]) -> dict[str, Any]:
    """Returns everything that the native sidecar is told, with ``view`` to route by."""
    configuration = loaded.configuration
    zmq, health, limits = configuration.zmq, configuration.health, configuration.limits
    retry = configuration.retry
    return {
        "view": view,
        "listen": configuration.listen.model_dump(mode="json", include=_BY_TRANSPORT),
        "routes": [
            {
                "match": route.pattern,
                "key": [_source(source) for source in route.sources],
                "on_missing": route.on_missing,
                "idempotent": route.idempotent,
                "write": route.write,
                "group": route.group,
            }
            for route in loaded.routes
        ],
        "zmq": {
            "key_frame": zmq.key_frame,
            "idempotent": zmq.idempotent,
            "envelope": zmq.envelope,
            "request_timeout_ms": milliseconds_of(zmq.request_timeout),
            "message_bytes_max": zmq.message_bytes_max,
            "on_missing": zmq.on_missing,
            "write": zmq.write or zmq.group is not None,
            "group": zmq.group,
        },
        "health": {
            "interval_ms": milliseconds_of(health.interval),
            "timeout_ms": milliseconds_of(health.timeout),
            "probe": health.probe,
            "service": health.service,
        },
        "load": {"c": configuration.load.c, "floor": configuration.load.floor},
        "retry": {
            "attempts_max": retry.attempts_max,
            "budget_ratio": retry.budget_ratio,
            "budget_reserve": retry.budget_reserve,
            "buffer_bytes": retry.buffer_bytes,
        },
        "limits": {
            "connections_max": limits.connections_max,
            "requests_max": limits.requests_max,
            "header_list_bytes": limits.header_list_bytes,
            "handshake_timeout_ms": milliseconds_of(limits.handshake_timeout),
            "keepalive_ms": milliseconds_of(limits.keepalive),
            "stream_window_bytes": limits.stream_window_bytes,
        },
        "quorum": None if configuration.quorum is None else node_settings_of(loaded),
        "guard": _guard(configuration.guard),
        "writes": {"patience_ms": milliseconds_of(configuration.writes.patience)},
    }


def node_settings_of(loaded: "Loaded") -> dict[str, Any]:
    """Returns everything that a node of the quorum is told; the configuration has ``[quorum]``.

    Relative paths count from the directory of the file.
    """
    configuration, directory = loaded.configuration, loaded.file.parent
    quorum = configuration.quorum
    if quorum is None:
        raise InternalError("settings: a node without [quorum]")
    return {
        "cluster": quorum.cluster,
        "engine": quorum.engine if quorum.etcd is None else _engine(quorum.engine, quorum.etcd),
        "voters": [str(address) for address in quorum.voters],
        "listen": _text(quorum.listen),
        "advertise": _text(quorum.advertise),
        "data": None if quorum.data is None else str(directory / quorum.data),
        "pod": quorum.pod,
        "view": view_of(configuration, epoch=1),
        "lease": lease_of(quorum.lease),
        "tls": None if quorum.tls is None else tls_of(quorum.tls, directory),
        "priority": quorum.priority,
        "stale_after_ms": milliseconds_of(quorum.stale_after),
        "stall_check_ms": milliseconds_of(quorum.stall_check),
        "force": quorum.force,
    }


def lease_of(lease: "LeaseSection") -> dict[str, int]:
    """Returns the numbers of a lease in microseconds."""
    numbers = LeaseNumbers.of(lease)
    return {
        "ttl_us": numbers.ttl_ns // 1_000,
        "renewal_interval_us": numbers.renewal_interval_ns // 1_000,
        "drift_ppm": numbers.drift_ppm,
        "margin_us": numbers.margin_ns // 1_000,
    }


def tls_of(tls: "TlsSection", directory: "Path") -> dict[str, str | None]:
    """Returns the certificates, with paths from ``directory``."""
    return {
        **{name: str(directory / getattr(tls, name)) for name in ("ca", "certificate", "key")},
        "server_name": tls.server_name,
    }


def _engine(engine: str, etcd: "EtcdSection") -> Any:
    if engine != ETCD:
        return engine
    return {
        "etcd": {
            "endpoints": [str(address) for address in etcd.endpoints],
            "prefix": etcd.prefix,
        }
    }


def _guard(guard: "GuardSection") -> dict[str, Any] | None:
    written = guard.model_dump(mode="json")
    doors: dict[str, Any] = {
        transport: {"listen": written[transport], "service": written[f"{transport}_service"]}
        if written[transport] is not None
        else None
        for transport in TRANSPORTS
    }
    return {**doors, "untagged": guard.untagged} if any(doors.values()) else None


def _text(address: "Address | None") -> str | None:
    return None if address is None else str(address)


def _source(source: KeySource) -> Any:
    match source:
        case MetadataSource(name):
            return {"metadata": name}
        case FieldSource(path):
            return {"field": list(path)}
        case _:
            return str(source)
