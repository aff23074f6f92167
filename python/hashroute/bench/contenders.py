"""Who takes part: hashroute, its peers and the floors, each used the way its own README shows.

A peer that is not installed does not take part; nothing here is a dependency of hashroute.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hashroute import Ring
from hashroute._release import release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Contender:
    """One library, or one way to use it, under each operation that it has.

    ``distribution`` is its name on the package index, or None for the interpreter itself. A factory
    takes the ids of the pods and returns what is timed; ``build`` is itself what is timed.
    Keys are str unless it ``takes_bytes``. A floor does less than a lookup must; it says how
    much of the time nobody can save.
    """

    name: str
    distribution: str | None
    is_floor: bool = False
    takes_bytes: bool = False
    lookup: Callable[[Sequence[str]], Callable[[Any], object]] | None = None
    batch: Callable[[Sequence[str]], Callable[[Any], object]] | None = None
    build: Callable[[Sequence[str]], object] | None = None

    @property
    def version(self) -> str | None:
        """The installed version, or None if the distribution is not installed."""
        if self.distribution is None:
            return ""
        if self.distribution == "hashroute":
            return release()
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None


def contenders_installed() -> list[Contender]:
    """Returns the contenders whose distribution is installed, in the order of ``CONTENDERS``."""
    return [contender for contender in CONTENDERS if contender.version is not None]


def _uhashring(pods: Sequence[str]) -> Any:
    return importlib.import_module("uhashring").HashRing(list(pods))


def _uhashring_batch(pods: Sequence[str]) -> Callable[[Any], object]:
    node_of = _uhashring(pods).get_node
    return lambda keys: [node_of(key) for key in keys]


def _jump(pods: Sequence[str]) -> Callable[[Any], object]:
    # jump takes an integer, so its users hash the key first; XXH3 is the fastest they can choose.
    jump_hash = importlib.import_module("jump").hash
    key_hash = importlib.import_module("xxhash").xxh3_64_intdigest
    pod_ids, count = list(pods), len(pods)
    return lambda key: pod_ids[jump_hash(key_hash(key), count)]


def _jump_batch(pods: Sequence[str]) -> Callable[[Any], object]:
    jump_hash = importlib.import_module("jump").hash
    key_hash = importlib.import_module("xxhash").xxh3_64_intdigest
    pod_ids, count = list(pods), len(pods)
    return lambda keys: [pod_ids[jump_hash(key_hash(key), count)] for key in keys]


def _xxhash(_pods: Sequence[str]) -> Callable[[Any], object]:
    digest: Callable[[Any], object] = importlib.import_module("xxhash").xxh3_64_intdigest
    return digest


def _xxhash_batch(_pods: Sequence[str]) -> Callable[[Any], object]:
    digest = importlib.import_module("xxhash").xxh3_64_intdigest
    return lambda keys: [digest(key) for key in keys]


CONTENDERS: tuple[Contender, ...] = (
    Contender(
        name="hashroute owner",
        distribution="hashroute",
        lookup=lambda pods: Ring(pods).owner,
    ),
    Contender(
        name="hashroute Ring",
        distribution="hashroute",
        build=Ring,
    ),
    Contender(
        name="hashroute owners",
        distribution="hashroute",
        batch=lambda pods: Ring(pods).owners,
    ),
    Contender(
        name="hashroute owner_indices",
        distribution="hashroute",
        batch=lambda pods: Ring(pods).owner_indices,
    ),
    Contender(
        name="uhashring",
        distribution="uhashring",
        lookup=lambda pods: _uhashring(pods).get_node,
        batch=_uhashring_batch,
        build=_uhashring,
    ),
    Contender(
        name="jump + xxhash",
        distribution="jump-consistent-hash",
        takes_bytes=True,
        lookup=_jump,
        batch=_jump_batch,
    ),
    Contender(
        name="xxhash alone",
        distribution="xxhash",
        is_floor=True,
        takes_bytes=True,
        lookup=_xxhash,
        batch=_xxhash_batch,
    ),
    Contender(
        name="len: a call, no work",
        distribution=None,
        is_floor=True,
        lookup=lambda _pods: len,
    ),
)
"""Everybody who may take part; the first that has an operation is the one the ratios refer to."""
