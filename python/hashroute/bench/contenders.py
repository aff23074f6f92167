"""Who takes part: hashroute, its peers and the floors, each used the way its own README shows.

A peer that is not installed does not take part; nothing here is a dependency of hashroute.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hashroute import Ring
from hashroute._release import release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

THREADS_MAX = 8
"""The most threads that share a batch; more cores than that have nothing else to tell."""


@dataclass(frozen=True)
class Contender:
    """One library, or one way to use it, under each operation that it has.

    ``distribution`` is its name on the package index, or None for the interpreter itself. A factory
    takes the ids of the pods and returns what is timed; ``build`` is itself what is timed.
    ``keys`` turns the keys, a list of str, into what it takes. A floor does less than a lookup
    must; it says how much of the time nobody can save.
    """

    name: str
    distribution: str | None
    is_floor: bool = False
    keys: Callable[[list[str]], Any] = list
    lookup: Callable[[Sequence[str]], Callable[[Any], object]] | None = None
    batch: Callable[[Sequence[str]], Callable[[Any], object]] | None = None
    build: Callable[[Sequence[str]], object] | None = None
    threads: Callable[[Sequence[str]], Callable[[Any], object]] | None = None

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


def _encoded(keys: list[str]) -> list[bytes]:
    return [key.encode() for key in keys]


def _fixed_width(keys: list[str]) -> npt.NDArray[np.bytes_]:
    return np.array(keys, dtype=np.bytes_)


def _integers(keys: list[str]) -> npt.NDArray[np.uint64]:
    return np.array([int(key, 16) for key in keys], dtype=np.uint64)


def _in_threads(count: int) -> Callable[[Sequence[str]], Callable[[Any], object]]:
    def sharing(pods: Sequence[str]) -> Callable[[Any], object]:
        owner_indices = Ring(pods).owner_indices
        pool = ThreadPoolExecutor(count)
        return lambda keys: list(pool.map(owner_indices, np.array_split(keys, count)))

    return sharing


def _thread_counts() -> list[int]:
    counts = (1, 2, 4, THREADS_MAX)
    # Two even on one core: what threads cost where they cannot help is worth knowing too.
    return [count for count in counts if count <= max(2, os.cpu_count() or 1)]


def _fastring(pods: Sequence[str]) -> Any:
    ring = importlib.import_module("fastring").HashRing()
    for pod in pods:
        ring.add_node(pod)
    return ring


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
        name="hashroute owner_indices, S16 array",
        distribution="hashroute",
        keys=_fixed_width,
        batch=lambda pods: Ring(pods).owner_indices,
    ),
    Contender(
        name="hashroute owner_indices, uint64 array",
        distribution="hashroute",
        keys=_integers,
        batch=lambda pods: Ring(pods).owner_indices,
    ),
    *(
        Contender(
            name=f"hashroute owner_indices, {count} thread{'s' if count > 1 else ''}",
            distribution="hashroute",
            keys=_integers,
            threads=_in_threads(count),
        )
        for count in _thread_counts()
    ),
    Contender(
        name="fastring",
        distribution="fastring",
        lookup=lambda pods: _fastring(pods).get_node,
        batch=lambda pods: _fastring(pods).get_node_batch,
        build=_fastring,
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
        keys=_encoded,
        lookup=_jump,
        batch=_jump_batch,
    ),
    Contender(
        name="xxhash alone",
        distribution="xxhash",
        is_floor=True,
        keys=_encoded,
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
