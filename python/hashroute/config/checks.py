"""Checks that need more than one value: what cannot work, and what was probably not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from hashroute.config.findings import KeyPath, dotted, finding, shown
from hashroute.config.keys import PathSource, PeerSource, covers
from hashroute.config.quorum_checks import QUORUM_CHECKS
from hashroute.config.values import format_duration
from hashroute.config.write_checks import WRITE_CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hashroute.config.addresses import Address
    from hashroute.config.findings import Finding
    from hashroute.config.models import Configuration

Transport = Literal["grpc", "zmq"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("grpc", "zmq")

# Below this a change moves about twice the least; the ring itself warns at the same place.
_SLOTS_PER_POD_ADVISED: Final = 64


def cross_check(configuration: Configuration) -> list[Finding]:
    """Returns what is wrong between the values of a configuration whose single values are right."""
    findings: list[Finding] = []
    for check in (*_CHECKS, *QUORUM_CHECKS, *WRITE_CHECKS):
        findings += check(configuration)
    return findings


def listening(configuration: Configuration) -> list[Transport]:
    """Returns the transports that the sidecar serves."""
    return [name for name in TRANSPORTS if getattr(configuration.listen, name) is not None]


def _listens(configuration: Configuration) -> Iterator[Finding]:
    if not listening(configuration) and not _serves_otherwise(configuration):
        yield finding(
            "error",
            "nothing_listens",
            ("listen",),
            "nothing to serve: neither grpc nor zmq listens",
            ("listen", "grpc"),
            ("listen", "zmq"),
            expected="an address for grpc, for zmq, or for both",
            suggestion='grpc = "127.0.0.1:9000"',
        )
    control = configuration.listen.control
    if control is not None and not control.is_loopback:
        yield finding(
            "warning",
            "control_exposed",
            ("listen", "control"),
            "whoever reaches this address may drain and remove pods: it asks for no password",
            expected="a loopback address, or a network of operators alone",
            got=shown(str(control)),
        )


def _serves_otherwise(configuration: Configuration) -> bool:
    """Whether it is the file of a witness, of a member inside a service, or of a guard alone."""
    guard, quorum = configuration.guard, configuration.quorum
    return bool(guard.grpc or guard.zmq or (quorum is not None and (quorum.listen or quorum.pod)))


def _doors(configuration: Configuration) -> Iterator[tuple[KeyPath, Address]]:
    """Returns the addresses that are listened on, by key."""
    quorum = configuration.quorum
    doors: list[tuple[KeyPath, Address | None]] = [
        *((("listen", it), getattr(configuration.listen, it)) for it in _LISTEN_KEYS),
        *((("guard", it), getattr(configuration.guard, it)) for it in TRANSPORTS),
        (("quorum", "listen"), quorum.listen if quorum is not None else None),
    ]
    yield from ((key, address) for key, address in doors if address is not None)


def _listen_addresses_differ(configuration: Configuration) -> Iterator[Finding]:
    seen: dict[Address, KeyPath] = {}
    for key, address in _doors(configuration):
        if address.port == 0:
            continue
        earlier = seen.setdefault(address, key)
        if earlier != key:
            yield finding(
                "error",
                "listen_address_twice",
                key,
                f"{dotted(earlier)} listens on {address} too",
                earlier,
                expected="an address of its own",
            )


def _pods_exist(configuration: Configuration) -> Iterator[Finding]:
    if not configuration.pods:
        yield finding(
            "error",
            "no_pods",
            ("pods",),
            "no pod: there is nowhere to route to",
            expected="at least one table [pods.NAME]",
            suggestion='[pods.pod-a] with grpc = "127.0.0.1:50051"',
        )
    elif all(pod.state == "draining" for pod in configuration.pods.values()):
        yield finding(
            "error",
            "no_active_pod",
            ("pods",),
            "every pod is draining: none would own a slot",
            expected='at least one pod with state = "active"',
        )


def _pods_fit_slots(configuration: Configuration) -> Iterator[Finding]:
    slots, pods = configuration.ring.slots, len(configuration.pods)
    if pods > slots:
        yield finding(
            "error",
            "too_many_pods",
            ("ring", "slots"),
            f"{pods} pods are more than the {slots} slots",
            expected="at least as many slots as pods, better 256 times as many",
            got=str(slots),
            suggestion=str(max(65536, 1 << (pods * 256).bit_length())),
        )
    elif pods and slots < _SLOTS_PER_POD_ADVISED * pods:
        yield finding(
            "warning",
            "few_slots",
            ("ring", "slots"),
            f"{slots} slots for {pods} pods: a change will move more keys than it must",
            expected="about 256 slots a pod; changing it moves keys once",
            got=str(slots),
            suggestion=str(max(65536, 1 << (pods * 256).bit_length())),
        )


def _weights_own_a_slot(configuration: Configuration) -> Iterator[Finding]:
    owning = {n: pod for n, pod in configuration.pods.items() if pod.state == "active"}
    if len(configuration.pods) > configuration.ring.slots:
        return  # said already, and true of all of them
    total = sum(pod.weight for pod in owning.values())
    for name, pod in owning.items():
        if pod.weight * configuration.ring.slots < total:
            yield finding(
                "warning",
                "share_below_a_slot",
                ("pods", name, "weight"),
                "its fair share is less than one slot: it may own nothing at all",
                ("ring", "slots"),
                expected=f"at least {total / configuration.ring.slots:.6g} beside these weights",
                got=shown(pod.weight),
            )


def _pods_have_addresses(configuration: Configuration) -> Iterator[Finding]:
    served = listening(configuration)
    for name, pod in configuration.pods.items():
        missing = [transport for transport in served if getattr(pod, transport) is None]
        for transport in missing:
            unreachable = len(missing) == len(served)
            consequence = (
                "nothing can reach this pod"
                if unreachable
                else f"its {transport} requests all go to the next pod of the list"
            )
            yield finding(
                "error" if unreachable else "warning",
                "pod_without_address",
                ("pods", name, transport),
                f"no {transport} address, and listen.{transport} is set: {consequence}",
                ("listen", transport),
                expected=f"the address of its {transport} server",
                suggestion=_ADDRESS_EXAMPLES[transport],
            )


def _pod_addresses_differ(configuration: Configuration) -> Iterator[Finding]:
    own = {address: key for key, address in _doors(configuration)}
    guarded = configuration.quorum.pod if configuration.quorum is not None else None
    seen: dict[Address, KeyPath] = {}
    for name, pod in configuration.pods.items():
        for transport in TRANSPORTS:
            address = getattr(pod, transport)
            if address is None:
                continue
            key: KeyPath = ("pods", name, transport)
            if name == guarded and own.get(address) == ("guard", transport):
                continue  # as it should be: the guard stands before the pod
            if address in own:
                yield finding(
                    "error",
                    "pod_is_the_sidecar",
                    key,
                    f"{address} is this sidecar's own {dotted(own[address])}",
                    own[address],
                    expected="the address of the pod",
                    got=shown(str(address)),
                )
                continue
            earlier = seen.setdefault(address, key)
            if earlier != key:
                yield finding(
                    "warning",
                    "duplicate_address",
                    key,
                    f"{dotted(earlier)} has the same address: its server would own two shares",
                    earlier,
                    expected="an address of its own",
                    got=shown(str(address)),
                )


def _routes_can_match(configuration: Configuration) -> Iterator[Finding]:
    for index, route in enumerate(configuration.routes):
        for earlier in range(index):
            pattern = configuration.routes[earlier].match
            if covers(pattern, route.match):
                key: KeyPath = ("routes", index, "match")
                first: KeyPath = ("routes", earlier, "match")
                yield finding(
                    "warning",
                    "route_never_matches",
                    key,
                    f'{dotted(first)} = "{pattern}" comes first and covers it',
                    first,
                    expected="the narrower route before the wider one",
                    got=shown(route.match),
                )
                break


def _key_sources_can_be_used(configuration: Configuration) -> Iterator[Finding]:
    for index, route in enumerate(configuration.routes):
        for place, source in enumerate(route.key):
            before = route.key[:place]
            always = [one for one in before if isinstance(one, PathSource | PeerSource)]
            if source in before:
                message = f"{source} stands earlier in the list"
            elif always:
                message = f"{always[0]} before it is never missing, so it is never looked at"
            else:
                continue
            yield finding(
                "warning",
                "key_source_never_used",
                ("routes", index, "key", place),
                message,
                expected="sources that can be missing first, path or peer last",
                got=shown(str(source)),
            )


def _health_fits(configuration: Configuration) -> Iterator[Finding]:
    health = configuration.health
    if health.timeout < health.interval:
        yield finding(
            "warning",
            "timeout_below_interval",
            ("health", "timeout"),
            f"shorter than health.interval ({format_duration(health.interval)}): one slow answer "
            "makes a pod down",
            ("health", "interval"),
            expected="two or three intervals",
            got=shown(format_duration(health.timeout)),
            suggestion=f'"{format_duration(3 * health.interval)}"',
        )
    if health.service and health.probe != "grpc":
        yield finding(
            "warning",
            "service_unused",
            ("health", "service"),
            f'probe = "{health.probe}" asks no service',
            ("health", "probe"),
            expected='probe = "grpc", or no service',
            got=shown(health.service),
        )


_LISTEN_KEYS: Final = ("grpc", "zmq", "admin", "control")

_ADDRESS_EXAMPLES: Final = {
    "grpc": 'grpc = "127.0.0.1:50051"',
    "zmq": 'zmq = "tcp://127.0.0.1:5551"',
}

_CHECKS: Final[tuple[Callable[[Configuration], Iterator[Finding]], ...]] = (
    _listens,
    _listen_addresses_differ,
    _pods_exist,
    _pods_fit_slots,
    _weights_own_a_slot,
    _pods_have_addresses,
    _pod_addresses_differ,
    _routes_can_match,
    _key_sources_can_be_used,
    _health_fits,
)
