"""Checks of what has one writer: the routes that say so, and the guard in front of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashroute.config.findings import dotted, finding, nearest, shown
from hashroute.config.keys import DEFAULT_SOURCE
from hashroute.config.models import RouteSection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hashroute.config.addresses import Address
    from hashroute.config.findings import Finding, KeyPath
    from hashroute.config.models import Configuration, ZmqSection


def _writes_are_enforced(configuration: Configuration) -> Iterator[Finding]:
    for index, route in enumerate(configuration.routes):
        yield from _write_rule(configuration, ("routes", index), route)
    yield from _write_rule(configuration, ("zmq",), configuration.zmq)


def _write_rule(
    configuration: Configuration, key: KeyPath, rule: RouteSection | ZmqSection
) -> Iterator[Finding]:
    if not rule.write and rule.group is None:
        return
    cause = (*key, "write" if rule.group is None else "group")
    if configuration.quorum is None:
        yield finding(
            "warning",
            "write_not_enforced",
            cause,
            "nothing enforces it: without [quorum] two pods may write the same at once, and writes "
            "are refused by nobody",
            ("quorum",),
            expected="a table [quorum], or no write and no group",
        )
    if rule.group is not None:
        yield from _group_rule(configuration, key, rule.group, rule)
    elif rule.on_missing == "any":
        yield finding(
            "error",
            "write_without_key",
            (*key, "on_missing"),
            "a write without a key belongs to no slot, so nobody may write it",
            (*key, "write"),
            expected='"reject", or a group',
            got='"any"',
            suggestion='"reject"',
        )


def _group_rule(
    configuration: Configuration, key: KeyPath, group: str, rule: RouteSection | ZmqSection
) -> Iterator[Finding]:
    if configuration.quorum is not None and group not in configuration.quorum.groups:
        names = [*configuration.quorum.groups]
        meant = nearest(group, names)
        yield finding(
            "warning",
            "unknown_group",
            (*key, "group"),
            f"there is no table [{dotted(('quorum', 'groups', group))}]: writes fail unless the "
            "group was added to the record later",
            ("quorum", "groups"),
            expected=f"one of {', '.join(names)}" if names else "a group of [quorum.groups]",
            got=shown(group),
            suggestion=f'"{meant}"' if meant else None,
        )
    if "write" in rule.model_fields_set and not rule.write:
        yield finding(
            "error",
            "group_is_not_write",
            (*key, "write"),
            "a group has one writer, so its requests are writes",
            (*key, "group"),
            expected="true, or no write",
            got="false",
            suggestion="true",
        )
    if isinstance(rule, RouteSection) and rule.key != (DEFAULT_SOURCE,):
        yield finding(
            "warning",
            "key_source_never_used",
            (*key, "key"),
            "the group says where these requests go, so no key is looked for",
            (*key, "group"),
            expected="no key in a route with a group",
        )


def _guard_is_whole(configuration: Configuration) -> Iterator[Finding]:
    guard, quorum = configuration.guard, configuration.quorum
    for transport in ("grpc", "zmq"):
        listen: Address | None = getattr(guard, transport)
        service: Address | None = getattr(guard, f"{transport}_service")
        if (listen is None) != (service is None):
            given, lacks = (
                (transport, f"{transport}_service")
                if service is None
                else (f"{transport}_service", transport)
            )
            yield finding(
                "error",
                "half_a_guard",
                ("guard", given),
                f"a guard stands between two addresses; guard.{lacks} is missing",
                ("guard", lacks),
                expected=f"both {transport} and {transport}_service, or neither",
            )
        elif service is not None and service in _own(configuration):
            yield finding(
                "error",
                "guard_of_itself",
                ("guard", f"{transport}_service"),
                f"{service} is this sidecar itself: requests would go round in a circle",
                ("guard", transport),
                expected="the address of the service behind the guard",
                got=shown(str(service)),
            )
        elif listen is not None and quorum is not None and quorum.pod in configuration.pods:
            yield from _pod_is_behind_the_guard(configuration, quorum.pod, transport)
    if (guard.grpc or guard.zmq) and (quorum is None or quorum.pod is None):
        yield finding(
            "error",
            "guard_without_member",
            ("guard",),
            "a guard admits what its own pod may write, and this process is the member of none",
            ("quorum",),
            ("quorum", "pod"),
            expected="quorum.pod with the name of the pod behind the guard",
            suggestion='pod = "pod-a" in [quorum]',
        )


def _pod_is_behind_the_guard(
    configuration: Configuration, pod: str, transport: str
) -> Iterator[Finding]:
    listen: Address = getattr(configuration.guard, transport)
    address: Address | None = getattr(configuration.pods[pod], transport)
    if address is None or listen.port in {0, address.port}:
        return
    yield finding(
        "warning",
        "pod_past_the_guard",
        ("pods", pod, transport),
        f"requests to this pod go past its guard, which listens on {listen}",
        ("guard", transport),
        ("quorum", "pod"),
        expected="the address of the guard",
        got=shown(str(address)),
        suggestion=f'"{"tcp://" if transport == "zmq" else ""}{_reached(listen, address)}"',
    )


def _reached(listen: Address, pod: Address) -> Address:
    """The address of a guard as the routers see it: a wildcard is the host of the pod."""
    return type(listen)(pod.host if listen.is_wildcard else listen.host, listen.port)


def _own(configuration: Configuration) -> set[Address]:
    listen, guard = configuration.listen, configuration.guard
    doors = (listen.grpc, listen.zmq, listen.admin, listen.control, guard.grpc, guard.zmq)
    return {address for address in doors if address is not None and address.port != 0}


WRITE_CHECKS: Final[tuple[Callable[[Configuration], Iterator[Finding]], ...]] = (
    _writes_are_enforced,
    _guard_is_whole,
)
