"""gRPC channels that send each request to the pod of its key, without a sidecar.

A program written against ``grpc.Channel`` changes one line::

    channel = grpc.insecure_channel("10.0.0.1:50051")
    channel = hashroute.clients.grpc.channel(["10.0.0.1:50051", "10.0.0.2:50051"])

The key of a request is its metadata ``x-hashroute-key``, or what ``key=`` says. The pod sees
``x-hashroute-slot``, ``-epoch`` and ``-term``, as through a sidecar.
"""

from __future__ import annotations

import asyncio
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import grpc
import grpc.aio

from hashroute.clients._grpc_aio import RoutedAioChannel
from hashroute.clients._grpc_exchange import Client
from hashroute.clients._grpc_pods import DEFAULT_OPTIONS, PodChannels
from hashroute.clients._grpc_sync import RoutedChannel
from hashroute.clients._keys import (
    KEY_METADATA,
    KeyFinder,
    KeyFunction,
    KeySource,
    Methods,
    group_rule,
    methods,
)
from hashroute.clients._targets import Target, router_of
from hashroute.clients._waiting import Waiting
from hashroute.errors import ParameterError
from hashroute.router import HealthOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashroute.router import Router

C = TypeVar("C")

__all__ = ["KeyFunction", "KeySource", "Methods", "Target", "aio_channel", "channel"]

_NO_GROUPS: Mapping[str, str] = MappingProxyType({})
PATIENCE_SECONDS = 2.0


def channel(
    pods: Target,
    *,
    key: KeySource = f"metadata:{KEY_METADATA}",
    on_missing: Literal["reject", "any"] = "any",
    idempotent: Methods = False,
    writes: Methods = False,
    groups: Mapping[str, str] = _NO_GROUPS,
    patience_seconds: float = PATIENCE_SECONDS,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
) -> grpc.Channel:
    """Returns a channel that routes by key. Safe to share between threads, like any channel.

    A request that certainly reached no pod is sent to the next in its preference list; one that may
    have is sent again only if its method is idempotent, within the router's retry budget, and only
    while its caller has seen nothing of the response. So is one that waits for a pod that is found
    down. Other failures are the caller's, as the pod or gRPC made them.

    Args:
        pods: a :class:`hashroute.Router` (which stays the caller's to close), a ring, pods,
            addresses, or a mapping from pod id to address.
        key: where the key is: ``metadata:NAME``, ``field:PATH`` (a protobuf field of the request,
            by name or number), ``path`` (the method), several of these in the order in which they
            are tried, or a function ``key(method, request)``. Methods with a stream of requests
            have no request to look into.
        on_missing: what becomes of a request without a key: ``any`` pod gets it, or it is rejected
            with INVALID_ARGUMENT.
        idempotent: which methods may be carried out twice without harm: all (True), none, those of
            the patterns (``/package.Service/*``, ``/package.Service/Method``), or a function.
        writes: which methods have one writer, said as for ``idempotent``. They need a key.
        groups: the group whose leader is the one writer, by the pattern of methods; they are
            writes, and need no key.
        patience_seconds: how long a pod that accepts a write is looked for, at most until the
            call's deadline.
        credentials: for TLS to the pods; None for plain connections.
        options: for the channels to the pods.
        compression: for the channels to the pods.

    Raises:
        ConfigurationError: no router can be made of ``pods``, or another argument says nothing.
    """
    merged = (*DEFAULT_OPTIONS, *options)

    def dial(address: str) -> grpc.Channel:
        if credentials is None:
            return grpc.insecure_channel(address, merged, compression)
        return grpc.secure_channel(address, credentials, merged, compression)

    def hang_up(channel: grpc.Channel) -> None:
        # The end of a call is heard on a thread of its channel, which cannot close what it serves.
        threading.Thread(target=channel.close, name="hashroute-closing", daemon=True).start()

    router, owned = _router_of(pods, credentials)
    channels = PodChannels(router, dial, hang_up)
    rules = _Rules(key, on_missing, idempotent, writes, groups, patience_seconds)
    return RoutedChannel(_client(router, channels, rules), owned)


def aio_channel(
    pods: Target,
    *,
    key: KeySource = f"metadata:{KEY_METADATA}",
    on_missing: Literal["reject", "any"] = "any",
    idempotent: Methods = False,
    writes: Methods = False,
    groups: Mapping[str, str] = _NO_GROUPS,
    patience_seconds: float = PATIENCE_SECONDS,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
) -> grpc.aio.Channel:
    """Returns the asyncio form of :func:`channel`, with the same arguments.

    To be called, and used, within one running event loop.
    """
    merged = (*DEFAULT_OPTIONS, *options)
    closings: set[asyncio.Task[None]] = set()

    def dial(address: str) -> grpc.aio.Channel:
        if credentials is None:
            return grpc.aio.insecure_channel(address, merged, compression)
        return grpc.aio.secure_channel(address, credentials, merged, compression)

    def hang_up(channel: grpc.aio.Channel) -> None:
        # The loop keeps no strong reference to its tasks.
        task = asyncio.ensure_future(channel.close())
        closings.add(task)
        task.add_done_callback(closings.discard)

    router, owned = _router_of(pods, credentials)
    channels = PodChannels(router, dial, hang_up)
    rules = _Rules(key, on_missing, idempotent, writes, groups, patience_seconds)
    return RoutedAioChannel(_client(router, channels, rules), owned)


def _router_of(
    pods: Target, credentials: grpc.ChannelCredentials | None
) -> tuple[Router, Router | None]:
    # Probes speak plain gRPC; of a pod that wants TLS they can only see that it listens.
    health = HealthOptions() if credentials is None else HealthOptions(probe="connect")
    router, is_ours = router_of(pods, transport="grpc", health=health)
    return router, router if is_ours else None


class _Rules(NamedTuple):
    key: KeySource
    on_missing: Literal["reject", "any"]
    idempotent: Methods
    writes: Methods
    groups: Mapping[str, str]
    patience_seconds: float


def _client(router: Router, channels: PodChannels[C], rules: _Rules) -> Client[C]:
    if rules.on_missing not in {"reject", "any"}:
        raise ParameterError(
            f"on_missing must be 'reject' or 'any', not {rules.on_missing!r}",
            parameter="on_missing",
        )
    if (rules.writes is not False or rules.groups) and router.record_epoch is None:
        raise ParameterError(
            "writes need a router that follows a quorum, which says who may write: make it with "
            "Router.connect(voters, cluster=…)",
            parameter="writes",
        )
    return Client(
        router=router,
        finder=KeyFinder.of(rules.key),
        is_idempotent=methods(rules.idempotent, "idempotent"),
        is_write=methods(rules.writes, "writes"),
        group_of=group_rule(rules.groups),
        patience_seconds=rules.patience_seconds,
        on_missing=rules.on_missing,
        channels=channels,
        waiting=Waiting(router),
    )
