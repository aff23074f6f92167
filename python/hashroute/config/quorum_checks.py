"""Checks of `[quorum]`: numbers that are safe, voters that can be reached, pods that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashroute.config.findings import dotted, finding, nearest, shown
from hashroute.config.lease import LeaseNumbers, in_words
from hashroute.config.quorum import ETCD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hashroute.config.findings import Finding, KeyPath
    from hashroute.config.models import Configuration
    from hashroute.config.quorum import QuorumSection

_VOTERS_EXPECTED: Final = "the addresses of 1, 3 or 5 voters"
_VOTERS: Final = frozenset({1, 3, 5})
_VOTERS_ON_ETCD_EXPECTED: Final = (
    "the addresses of 3 or 5 voters that grant the leases, or none: then leases are kept in etcd"
)
_VOTERS_ON_ETCD: Final = frozenset({0, 3, 5})


def missing_files(configuration: Configuration, directory: Path) -> Iterator[Finding]:
    """Returns a warning for each certificate that cannot be found, relative to ``directory``."""
    tls = configuration.quorum.tls if configuration.quorum is not None else None
    if tls is None:
        return
    for name in ("ca", "certificate", "key"):
        path = directory / getattr(tls, name)
        if not path.is_file():
            yield finding(
                "warning",
                "file_not_here",
                ("quorum", "tls", name),
                "there is no such file on this machine",
                expected="a PEM file; a relative path counts from the configuration's directory",
                got=shown(str(path)),
            )


def _lease_is_safe(quorum: QuorumSection, _: Configuration) -> Iterator[Finding]:
    numbers = LeaseNumbers.of(quorum.lease)
    if numbers.is_safe:
        return
    window, twice = in_words(numbers.window_ns), in_words(2 * numbers.renewal_interval_ns)
    ttl, interval = in_words(numbers.ttl_ns), in_words(numbers.renewal_interval_ns)
    rho, margin = numbers.drift_ppm / 1_000_000, in_words(numbers.margin_ns)
    yield finding(
        "error",
        "lease_unsafe",
        ("quorum", "lease"),
        f"the lease of {ttl} leaves {window} to write in, which is less than two renewal "
        f"intervals of {interval}: one lost message would end it; raise ttl or lower "
        "renewal_interval",
        expected=f"L(1 - 2 rho) - eps >= 2 h, and {ttl} x (1 - 2 x {rho:g}) - {margin} = {window} "
        f"is less than {twice}",
        got=f'ttl = "{ttl}", renewal_interval = "{interval}", drift_ppm = {numbers.drift_ppm}, '
        f'margin = "{margin}"',
        suggestion=numbers.remedy(),
    )


def _lease_suits_the_priority(quorum: QuorumSection, _: Configuration) -> Iterator[Finding]:
    default = LeaseNumbers.of(type(quorum.lease)())
    if quorum.priority != "ordinary" or LeaseNumbers.of(quorum.lease).ttl_ns >= default.ttl_ns:
        return
    yield finding(
        "warning",
        "lease_needs_priority",
        ("quorum", "priority"),
        "a thread of ordinary priority is stalled for longer than so short a lease survives, again "
        "and again",
        ("quorum", "lease"),
        expected='priority = "realtime", or a lease of 300 ms or more',
        got=shown(quorum.priority),
        suggestion='"realtime"',
    )


def _voters_are_odd(quorum: QuorumSection, _: Configuration) -> Iterator[Finding]:
    key: KeyPath = ("quorum", "voters")
    count = len(quorum.voters)
    allowed = _VOTERS_ON_ETCD if quorum.engine == ETCD else _VOTERS
    if count not in allowed:
        reason = {
            0: "nobody votes",
            1: "one voter alone grants no lease that outlives it: etcd without voters does better",
            2: "of two voters both must live: the loss of either ends all writes",
            4: "four voters survive the loss of one, as three do, and need more answers",
        }
        yield finding(
            "error",
            "voters",
            key,
            reason[count],
            ("quorum", "engine"),
            expected=_VOTERS_ON_ETCD_EXPECTED if quorum.engine == ETCD else _VOTERS_EXPECTED,
            got=shown([str(address) for address in quorum.voters]),
            suggestion="one more, such as that of a witness: `hashroute voter`" if count else None,
        )
    for index, address in enumerate(quorum.voters):
        if address in quorum.voters[:index]:
            yield finding(
                "error",
                "voter_twice",
                (*key, index),
                "this voter stands in the list already",
                expected="voters that are all different",
                got=shown(str(address)),
            )
    loopback = [address.is_loopback for address in quorum.voters]
    if any(loopback) and not all(loopback):
        yield finding(
            "warning",
            "voter_on_loopback",
            (*key, loopback.index(True)),
            "the others, on other machines, cannot reach a loopback address",
            expected="an address by which every process of the cluster reaches this voter",
            got=shown(str(quorum.voters[loopback.index(True)])),
        )


def _voter_is_whole(quorum: QuorumSection, _: Configuration) -> Iterator[Finding]:
    if (quorum.listen is None) != (quorum.data is None):
        given, lacks = ("listen", "data") if quorum.data is None else ("data", "listen")
        examples = {"data": 'data = "/var/lib/hashroute"', "listen": 'listen = "10.0.0.1:9010"'}
        yield finding(
            "error",
            "half_a_voter",
            ("quorum", given),
            "a voter needs both an address to listen on and a directory for its disk; "
            f"quorum.{lacks} is missing",
            ("quorum", lacks),
            expected="both listen and data, or neither: a process that does not vote",
            suggestion=examples[lacks],
        )
    if quorum.listen is not None and not quorum.voters and quorum.engine == ETCD:
        yield finding(
            "error",
            "voter_without_voters",
            ("quorum", "listen"),
            "a process votes with this engine only where voters grant the leases, and "
            "quorum.voters names none",
            ("quorum", "voters"),
            expected="quorum.voters with 3 or 5 addresses, or neither listen nor data",
            got=shown(str(quorum.listen)),
        )
    if quorum.listen is None:
        if quorum.advertise is not None:
            yield finding(
                "error",
                "advertise_without_listen",
                ("quorum", "advertise"),
                "there is nothing to reach: quorum.listen is not set",
                ("quorum", "listen"),
                expected="listen with it, or no advertise",
                got=shown(str(quorum.advertise)),
            )
        return
    if quorum.advertise is None and quorum.listen.is_wildcard:
        yield finding(
            "error",
            "advertise_missing",
            ("quorum", "listen"),
            "nobody can call this address: it stands for every address of the machine",
            ("quorum", "advertise"),
            expected="an address of this machine that the others can reach, or advertise with one",
            got=shown(str(quorum.listen)),
            suggestion=f'advertise = "10.0.0.1:{quorum.listen.port}"',
        )
        return
    reached = quorum.advertise or quorum.listen
    if reached.port != 0 and quorum.voters and reached not in quorum.voters:
        yield finding(
            "warning",
            "not_among_the_voters",
            ("quorum", "advertise" if quorum.advertise else "listen"),
            "no voter of quorum.voters: it has no vote until it takes the place of one",
            ("quorum", "voters"),
            expected="one of quorum.voters, or `hashroute quorum replace-voter` afterwards",
            got=shown(str(reached)),
        )


def _member_is_a_pod(quorum: QuorumSection, configuration: Configuration) -> Iterator[Finding]:
    if quorum.pod is None or quorum.pod in configuration.pods:
        return
    meant = nearest(quorum.pod, configuration.pods)
    yield finding(
        "error",
        "unknown_pod",
        ("quorum", "pod"),
        f"there is no pod {shown(quorum.pod)}: add a table [{dotted(('pods', quorum.pod))}]",
        ("pods",),
        expected=f"one of {', '.join(configuration.pods)}" if configuration.pods else "a pod",
        got=shown(quorum.pod),
        suggestion=f'"{meant}"' if meant else None,
    )


def _candidates_are_pods(quorum: QuorumSection, configuration: Configuration) -> Iterator[Finding]:
    for name, group in quorum.groups.items():
        for index, pod in enumerate(group.candidates):
            key: KeyPath = ("quorum", "groups", name, "candidates", index)
            if pod in group.candidates[:index]:
                yield finding(
                    "error",
                    "candidate_twice",
                    key,
                    "this pod stands in the list already",
                    expected="candidates that are all different, best first",
                    got=shown(pod),
                )
            elif pod not in configuration.pods:
                meant = nearest(pod, configuration.pods)
                yield finding(
                    "error",
                    "unknown_pod",
                    key,
                    f"there is no pod {shown(pod)}: add a table [{dotted(('pods', pod))}]",
                    ("pods",),
                    expected=f"one of {', '.join(configuration.pods)}",
                    got=shown(pod),
                    suggestion=f'"{meant}"' if meant else None,
                )


def _etcd_fits_the_engine(quorum: QuorumSection, _: Configuration) -> Iterator[Finding]:
    if quorum.engine == ETCD and quorum.etcd is None:
        yield finding(
            "error",
            "etcd_missing",
            ("quorum", "engine"),
            "the engine is etcd, and no table says where that is",
            ("quorum", "etcd"),
            expected="a table [quorum.etcd]",
            suggestion='[quorum.etcd] with endpoints = ["127.0.0.1:2379"]',
        )
    if quorum.etcd is None:
        return
    if quorum.engine != ETCD:
        yield finding(
            "warning",
            "etcd_unused",
            ("quorum", "etcd"),
            f'engine = "{quorum.engine}" asks no etcd',
            ("quorum", "engine"),
            expected='engine = "etcd", or no table [quorum.etcd]',
        )


def _of_the_quorum(
    check: Callable[[QuorumSection, Configuration], Iterator[Finding]],
) -> Callable[[Configuration], Iterator[Finding]]:
    def checked(configuration: Configuration) -> Iterator[Finding]:
        if configuration.quorum is not None:
            yield from check(configuration.quorum, configuration)

    return checked


QUORUM_CHECKS: Final[tuple[Callable[[Configuration], Iterator[Finding]], ...]] = tuple(
    map(
        _of_the_quorum,
        (
            _lease_is_safe,
            _lease_suits_the_priority,
            _voters_are_odd,
            _voter_is_whole,
            _member_is_a_pod,
            _candidates_are_pods,
            _etcd_fits_the_engine,
        ),
    )
)
