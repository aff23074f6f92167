"""P1, P2 and P3 for any ring, and the slow twin's word for every table.

A failure prints the ring that broke; Hypothesis prints the line that repeats it.
"""

from __future__ import annotations

import math

import pytest
from hashroute import Pod, Ring
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.python.twin import TwinPod, TwinRing

# Small tables show the same rules as large ones; that they are coarse is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")

SLOTS_MAX_BITS = 10
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
weights = st.floats(min_value=0.05, max_value=50).map(lambda weight: round(weight, 3))
zones = st.sampled_from([None, "rack-1", "rack-2", "rack-3"])
pods = st.lists(
    st.builds(Pod, ids, weights, zones), min_size=1, max_size=16, unique_by=lambda pod: pod.id
)
parameters = st.fixed_dictionaries(
    {
        "slots": st.integers(min_value=6, max_value=SLOTS_MAX_BITS).map(lambda bits: 2**bits),
        "epsilon": st.sampled_from([0.0, 0.01, 0.05, 0.25, 1.0]),
        "seed": st.integers(min_value=0, max_value=2**64 - 1),
    }
)
keys = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=300),
    st.integers(min_value=-(2**63), max_value=2**64 - 1),
)


def key_bytes(key: str | bytes | int) -> bytes:
    if isinstance(key, str):
        return key.encode()
    return key if isinstance(key, bytes) else (key % 2**64).to_bytes(8, "little")


def ceilings(ring: Ring) -> dict[str, int]:
    """(1 + epsilon) x the weighted fair share of the slots, rounded up, in exact integers."""
    millionths = {pod.id: round(pod.weight * 1e6) for pod in ring.pods}
    total = sum(millionths.values()) * 1_000_000
    factor = 1_000_000 + round(ring.epsilon * 1e6)
    return {pod: -(-ring.slots * weight * factor // total) for pod, weight in millionths.items()}


def held(ring: Ring) -> dict[str, int]:
    counts = dict.fromkeys((pod.id for pod in ring.pods), 0)
    places = [pod.id for pod in ring.pods]
    for place in ring.table.tolist():
        counts[places[place]] += 1
    return counts


def owners_by_slot(ring: Ring) -> list[str]:
    places = [pod.id for pod in ring.pods]
    return [places[place] for place in ring.table.tolist()]


@given(pods=pods, parameters=parameters, keys=st.lists(keys, max_size=20), random=st.randoms())
@settings(deadline=None)
def test_p1_the_mapping_depends_on_the_view_and_the_key_alone(pods, parameters, keys, random):
    ring = Ring(pods, **parameters)
    shuffled = list(pods)
    random.shuffle(shuffled)
    late = shuffled.pop()
    by_history = Ring(shuffled, **parameters).add(late) if shuffled else Ring([late], **parameters)
    for other in (by_history, Ring.from_json(ring.to_json())):
        assert other == ring
        assert other.digest == ring.digest
        assert other.owners(keys) == ring.owners(keys)
        assert [other.preference(key) for key in keys] == [ring.preference(key) for key in keys]


@given(pods=pods, parameters=parameters, keys=st.lists(keys, max_size=20))
@settings(deadline=None)
def test_the_twin_builds_the_same_table_and_places_the_same_keys(pods, parameters, keys):
    ring = Ring(pods, **parameters)
    twin = TwinRing([TwinPod(pod.id, pod.weight, pod.zone) for pod in pods], **parameters)
    assert ring.digest == twin.digest()
    assert owners_by_slot(ring) == [twin.owner_of_slot(slot) for slot in range(ring.slots)]
    for key in keys:
        assert ring.slot(key) == twin.slot(key_bytes(key))
        assert ring.owner(key) == twin.owner(key_bytes(key))
        assert list(ring.preference(key)) == twin.preference(twin.slot(key_bytes(key)))


@given(pods=pods, parameters=parameters)
@settings(deadline=None)
def test_p2_without_a_load_bound_only_keys_of_the_pod_that_leaves_or_joins_move(pods, parameters):
    assume(len(pods) > 1)
    # With this much room no capacity ever binds, so nothing but the change itself moves a key.
    roomy = parameters | {"epsilon": 10.0}
    ring = Ring([Pod(pod.id, zone=pod.zone) for pod in pods[:10]], **roomy)
    leaver = ring.pods[0].id
    without = ring.remove(leaver)
    for before, after in zip(owners_by_slot(ring), owners_by_slot(without), strict=True):
        assert before in (after, leaver)


@given(pods=pods, parameters=parameters, slots_per_step=st.integers(min_value=1, max_value=300))
@settings(deadline=None)
def test_p2_a_plan_moves_no_more_than_it_says_and_stays_in_bounds(pods, parameters, slots_per_step):
    assume(len(pods) > 1 and parameters["epsilon"] > 0)
    source = Ring(pods[1:], **parameters)
    target = Ring(pods[:-1], **parameters)
    limits = {
        pod: max(ceilings(source).get(pod, 0), ceilings(target).get(pod, 0))
        for pod in {pod.id for pod in pods}
    }
    table = owners_by_slot(source)
    for step in source.plan(target, slots_per_step=slots_per_step).steps:
        assert len(step.moves) <= slots_per_step
        for move in step.moves:
            table[move.slot] = move.target
        assert all(table.count(pod) <= limit for pod, limit in limits.items())
    assert table == owners_by_slot(target)


@given(pods=pods, parameters=parameters)
@settings(deadline=None)
def test_p3_no_pod_owns_more_than_its_bound(pods, parameters):
    ring = Ring(pods, **parameters)
    limits = ceilings(ring)
    counts = held(ring)
    assert all(counts[pod] <= limits[pod] for pod in limits)
    assert sum(counts.values()) == ring.slots
    assert math.isclose(sum(ring.shares().values()), 1.0)
    assert all(ring.shares()[pod] == counts[pod] / ring.slots for pod in counts)
