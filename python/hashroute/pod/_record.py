"""The record of a cluster as a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hashroute._ring import Pod

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


@dataclass(frozen=True, slots=True)
class Voter:
    """One voter and where it is reached.

    Attributes:
        id: 32 hexadecimal digits; drawn when its disk was new.
        address: ``host:port``.
    """

    id: str
    address: str


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of pods of which one leads.

    Attributes:
        name: unique in the record.
        candidates: the pods that may lead, best first.
        leader: the one that does; None if no candidate has a writer.
        term: the epoch at which the leader's present process got the group.
    """

    name: str
    candidates: tuple[str, ...]
    leader: str | None
    term: int


@dataclass(frozen=True, slots=True)
class Record:
    """What the voters of a cluster agreed on for one epoch.

    Attributes:
        epoch: raised by one by each change.
        cluster_id: 32 hexadecimal digits; tells foundings apart.
        voters: who votes on the next record.
        pods: all pods, sorted by id.
        writers: the process of each pod that may write: 16 hexadecimal digits, by the pod's id.
        groups: sorted by name.
        digest: of the ring; empty if no pod owns slots.
    """

    epoch: int
    cluster_id: str
    voters: tuple[Voter, ...]
    pods: tuple[Pod, ...]
    writers: Mapping[str, str]
    groups: tuple[Group, ...]
    digest: str

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads a record as the extension writes it."""
        document = json.loads(text)
        return cls(
            epoch=document["epoch"],
            cluster_id=document["cluster_id"],
            voters=tuple(Voter(**voter) for voter in document["voters"]),
            pods=tuple(map(_pod, document["view"]["pods"])),
            writers=MappingProxyType(document["writers"]),
            groups=tuple(map(_group, document["groups"])),
            digest=document["digest"],
        )


def _pod(document: dict[str, Any]) -> Pod:
    fields = {name: document[name] for name in ("id", "weight", "zone", "state")}
    return Pod(**fields, **document["addresses"])


def _group(document: dict[str, Any]) -> Group:
    return Group(**(document | {"candidates": tuple(document["candidates"])}))
