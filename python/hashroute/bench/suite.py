"""Times the contenders: every round times each of them once, so that a noisy moment hits all."""

from __future__ import annotations

import gc
import random
import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hashroute.bench.contenders import Contender, contenders_installed
from hashroute.bench.report import Measurement
from hashroute.errors import FewSlotsWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KEY_COUNT = 1024
"""Keys in a pass; enough that no branch predictor learns them, few enough to stay in cache."""

THREADS_KEY_COUNT = 1 << 20
"""Keys that threads share: enough that handing out the parts costs next to nothing."""

PASS_SECONDS_MIN = 0.005
"""A timed stretch is at least this long, so that the clock's own cost vanishes in it."""


def measure(
    pod_counts: Sequence[int],
    rounds: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Measurement]:
    """Measures every installed contender at every size, in nanoseconds of CPU time an operation.

    CPU time of the process, all threads, because on a busy machine the wall clock measures the
    neighbours; only what threads gain is on the wall clock. An operation is one lookup, one key of
    a batch of 1,024 or of an array that threads share, or one build. ``progress`` is called with
    the stretches timed so far and in all.
    """
    with warnings.catch_warnings():
        # The largest ring here has fewer slots than advised, as its peers have points.
        warnings.simplefilter("ignore", FewSlotsWarning)
        return _measure(list(_cases(pod_counts)), rounds, progress)


def _measure(
    cases: Sequence[_Case], rounds: int, progress: Callable[[int, int], None]
) -> list[Measurement]:
    calls = [_calls_needed(case) for case in cases]
    samples: list[list[float]] = [[] for _ in cases]
    total = rounds * len(cases)
    for done in range(total):
        index = done % len(cases)
        case = cases[index]
        elapsed_ns = _timed_ns(case, calls[index])
        samples[index].append(elapsed_ns / (calls[index] * case.operations))
        progress(done + 1, total)
    return [
        Measurement(
            operation=case.operation,
            contender=case.contender.name,
            version=case.contender.version or "",
            is_floor=case.contender.is_floor,
            pods=case.pods,
            rounds_ns=tuple(taken),
        )
        for case, taken in zip(cases, samples, strict=True)
    ]


def random_keys(count: int) -> list[str]:
    """Returns ``count`` keys of 16 characters, the same in every run."""
    dice = random.Random(count)
    return [f"{dice.getrandbits(64):016x}" for _ in range(count)]


def pod_ids(count: int) -> list[str]:
    """Returns ``count`` ids of pods, ``pod-0000`` and on."""
    return [f"pod-{index:04d}" for index in range(count)]


@dataclass(frozen=True)
class _Case:
    operation: str
    contender: Contender
    pods: int
    operations: int
    run: Callable[[], object]
    clock_ns: Callable[[], int] = time.process_time_ns


def _cases(pod_counts: Sequence[int]) -> Iterator[_Case]:
    texts = random_keys(KEY_COUNT)
    # The order of the shared keys does not matter to what threads gain, so they may repeat.
    many_texts = texts * (THREADS_KEY_COUNT // KEY_COUNT)
    for count in pod_counts:
        pods = pod_ids(count)
        for contender in contenders_installed():
            if contender.lookup is not None:
                run = _one_by_one(contender.lookup(pods), contender.keys(texts))
                yield _Case("lookup", contender, count, KEY_COUNT, run)
            if contender.batch is not None:
                run = partial(contender.batch(pods), contender.keys(texts))
                yield _Case("batch", contender, count, KEY_COUNT, run)
            if contender.threads is not None:
                run = partial(contender.threads(pods), contender.keys(many_texts))
                clock_ns = time.perf_counter_ns
                yield _Case("threads", contender, count, THREADS_KEY_COUNT, run, clock_ns)
            if contender.build is not None:
                yield _Case("build", contender, count, 1, partial(contender.build, pods))


def _one_by_one(function: Callable[[Any], object], keys: Sequence[Any]) -> Callable[[], object]:
    def run() -> None:
        for key in keys:
            function(key)

    return run


def _calls_needed(case: _Case) -> int:
    case.run()  # The first call pays for caches and imports that the others share.
    once_ns = max(1, _timed_ns(case, 1))
    return max(1, int(PASS_SECONDS_MIN * 1e9 / once_ns))


def _timed_ns(case: _Case, calls: int) -> int:
    collector_was_on = gc.isenabled()
    gc.disable()
    try:
        start_ns = case.clock_ns()
        for _ in range(calls):
            case.run()
        return case.clock_ns() - start_ns
    finally:
        if collector_was_on:
            gc.enable()
