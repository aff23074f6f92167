"""`Ring.owner` has a short way for plain keys; it must agree with the ways that have none."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import hashroute
import numpy as np
import pytest
import xxhash
from hashroute import Ring
from hypothesis import given
from hypothesis import strategies as st

RING = Ring([f"pod-{index}" for index in range(50)])
KEYS = st.one_of(
    st.text(),
    st.text(st.characters(codec="utf-8"), min_size=250, max_size=300),
    st.binary(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([-(2**63), -1, 0, 2**31, 2**63 - 1, 2**63, 2**64 - 1]),
)


class Text(str):
    __slots__ = ()


class Octets(bytes):
    pass


class Number(int):
    pass


def by_the_table(key: str | bytes | int) -> str:
    """The owner by another implementation of the hash, and by the table."""
    if isinstance(key, int):
        octets = (key % 2**64).to_bytes(8, "little")
    else:
        octets = key.encode() if isinstance(key, str) else key
    return RING.pods[RING.table[xxhash.xxh3_64_intdigest(octets) * RING.slots >> 64]].id


@given(KEYS)
def test_the_short_way_finds_what_the_table_says(key):
    try:
        expected = by_the_table(key)
    except UnicodeEncodeError:
        with pytest.raises(hashroute.KeyEncodingError):
            RING.owner(key)
    else:
        assert RING.owner(key) == expected


@given(KEYS.filter(lambda key: not isinstance(key, str) or key.isascii()))
def test_subclasses_go_the_long_way_to_the_same_owner(key):
    kind = {str: Text, bytes: Octets, int: Number}[type(key)]
    assert RING.owner(kind(key)) == RING.owner(key)


@given(st.lists(KEYS.filter(lambda key: not isinstance(key, str) or key.isascii())))
def test_many_keys_are_found_as_one_is(keys):
    one_by_one = [RING.owner(key) for key in keys]
    assert RING.owners(keys) == one_by_one
    assert RING.owners(tuple(keys)) == one_by_one
    assert RING.owners(iter(keys)) == one_by_one


def test_an_error_of_the_key_itself_comes_through():
    class Broken:
        def __index__(self) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RING.owner(Broken())


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
def test_it_takes_exactly_one_argument(arguments):
    with pytest.raises(TypeError, match="argument"):
        RING.owner(*arguments)


def test_it_belongs_to_rings_alone():
    with pytest.raises(TypeError, match="Ring"):
        Ring.owner("not a ring", "key")


def test_a_list_that_changes_while_it_is_read_is_read_as_it_was():
    keys: list[object] = ["before"]

    class Clearing:
        def __index__(self) -> int:
            keys.clear()
            return 7

    keys += [Clearing(), "after"]
    assert RING.owners(keys) == [RING.owner("before"), RING.owner(7), RING.owner("after")]


def test_many_threads_may_ask_at_once():
    keys = [*(f"key-{index}" for index in range(5_000)), *range(5_000)]
    expected = RING.owners(keys)
    together = threading.Barrier(4)

    def ask(_: int) -> list[str]:
        owner = RING.owner
        together.wait(timeout=10)
        return [owner(key) for key in keys]

    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(ask, range(4)))


@pytest.fixture
def no_forced_switches():
    """Threads give the interpreter away only where they release it themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("no_forced_switches")
@pytest.mark.parametrize("dtype", [np.int64, np.uint64, "S8"])
def test_an_array_is_looked_up_without_the_interpreter_lock(dtype):
    keys = np.arange(1_000_000).astype(dtype)
    RING.owner_indices(keys[:1])  # The first call imports, and an import gives the lock away.
    ran_meanwhile = False
    for _ in range(50):
        stages: list[str] = []

        def look_up(stages=stages) -> None:
            stages.append("called")
            RING.owner_indices(keys)
            stages.append("returned")

        worker = threading.Thread(target=look_up)
        worker.start()
        while not stages:
            worker.join(timeout=0.001)
        # Between the two this thread runs only if the lookup has released the lock.
        ran_meanwhile = stages == ["called"]
        worker.join(timeout=30)
        if ran_meanwhile:
            break
    assert ran_meanwhile
