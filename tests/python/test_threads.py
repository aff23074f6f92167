"""Threads that use one object at the same time: right answers, exact counts, nothing torn.

Under the interpreter lock threads take turns; `make free-threaded` runs the same tests where they
do not (docs/style.md).
"""

from __future__ import annotations

import itertools
import pickle
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import hashroute
import numpy as np
import pytest
from hashroute import Ring, Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

THREADS = 4
PODS = [f"pod-{number:02}" for number in range(16)]
SECONDS_MAX = 60.0


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Where there is an interpreter lock, threads at least change hands as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(act: Callable[[int], T], *, beside: Callable[[], object] | None = None) -> list[T]:
    """What ``act`` returns in each of some threads that start at once.

    ``beside`` is called over and over in one more thread until the others are done.
    """
    ready = threading.Barrier(THREADS + 1)
    done = threading.Event()

    def work(thread: int) -> T:
        ready.wait(SECONDS_MAX)
        return act(thread)

    def disturb() -> None:
        ready.wait(SECONDS_MAX)
        while beside is not None and not done.is_set():
            beside()

    with ThreadPoolExecutor(THREADS + 1) as pool:
        disturbing = pool.submit(disturb)
        working = [pool.submit(work, thread) for thread in range(THREADS)]
        try:
            return [future.result(SECONDS_MAX) for future in working]
        finally:
            done.set()
            disturbing.result(SECONDS_MAX)


def test_the_extension_brings_no_interpreter_lock_back() -> None:
    is_enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert is_enabled == (not sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_the_same_new_strings_are_one_key_in_every_thread() -> None:
    # The interpreter encodes such a string at its first look-up and keeps the bytes in it.
    ring = Ring(PODS)
    for attempt in range(20):
        keys = [f"ключ-{attempt}-{number}-🔑" for number in range(200)]
        expected = [ring.owner(key.encode()) for key in keys]
        new = [key[:-1] + key[-1:] for key in keys]
        assert together(lambda _, new=new: [ring.owner(key) for key in new]) == [expected] * THREADS


def test_a_list_that_another_thread_changes_is_read_as_it_was_at_some_moment() -> None:
    ring = Ring(PODS)
    long = [f"key-{number}" for number in range(500)]
    short = [number * 7919 for number in range(3)]
    keys: list[str | int] = []
    answers = {tuple(ring.owners(content)) for content in ([], long, short)}
    contents = itertools.cycle([long, short, []])

    def change() -> None:
        keys[:] = next(contents)

    def ask(_: int) -> set[tuple[str, ...]]:
        return {tuple(ring.owners(keys)) for _ in range(300)}

    for seen in together(ask, beside=change):
        assert seen <= answers


def test_a_bytearray_that_another_thread_changes_is_some_key() -> None:
    ring = Ring(PODS)
    key = bytearray(b"AAPL")

    def change() -> None:
        try:
            key.extend(b"x" * 1000)
            key[:] = b"AAPL"
        except BufferError:
            pass  # It is being read, and refuses to change its size meanwhile.

    def ask(_: int) -> set[str]:
        return {ring.owner(key) for _ in range(2_000)}

    assert set().union(*together(ask, beside=change)) <= set(PODS)


def test_what_a_ring_works_out_only_once_is_the_same_for_all() -> None:
    expected = _facts(Ring(PODS))
    for _ in range(10):
        ring = Ring(PODS)
        assert together(lambda _, ring=ring: _facts(ring)) == [expected] * THREADS


def _facts(ring: Ring) -> tuple[object, ...]:
    wider = ring.add("pod-new")
    return (
        ring.digest,
        hash(ring),
        ring.shares(),
        [ring.preference(key) for key in range(50)],
        ring.to_json(),
        ring.plan(wider).moved_slots,
        wider.digest,
        pickle.loads(pickle.dumps(ring)) == ring,  # noqa: S301 - our own bytes
        ring.owner_indices(np.arange(1_000)).tolist(),
        ring.owners([*map(str, range(100))]),
    )


def test_rings_may_follow_one_ring_at_the_same_time() -> None:
    ring = Ring(PODS)
    expected = [Ring([*PODS, f"new-{thread}"]).digest for thread in range(THREADS)]
    for _ in range(10):
        found = together(lambda thread: ring.add(f"new-{thread}").digest)
        assert found == expected


def test_a_ring_may_go_while_others_still_ask_it() -> None:
    in_force = [Ring(PODS[:8])]
    turns = itertools.cycle([PODS[:8], PODS[8:]])

    def replace() -> None:
        in_force[0] = Ring(next(turns), slots=2048)

    def ask(thread: int) -> set[str]:
        keys = [f"{thread}-{number}" for number in range(5_000)]
        return {in_force[0].owner(key) for key in keys}

    assert set().union(*together(ask, beside=replace)) <= set(PODS)


def test_errors_are_typed_in_every_thread() -> None:
    ring = Ring(PODS)

    def ask(_: int) -> int:
        refused = 0
        for key in [None, 2**64, "\ud800", 1.5] * 200:
            try:
                ring.owner(key)
            except hashroute.InvalidKeyError:
                refused += 1
        return refused

    assert together(ask) == [800] * THREADS


def test_every_request_is_counted_once_while_the_view_changes() -> None:
    router = Router(PODS)
    requests = 2_000

    def change() -> None:
        router.add("pod-new")
        router.remove("pod-new")

    def work(thread: int) -> int:
        served = 0
        for number in range(requests):
            with router.acquire(number * THREADS + thread) as route:
                served += route.pod in PODS or route.pod == "pod-new"
                route.succeeded()
        return served

    assert together(work, beside=change) == [requests] * THREADS
    assert router.in_flight == 0
    assert all(pod.in_flight == 0 for pod in router.status().pods)


def test_the_counts_of_a_router_are_exact() -> None:
    router = Router(PODS, c=1.0, floor=1)

    def work(thread: int) -> None:
        for number in range(2_000):
            with router.acquire(number * THREADS + thread) as route:
                route.succeeded()

    together(work)
    assert sum(pod.requests_ok for pod in router.status().pods) == 2_000 * THREADS
    assert router.in_flight == 0


def test_a_route_that_several_threads_release_is_released_once() -> None:
    router = Router(PODS)
    held = router.acquire("held")
    routes = [router.acquire(key) for key in range(5_000)]
    together(lambda _: [route.release() for route in routes])
    assert router.in_flight == 1
    held.release()
    assert router.in_flight == 0
