"""The settings of the native sidecar, made from a configuration."""

from typing import TYPE_CHECKING, Any

from hashroute.config.checks import TRANSPORTS
from hashroute.config.keys import FieldSource, KeySource, MetadataSource
from hashroute.config.values import milliseconds_of

if TYPE_CHECKING:
    from hashroute.config.models import Configuration
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
    }


def _source(source: KeySource) -> Any:
    match source:
        case MetadataSource(name):
            return {"metadata": name}
        case FieldSource(path):
            return {"field": list(path)}
        case _:
            return str(source)
