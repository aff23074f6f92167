"""What is wrong with a cluster, in words that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hashroute.cli.quorum._cluster import Group, Member, Voter

__all__ = ["degraded_of", "reasons_of", "without_etcd"]


def reasons_of(
    leases: str,
    voters: Sequence[Voter],
    members: Sequence[Member],
    groups: Sequence[Group],
    *,
    is_founded: bool,
) -> Iterator[str]:
    """Says who cannot write, or why nobody can; nothing if everybody can."""
    if not is_founded:
        yield "the cluster is not founded yet: `hashroute quorum init`"
        return
    named = [voter for voter in voters if voter.is_voter]
    answering, needed = sum(voter.answers for voter in named), len(named) // 2 + 1
    if answering < needed:
        silent = _and(voter.address for voter in named if not voter.answers)
        yield (
            f"{answering} of {len(named)} voters answer, and a majority is {needed}: no lease is "
            f"renewed, so nobody writes. Start {silent} again, with the disks they had"
        )
    if not any(member.slots for member in members):
        yield "no pod owns slots: no process of one has joined. Start them: they join by themselves"
    for member in members:
        if member.slots or member.groups:
            yield from _writer_reasons(leases, member, needed)
    for group in groups:
        if group.leader is None:
            candidates = ", ".join(group.candidates)
            yield (
                f"{group.name} has no leader: no process of {candidates} has joined. Start one, or "
                "undo its drain"
            )


def _writer_reasons(leases: str, member: Member, needed: int) -> Iterator[str]:
    pod = member.pod
    if member.holds_lease is False:
        yield (
            f"{pod} holds no lease, and writes nothing: see its log, and whether it reaches a "
            "majority of voters"
        )
    elif member.holds_lease is None and member.attends < needed:
        if leases == "etcd":
            yield (
                f"{pod} does not renew its lease in etcd: its process has ended or stands still, "
                "or does not reach etcd; another pod takes over if one is there"
            )
        else:
            yield (
                f"{pod} talks to {member.attends} voters, and needs {needed}: its process has "
                "ended or stands still, or does not reach them; another pod takes over if one is "
                "there"
            )


def without_etcd(problem: str) -> str:
    """Says what does not work while voters grant leases and etcd does not answer."""
    return (
        f"etcd does not answer: writes go on, and until it does nothing can be changed, nor a dead "
        f"pod replaced ({problem})"
    )


def degraded_of(leases: str, voters: Sequence[Voter], members: Sequence[Member]) -> Iterator[str]:
    """Says what does not work, or is on its way, although everybody may be able to write."""
    named = [voter for voter in voters if voter.is_voter]
    silent = [voter for voter in named if not voter.answers]
    spare = len(named) - len(silent) - (len(named) // 2 + 1)
    if silent and spare >= 0 and leases != "etcd":
        addresses = _and(voter.address for voter in silent)
        more = "one more lost and nobody writes" if spare == 0 else f"{spare} more may be lost"
        yield (
            f"{len(silent)} of {len(named)} voters does not answer: {more}. Start {addresses} "
            "again; if its disk is lost, "
            f"`hashroute quorum replace-voter {silent[0].address} NEW_ADDRESS`"
        )
    for member in members:
        if member.state == "down":
            yield f"{member.pod} is down: others write what it wrote. Start it: it joins by itself"
        elif member.state == "draining":
            yield (
                f"{member.pod} drains: its restart ends that, or "
                f"`hashroute quorum drain {member.pod} --undo`"
            )


def _and(names: Iterator[str]) -> str:
    return " and ".join(names)
