"""The golden vectors that Rust reads too: the mapping of today is the mapping of every release.

Each small view is also built by the slow twin, so the file is right and not only stable.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xxhash
from hashroute import Ring

from tests.python.twin import TwinPod, TwinRing

pytestmark = pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "assignment.json").read_text(encoding="utf-8")
)
VIEWS = {view["name"]: view for view in VECTORS["views"]}
# The twin sorts all pairs of pods and slots; this many take it a second.
TWIN_PAIRS_MAX = 2**18
SMALL = [
    name
    for name, vector in VIEWS.items()
    if vector["view"]["slots"] * len(vector["view"]["pods"]) <= TWIN_PAIRS_MAX
]


def key_of(vector: dict[str, object]) -> str | bytes | int:
    ((kind, value),) = vector.items()
    return bytes.fromhex(value) if kind == "hex" else value


def key_bytes(key: str | bytes | int) -> bytes:
    if isinstance(key, str):
        return key.encode()
    return key if isinstance(key, bytes) else key.to_bytes(8, "little")


def ring_of(name: str) -> Ring:
    return Ring.from_json(json.dumps(VIEWS[name]["view"]))


def twin_of(name: str) -> TwinRing:
    view = VIEWS[name]["view"]
    pods = [
        TwinPod(pod["id"], pod["weight"], pod["zone"])
        for pod in view["pods"]
        if pod["state"] in {"joining", "active"}
    ]
    return TwinRing(pods, slots=view["slots"], epsilon=view["epsilon"], seed=view["seed"])


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_maps_as_recorded(name):
    vector, ring = VIEWS[name], ring_of(name)
    ids = [pod.id for pod in ring.pods]
    table = ring.table
    assert ring.digest == vector["digest"]
    assert {slot: ids[table[int(slot)]] for slot in vector["owners"]} == vector["owners"]
    counts = {pod: share * ring.slots for pod, share in ring.shares().items()}
    assert counts == vector["slot_counts"]


@pytest.mark.parametrize("name", VIEWS)
def test_every_key_is_placed_as_recorded(name):
    vector, ring = VIEWS[name], ring_of(name)
    keys = [key_of(entry["key"]) for entry in vector["keys"]]
    assert [ring.slot(key) for key in keys] == [entry["slot"] for entry in vector["keys"]]
    assert [ring.owner(key) for key in keys] == [entry["owner"] for entry in vector["keys"]]
    assert ring.owners(keys) == [entry["owner"] for entry in vector["keys"]]


@pytest.mark.parametrize("name", [n for n, v in VIEWS.items() if v["view"]["slots"] <= 2**12])
def test_every_preference_list_begins_as_recorded(name):
    vector, ring = VIEWS[name], ring_of(name)
    # Enough keys to fall into each of 4,096 slots.
    key_in_slot = {ring.slot(key): key for key in range(60_000)}
    for slot, expected in vector["first_preferences"].items():
        assert list(ring.preference(key_in_slot[int(slot)], len(expected))) == expected


@pytest.mark.parametrize("name", SMALL)
def test_the_twin_agrees_with_the_record(name):
    vector, twin = VIEWS[name], twin_of(name)
    assert twin.digest() == vector["digest"]
    assert {s: twin.owner_of_slot(int(s)) for s in vector["owners"]} == vector["owners"]
    capacities = {seat.pod.name: seat.capacity for seat in twin.seats}
    assert capacities == {pod: n for pod, n in vector["capacities"].items() if pod in capacities}
    for slot, expected in vector["first_preferences"].items():
        assert twin.preference(int(slot))[: len(expected)] == expected


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["hash"])
def test_every_key_hashes_as_recorded(vector):
    key = key_of(vector["key"])
    assert f"{xxhash.xxh3_64_intdigest(key_bytes(key)):016x}" == vector["hash"]
    assert Ring(["a"]).slot(key) == int(vector["hash"], 16) >> 48


@pytest.mark.parametrize(
    "vector", VECTORS["plans"], ids=lambda v: f"{v['from']} to {v['to']} by {v['slots_per_step']}"
)
def test_every_plan_is_the_recorded_one(vector):
    source, target = ring_of(vector["from"]), ring_of(vector["to"])
    plan = source.plan(target, slots_per_step=vector["slots_per_step"])
    assert plan.moved_slots == vector["moved_slots"]
    assert plan.least_slots == vector["least_slots"]
    assert [len(step.moves) for step in plan.steps] == vector["slots_moved_by_step"]
    for step, expected in zip(plan.steps, vector["first_moves"], strict=False):
        assert [list(move) for move in step.moves[: len(expected)]] == expected
