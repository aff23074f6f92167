"""The Python ring beside its peers under pytest-benchmark.

`make bench` runs it, and `benches/report.py` makes its table. A round is a pass over 1,024 keys, so
times are divided by `extra_info.operations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hashroute import Ring
from hashroute.bench import CONTENDERS, Contender
from hashroute.bench.suite import KEY_COUNT, pod_ids, random_keys

from benches.python.noop import noop_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

# The largest ring here has fewer slots than advised, as its peers have points.
pytestmark = pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")

POD_COUNTS = (2, 16, 128, 1000)
# Needs a newer Python than hashroute does.
OPTIONAL = {"fastring"}
TEXT_KEYS = random_keys(KEY_COUNT)


# Calls that do nothing, bound as `Ring.owner` is and as PyO3 binds all other methods.
NOOPS = (
    Contender(
        name="a call bound alike, no work",
        distribution=None,
        is_floor=True,
        lookup=lambda pods: noop_class()(pods[0]).short,
    ),
    Contender(
        name="a call bound by PyO3, no work",
        distribution=None,
        is_floor=True,
        lookup=lambda pods: noop_class()(pods[0]).general,
    ),
)

# What a batch cannot do without: its bytes in and its indices out, and one load for each key. No
# floor hashes; the hash alone stands beside the lookup in what `benches.ring` measures.
BATCH_FLOORS = (
    Contender(
        name="S16 array to uint16 by NumPy: memory alone",
        distribution=None,
        is_floor=True,
        keys=lambda keys: np.array(keys, dtype="S16").view(np.uint64)[::2],
        batch=lambda _pods: lambda halves: halves.astype(np.uint16),
    ),
    Contender(
        name="uint64 array to uint16 by NumPy: memory alone",
        distribution=None,
        is_floor=True,
        keys=lambda keys: np.array([int(key, 16) for key in keys], dtype=np.uint64),
        batch=lambda _pods: lambda numbers: numbers.astype(np.uint16),
    ),
    Contender(
        name="slots known, one load each by NumPy",
        distribution=None,
        is_floor=True,
        keys=lambda keys: np.array([int(key, 16) >> 48 for key in keys], dtype=np.intp),
        batch=lambda pods: Ring(pods).table.take,
    ),
)


def having(operation: str) -> list[Any]:
    """Returns the contenders that have `operation`, as parameters named for the report."""
    return [
        pytest.param(contender, id=contender.name)
        for contender in (*CONTENDERS, *NOOPS, *BATCH_FLOORS)
        if getattr(contender, operation) is not None
        and (contender.version is not None or contender.name not in OPTIONAL)
    ]


@pytest.mark.parametrize("pods", POD_COUNTS)
@pytest.mark.parametrize("contender", having("lookup"))
def test_lookup(benchmark: BenchmarkFixture, contender: Contender, pods: int) -> None:
    """Times a pass over the keys, one call for each."""
    assert contender.lookup is not None
    function, keys = contender.lookup(pod_ids(pods)), contender.keys(TEXT_KEYS)

    def one_by_one() -> None:
        for key in keys:
            function(key)

    run(benchmark, contender, one_by_one, operations=KEY_COUNT)


@pytest.mark.parametrize("pods", POD_COUNTS)
@pytest.mark.parametrize("contender", having("batch"))
def test_batch(benchmark: BenchmarkFixture, contender: Contender, pods: int) -> None:
    """Times one call for all keys."""
    assert contender.batch is not None
    function, keys = contender.batch(pod_ids(pods)), contender.keys(TEXT_KEYS)
    run(benchmark, contender, lambda: function(keys), operations=KEY_COUNT)


@pytest.mark.parametrize("pods", POD_COUNTS)
@pytest.mark.parametrize("contender", having("build"))
def test_build(benchmark: BenchmarkFixture, contender: Contender, pods: int) -> None:
    """Times a ring made from nothing."""
    build, ids = contender.build, pod_ids(pods)
    assert build is not None
    run(benchmark, contender, lambda: build(ids), operations=1)


def run(
    benchmark: BenchmarkFixture,
    contender: Contender,
    function: Callable[[], object],
    operations: int,
) -> None:
    """Times `function`, and records what `benches/report.py` needs to name and scale it."""
    assert contender.version is not None, f"{contender.distribution} is not installed"
    benchmark.extra_info.update(
        contender=f"{contender.name} {contender.version}".strip(),
        operations=operations,
        is_floor=contender.is_floor,
    )
    benchmark(function)
