"""A cluster as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashroute.cli._common import table
from hashroute.cli.quorum._cluster import moment

if TYPE_CHECKING:
    from hashroute.cli.quorum._cluster import Cluster, Group, Member, Router, Voter

_ID_DIGITS: Final = 8
"""Enough to tell a handful of voters apart; --json has all."""

_ROUTERS_SHOWN_MAX: Final = 10

_VOTER_HEAD: Final = (
    "voter",
    "of",
    "id",
    "answers",
    "epoch",
    "sync p50",
    "sync p99",
    "attended by",
    "",
)
_WRITER_HEAD: Final = ("pod", "state", "writes", "share", "terms", "since", "lease", "margin")
_GROUP_HEAD: Final = ("group", "leader", "term", "since", "candidates")
_MEMBER_HEAD: Final = (
    *("pod", "state", "process", "voters", "lease", "margin", "renewal p99", "promise"),
    *("admitted", "refused"),
)


def status_text(cluster: Cluster) -> str:
    """Returns all that `hashroute quorum status` shows."""
    parts = [
        "\n".join([_headline(cluster), *_verdict(cluster)]),
        table(_VOTER_HEAD, [_voter(it) for it in cluster.voters], right={4, 5, 6}),
    ]
    if cluster.members:
        rows = [_writer(it, cluster.leases) for it in cluster.members]
        parts.append(table(_WRITER_HEAD, rows, right={2, 3, 7}))
    if cluster.groups:
        rows = [_group(it) for it in cluster.groups]
        parts.append(table(_GROUP_HEAD, rows, right={2}))
    if cluster.leases != "etcd":  # who watches etcd is not seen there
        parts.append(_routers(cluster.routers))
    return "\n\n".join(parts)


def members_text(cluster: Cluster) -> str:
    """Returns the table that `hashroute quorum members` shows: the pods, then the witnesses."""
    rows = [_member(it, cluster.leases) for it in cluster.members]
    rows += [_witness(it) for it in cluster.voters if it.is_voter and it.process == "witness"]
    return table(_MEMBER_HEAD, rows, right={3, 5, 6, 7, 8})


def _verdict(cluster: Cluster) -> list[str]:
    """What whoever is woken up reads first: whether everything can be written, and what to do."""
    lines = [f"not writable: {reason}" for reason in cluster.reasons]
    lines = lines or ["writable: every slot and group has a writer"]
    lines += [f"degraded: {text}" for text in cluster.degraded]
    return lines + [f"warning: {it.address}: {it.text}" for it in cluster.warnings]


def _headline(cluster: Cluster) -> str:
    facts = [cluster.name, f"epoch {cluster.epoch}"]
    if cluster.digest:
        facts.append(f"digest {cluster.digest}")
    if cluster.lease is not None:
        ttl, interval = cluster.lease["ttl_ms"], cluster.lease["renewal_interval_ms"]
        facts.append(f"lease {ttl:g} ms, renewed each {interval:g} ms")
    if cluster.recovery_promise_ms is not None:
        facts.append(f"a new writer within {cluster.recovery_promise_ms:.0f} ms")
    is_mixed = cluster.engine == "etcd" and cluster.leases == "voters"
    facts.append(f"{cluster.engine}, leases by voters" if is_mixed else cluster.engine)
    return "  ".join(facts)


def _voter(voter: Voter) -> tuple[str, ...]:
    return (
        voter.address,
        voter.process or "unknown",
        voter.id[:_ID_DIGITS],
        "yes" if voter.answers else "no",
        "" if voter.epoch is None else str(voter.epoch),
        _ms(voter.sync_p50_ms),
        _ms(voter.sync_p99_ms),
        ", ".join(voter.attending),
        voter.problem,
    )


def _writer(member: Member, leases: str) -> tuple[str, ...]:
    terms = ""
    if member.term_min is not None:
        oldest, newest = member.term_min, member.term_max
        terms = str(newest) if oldest == newest else f"{oldest} to {newest}"
    return (
        member.pod,
        member.state,
        f"{member.slots:,} slots" if member.slots else "nothing",
        f"{member.share:.2%}",
        terms,
        _since(member.since_ms),
        _lease(member, leases),
        _ms(member.lease_margin_ms),
    )


def _group(group: Group) -> tuple[str, ...]:
    candidates = " > ".join(group.candidates)
    return (
        group.name,
        group.leader or "none",
        str(group.term),
        _since(group.since_ms),
        candidates,
    )


def _member(member: Member, leases: str) -> tuple[str, ...]:
    refused = member.refused or {}
    return (
        member.pod,
        member.state,
        member.incarnation or "none",
        str(member.attends),
        _lease(member, leases),
        _ms(member.lease_margin_ms),
        _ms(member.renewal_p99_ms),
        _ms(member.recovery_promise_ms),
        "" if member.admitted is None else f"{member.admitted:,}",
        ", ".join(f"{reason} {count:,}" for reason, count in refused.items() if count),
    )


def _witness(voter: Voter) -> tuple[str, ...]:
    state = f"votes at {voter.address}, {voter.problem or f'epoch {voter.epoch}'}"
    return ("witness", state, *[""] * (len(_MEMBER_HEAD) - 2))


def _lease(member: Member, leases: str) -> str:
    if leases == "etcd" and member.incarnation:
        return "renewed" if member.attends else "not renewed"
    if member.holds_lease is None:
        # Only who has a voter beside it was asked.
        return "not asked" if member.incarnation else "none"
    return "held" if member.holds_lease else "none"


def _routers(routers: tuple[Router, ...]) -> str:
    stale = [router for router in routers if router.is_stale]
    names = ", ".join(f"{it.name} (epoch {it.epoch})" for it in stale[:_ROUTERS_SHOWN_MAX])
    more = f" and {len(stale) - _ROUTERS_SHOWN_MAX} more" if len(stale) > _ROUTERS_SHOWN_MAX else ""
    behind = f"{len(stale)} stale: {names}{more}" if stale else "none stale"
    others = "1 router follows" if len(routers) == 1 else f"{len(routers)} routers follow"
    return f"{others} the record, {behind}" if routers else "no router follows the record"


def _since(ms_ago: float | None) -> str:
    if ms_ago is None:
        return ""
    return f"{(moment(ms_ago) or '').replace('T', ' ')}, {_age(ms_ago)} ago"


def _age(milliseconds: float) -> str:
    """Roughly: what matters at a look is whether it was seconds, minutes, hours or days."""
    seconds = milliseconds / 1_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _ms(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"  # noqa: PLR2004
