"""Whom a client talks to: a router that is given, or one of its own for the pods that are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from hashroute._ring import Pod, Pods, Ring
from hashroute.errors import ParameterError
from hashroute.router import HealthOptions, Router

if TYPE_CHECKING:
    from typing import Literal

Target: TypeAlias = Router | Ring | Pods | Mapping[str, str]
"""A router; or what makes one: a ring, pods, or a mapping from pod id to address."""


def router_of(
    target: Target, *, transport: Literal["grpc", "zmq"], health: HealthOptions
) -> tuple[Router, bool]:
    """Returns the router for ``target``, and whether it was made here and is the caller's to close.

    A pod that is given as a str without an address is taken for its own address.

    Raises:
        ConfigurationError: no router can be made of it, or it is one for another transport.
    """
    if isinstance(target, Router):
        if target.transport != transport:
            raise ParameterError(
                f"the router chooses pods by their address for {target.transport}, and this client "
                f"speaks {transport}: make it with Router(..., transport={transport!r})",
                parameter="transport",
            )
        return target, False
    if isinstance(target, Ring):
        return Router(target, health=health, transport=transport), True
    if isinstance(target, Mapping):
        pods = [_pod(pod, value, transport) for pod, value in target.items()]
    else:
        each = [target] if isinstance(target, str) else target
        pods = [pod if isinstance(pod, Pod) else _pod(pod, pod, transport) for pod in each]
    return Router(pods, health=health, transport=transport), True


def _pod(pod: str, value: str | float, transport: Literal["grpc", "zmq"]) -> Pod:
    if isinstance(value, str):
        return Pod(pod, grpc=value) if transport == "grpc" else Pod(pod, zmq=value)
    address = {"grpc": pod} if transport == "grpc" else {"zmq": pod}
    return Pod(pod, weight=value, **address)  # type: ignore[arg-type]
