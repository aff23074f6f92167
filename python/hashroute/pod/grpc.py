"""Guards in front of the handlers of a gRPC server.

::

    server = grpc.server(
        futures.ThreadPoolExecutor(),
        interceptors=[
            hashroute.pod.grpc.interceptor(
                member.guard, writes=["/orders.Orders/*"], key="field:symbol"
            )
        ],
    )

A call of a write is admitted before its handler runs, and counts as under way until the handler has
ended; one that is not is refused with the status and the trailers that routers understand. What the
handler finds as :func:`hashroute.pod.current_term`, and as ``x-hashroute-term`` in its metadata, is
the fencing token for its store.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from hashroute.clients._keys import Methods
from hashroute.pod._grpc_aio import AioGuardInterceptor
from hashroute.pod._grpc_sync import GuardInterceptor
from hashroute.pod._rules import Rules, Untagged

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc
    import grpc.aio

    from hashroute._hashroute import Guard
    from hashroute.clients._keys import KeySource

__all__ = ["Methods", "Untagged", "aio_interceptor", "interceptor"]

_NO_GROUPS: Mapping[str, str] = MappingProxyType({})


def interceptor(
    guard: Guard,
    *,
    writes: Methods,
    key: KeySource | None = None,
    groups: Mapping[str, str] = _NO_GROUPS,
    untagged: Untagged = "reject",
) -> grpc.ServerInterceptor:
    """Returns the interceptor of a ``grpc.server`` that lets in only the writes that it may.

    A call with a stream, of requests or responses, is one write from its first to its last message.
    While it is under way its slot cannot be handed over in good order; a handler whose stream lives
    for long is better left out of ``writes``, and has each message admitted by ``guard.admit``.

    Put it first: what other interceptors do before it is done without the guard.

    Args:
        guard: of :attr:`hashroute.pod.Member.guard`.
        writes: which methods are writes: all (True), those of the patterns
            (``/package.Service/*``, ``/package.Service/Method``), or a function of the method.
        key: where the key of a write is, as the router has it (see
            :func:`hashroute.clients.grpc.channel`): the guard then computes the slot itself, and
            refuses a write that is tagged with another. None believes the tag.
        groups: the group that methods write, by their pattern; they are writes, and need no key.
        untagged: what a write gets that does not say by which record it was routed: ``reject``
            refuses it; ``own`` judges it by this pod's own record.

    Raises:
        ConfigurationError: an argument says nothing.
    """
    rules = Rules(guard, writes=writes, key=key, groups=groups, untagged=untagged)
    return GuardInterceptor(guard, rules)


def aio_interceptor(
    guard: Guard,
    *,
    writes: Methods,
    key: KeySource | None = None,
    groups: Mapping[str, str] = _NO_GROUPS,
    untagged: Untagged = "reject",
) -> grpc.aio.ServerInterceptor:
    """Returns the form of :func:`interceptor` for a ``grpc.aio.server``, with the same arguments.

    Handlers may be coroutines, asynchronous generators, or functions that the server runs on its
    threads. A coroutine with streams reads and writes through its context.
    """
    rules = Rules(guard, writes=writes, key=key, groups=groups, untagged=untagged)
    return AioGuardInterceptor(guard, rules)
