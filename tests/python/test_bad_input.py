"""Bad input: each gets an error of the type and the words that help, or the right answer.

One table for what is wrong with keys, batches, pods, parameters, texts and plans; below it what
is only unusual: sizes at the limits, weights far apart, ids that collide.
"""

from __future__ import annotations

import ctypes
import json
import math
import random
import zlib
from array import array
from collections import UserString
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import hashroute
import numpy as np
import pytest
from hashroute import Ring
from hashroute.errors import CATALOGUE

from tests.python.twin import TwinPod, TwinRing

if TYPE_CHECKING:
    from collections.abc import Callable

RING = Ring(["pod-a", "pod-b", "pod-c"])
OTHER = Ring(["pod-a", "pod-x"])
PLAN = RING.plan(RING.add("pod-d"))
VIEW = json.loads(RING.to_json())
SURROGATE = "AAPL\udc80"


def text_of(**changes: object) -> str:
    return json.dumps(VIEW | changes)


def without(field: str) -> str:
    return json.dumps({name: value for name, value in VIEW.items() if name != field})


class Text(str):
    __slots__ = ()


class Octets(bytes):
    __slots__ = ()


class Number(int):
    __slots__ = ()


class Raising:
    def __index__(self) -> int:
        raise LookupError("from the key itself")


# What was written, the code of the error, and what its text must say.
REFUSED = {
    # One key.
    "a list as a key": (lambda: RING.owner(["AAPL"]), "key_type", "not list"),
    "a tuple as a key": (lambda: RING.owner(("AAPL",)), "key_type", "not tuple"),
    "a dict as a key": (lambda: RING.slot({"AAPL": 1}), "key_type", "not dict"),
    "None as a key": (lambda: RING.owner(None), "key_type", "not NoneType"),
    "a float as a key": (lambda: RING.owner(1.0), "key_type", "not float"),
    "NaN as a key": (lambda: RING.preference(math.nan), "key_type", "not float"),
    "a Decimal as a key": (lambda: RING.owner(Decimal(1)), "key_type", "not Decimal"),
    "a Fraction as a key": (lambda: RING.owner(Fraction(1)), "key_type", "not Fraction"),
    "a truth value as a key": (lambda: RING.owner(True), "key_type", r"int\(key\)"),
    "a NumPy truth value as a key": (lambda: RING.owner(np.bool_(1)), "key_type", "not bool"),
    "a NumPy float as a key": (lambda: RING.owner(np.float32(1)), "key_type", "not float32"),
    "a NumPy date as a key": (
        lambda: RING.owner(np.datetime64("2026-01-01")),
        "key_type",
        "not datetime64",
    ),
    "a class as a key": (lambda: RING.owner(str), "key_type", "not type"),
    "what only looks like a str": (lambda: RING.owner(UserString("A")), "key_type", "UserString"),
    "a memoryview of numbers": (
        lambda: RING.owner(memoryview(array("i", [1, 2]))),
        "key_type",
        "not memoryview",
    ),
    "an array as one key": (lambda: RING.owner(np.array([1.5])), "key_type", "not ndarray"),
    "a ctypes array": (
        lambda: RING.owner((ctypes.c_int * 2)(1, 2)),
        "key_type",
        "not c_int_Array_2",
    ),
    "an int above 8 bytes": (lambda: RING.owner(2**64), "key_range", r"2\*\*64-1"),
    "an int below 8 bytes": (lambda: RING.owner(-(2**63) - 1), "key_range", r"-2\*\*63"),
    "an int subclass above 8 bytes": (lambda: RING.owner(Number(2**99)), "key_range", "bytes"),
    "a lone surrogate": (lambda: RING.owner(SURROGATE), "key_encoding", "os.fsencode"),
    "a lone surrogate in a subclass": (
        lambda: RING.owner(Text(SURROGATE)),
        "key_encoding",
        "surrogates",
    ),
    "a lone surrogate from NumPy": (
        lambda: RING.owner(np.str_(SURROGATE)),
        "key_encoding",
        "surrogates",
    ),
    "a negative length of a preference list": (
        lambda: RING.preference("A", -1),
        "parameter",
        "n must be an int of at least 0",
    ),
    "a length that is no int": (lambda: RING.preference("A", 1.5), "argument_type", "n must be"),
    # Many keys.
    "one str as many keys": (lambda: RING.owners("AAPL"), "key_type", r"owner\(key\)"),
    "one int as many keys": (lambda: RING.owner_indices(7), "key_type", r"owner\(key\)"),
    "None as many keys": (lambda: RING.owners(None), "key_type", "iterable of keys, not NoneType"),
    "None among the keys": (lambda: RING.owners(["A", None]), "key_type", "not NoneType"),
    "a list among the keys": (lambda: RING.owners([["A"]]), "key_type", "not list"),
    "a surrogate among the keys": (
        lambda: RING.owner_indices(("A", SURROGATE)),
        "key_encoding",
        "surrogates",
    ),
    "an array of float": (lambda: RING.owner_indices(np.ones(2)), "key_type", "float64.*astype"),
    "an array of int32": (
        lambda: RING.owners(np.ones(2, np.int32)),
        "key_type",
        r"int32.*astype\('int64'\)",
    ),
    "an array of bool": (lambda: RING.owners(np.ones(2, np.bool_)), "key_type", "bool"),
    "an array of complex": (lambda: RING.owners(np.ones(2, complex)), "key_type", "complex128"),
    "an array of the other byte order": (
        lambda: RING.owners(np.ones(2, ">u8")),
        "key_type",
        ">u8",
    ),
    "an array of str": (lambda: RING.owners(np.array(["A"])), "key_type", "tolist"),
    "an array of objects": (lambda: RING.owners(np.array(["A"], object)), "key_type", "tolist"),
    "an array of dates": (
        lambda: RING.owners(np.array(["2026-01-01"], "datetime64[D]")),
        "key_type",
        "datetime64",
    ),
    "an array of structs": (
        lambda: RING.owners(np.zeros(2, [("a", "i8"), ("b", "i8")])),
        "key_type",
        "dtype",
    ),
    "an array of no dimension": (
        lambda: RING.owner_indices(np.array(5)),
        "key_shape",
        "one dimension, and this one has 0",
    ),
    "an array of two dimensions": (
        lambda: RING.owner_indices(np.ones((2, 2), np.int64)),
        "key_shape",
        r"has 2; write keys.ravel\(\)",
    ),
    "a matrix of texts": (
        lambda: RING.owners(np.array([[b"A"], [b"B"]])),
        "key_shape",
        "one dimension",
    ),
    # Pods and their weights.
    "no pods": (lambda: Ring([]), "empty_view", "pod"),
    "one str as the pods": (lambda: Ring("pod-a"), "argument_type", r"Ring\(\['pod-a'"),
    "a pod twice": (lambda: Ring(["a", "a"]), "duplicate_pod", '"a"'),
    "a pod without a name": (lambda: Ring([""]), "bad_id", "255"),
    "a name with a surrogate": (lambda: Ring([SURROGATE]), "argument_type", "id"),
    "a name as bytes": (lambda: Ring([b"pod-a"]), "argument_type", "id"),
    "a weight of nothing": (lambda: Ring({"a": 0}), "weight_not_positive", "not above zero"),
    "a weight below nothing": (lambda: Ring({"a": -1}), "weight_not_positive", "not above zero"),
    "a weight that is no number": (lambda: Ring({"a": math.nan}), "weight_not_finite", "finite"),
    "a weight without end": (lambda: Ring({"a": math.inf}), "weight_not_finite", "finite"),
    "a weight above the range": (lambda: Ring({"a": 2e6}), "weight_out_of_range", "1.1e6|1100000"),
    "a weight below the range": (lambda: Ring({"a": 1e-9}), "weight_out_of_range", "0.000001|1e-6"),
    "a weight in words": (lambda: Ring({"a": "two"}), "argument_type", "weight"),
    "65,536 pods": (
        lambda: Ring([f"{n}" for n in range(65_536)], slots=2**17),
        "too_many_pods",
        "65535",
    ),
    "more pods than slots": (lambda: Ring(["a", "b", "c"], slots=2), "more_pods_than_slots", "2"),
    # Parameters.
    "slots that are no power of two": (
        lambda: Ring(["a"], slots=1000),
        "slots_not_power_of_two",
        "such as 65536",
    ),
    "one slot": (lambda: Ring(["a"], slots=1), "slots_out_of_range", "2"),
    "too many slots": (lambda: Ring(["a"], slots=2**25), "slots_out_of_range", "16777216"),
    "slots as a float": (lambda: Ring(["a"], slots=64.0), "argument_type", "slots must be"),
    "an epsilon below 0": (lambda: Ring(["a"], epsilon=-0.01), "epsilon_out_of_range", "0.*10"),
    "an epsilon above 10": (lambda: Ring(["a"], epsilon=10.01), "epsilon_out_of_range", "0.*10"),
    "an epsilon that is no number": (
        lambda: Ring(["a"], epsilon=math.nan),
        "epsilon_not_finite",
        "finite",
    ),
    "an epsilon as text": (lambda: Ring(["a"], epsilon="5%"), "argument_type", "epsilon must be"),
    "a negative seed": (lambda: Ring(["a"], seed=-1), "parameter", "seed must be"),
    "a seed of 9 bytes": (lambda: Ring(["a"], seed=2**64), "parameter", "seed must be"),
    # Texts of views.
    "no JSON": (lambda: Ring.from_json("{'a': 1}"), "not_json", "line 1"),
    "a view of a future version": (
        lambda: Ring.from_json(text_of(version=2)),
        "unsupported_version",
        "2.*1",
    ),
    "a future version with fields of its own": (
        lambda: Ring.from_json(text_of(version=7, tiers=["hot"], pods="elsewhere")),
        "unsupported_version",
        "7",
    ),
    "a version that is no number": (
        lambda: Ring.from_json(text_of(version="1")),
        "wrong_value",
        "version",
    ),
    "a view without pods": (lambda: Ring.from_json(without("pods")), "missing_field", "pods"),
    "a misspelt field": (lambda: Ring.from_json(text_of(epsilom=1)), "unknown_field", "epsilom"),
    "slots in words": (lambda: Ring.from_json(text_of(slots="many")), "wrong_value", "slots"),
    "bytes as a view": (lambda: Ring.from_json(b"{}"), "argument_type", "text|str"),
    # Changes and plans.
    "an unknown pod removed": (lambda: RING.remove("pod-z"), "unknown_pod", "pod-z"),
    "the last pod removed": (lambda: Ring(["a"]).remove("a"), "empty_view", "pod"),
    "a plan to something else": (lambda: RING.plan(["a"]), "argument_type", "not list"),
    "a plan to other slots": (
        lambda: RING.plan(Ring(["pod-a"], slots=1024)),
        "slots_differ",
        "65536 slots and the other 1024",
    ),
    "a plan of empty steps": (
        lambda: RING.plan(OTHER, slots_per_step=0),
        "zero_slots_per_step",
        "1",
    ),
    "a warm-up of no steps": (lambda: RING.plan(OTHER, warm_up_steps=0), "zero_warm_up_steps", "1"),
    "a plan applied to the wrong ring": (
        lambda: PLAN.apply(OTHER),
        "other_ring",
        f"{RING.digest}.*{OTHER.digest}",
    ),
    "a plan applied to where it leads": (
        lambda: PLAN.apply(RING.add("pod-d")),
        "other_ring",
        "plan again",
    ),
    "a plan applied to a list": (lambda: PLAN.apply(["a"]), "argument_type", "not list"),
    "a step that the plan does not have": (
        lambda: PLAN.apply(RING, steps=len(PLAN.steps) + 1),
        "parameter",
        r"steps must lie in 0 \.\.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_with_what_was_expected(name: str) -> None:
    act, code, words = REFUSED[name]
    with pytest.raises(hashroute.HashrouteError, match=f"(?s){words}") as caught:
        act()
    assert caught.value.code == code
    assert type(caught.value) is CATALOGUE[code]


def test_an_error_of_the_key_itself_is_not_replaced() -> None:
    for ask in (RING.owner, RING.slot, lambda key: RING.owners([key])):
        with pytest.raises(LookupError, match="from the key itself"):
            ask(Raising())


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        (Text("AAPL"), b"AAPL"),
        (Text("naïve"), "naïve".encode()),
        (Octets(b"\x00\xff"), b"\x00\xff"),
        (Number(-5), b"\xfb" + b"\xff" * 7),
        (np.str_("AAPL"), b"AAPL"),
        (np.bytes_(b"AAPL"), b"AAPL"),
        (np.int8(-5), b"\xfb" + b"\xff" * 7),
        (np.uint64(2**64 - 5), b"\xfb" + b"\xff" * 7),
        (memoryview(b"AAPL"), b"AAPL"),
        (memoryview(b"xAxAxPxL")[1::2], b"AAPL"),
        (memoryview(b"LPAA")[::-1], b"AAPL"),
        (memoryview(b"AAPL").cast("B", (2, 2)), b"AAPL"),
        (memoryview(bytearray(b"AAPL")), b"AAPL"),
        (array("B", b"AAPL"), b"AAPL"),
        (np.frombuffer(b"AAPL", np.uint8), b"AAPL"),
        (memoryview(b""), b""),
    ],
)
def test_an_unusual_key_is_its_bytes(key: object, plain: bytes) -> None:
    assert RING.slot(key) == RING.slot(plain)
    assert RING.owner(key) == RING.owner(plain)
    assert RING.owners([key, key]) == [RING.owner(plain)] * 2
    assert RING.preference(key) == RING.preference(plain)


def test_a_released_memoryview_says_so() -> None:
    view = memoryview(b"AAPL")
    view.release()
    with pytest.raises((ValueError, hashroute.KeyTypeError)):
        RING.owner(view)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, "S5"])
@pytest.mark.parametrize(
    "shape",
    [
        lambda keys: keys[::-1],
        lambda keys: keys[3:400:7],
        lambda keys: np.asfortranarray(keys.reshape(10, -1))[4],
        lambda keys: keys.reshape(10, -1)[:, 3],
        lambda keys: np.broadcast_to(keys[5], 9),
        lambda keys: np.ma.masked_array(keys[:20]).data,
        lambda keys: keys[:0],
    ],
)
def test_the_order_of_an_array_in_memory_does_not_matter(dtype, shape) -> None:
    keys = shape((np.arange(1_000) * 7919).astype(dtype))
    assert RING.owners(keys) == [RING.owner(key) for key in keys.tolist()]


@pytest.mark.parametrize("dtype", ["<i8", "<u8"])
def test_an_array_that_is_not_aligned_is_read_as_it_is(dtype: str) -> None:
    packed = np.zeros(50, np.dtype([("side", "u1"), ("id", dtype), ("price", "f4")]))
    packed["id"] = np.arange(50) * 7919
    shifted = np.frombuffer(b"x" + packed["id"].tobytes(), dtype, offset=1)
    # Aligned or not, the columns of this one do not lie a whole number of elements apart.
    aligned = np.zeros(50, np.dtype([("id", dtype), ("price", "f4")]))
    aligned["id"] = packed["id"]
    for keys in (packed["id"], packed["id"][::-3], shifted, aligned["id"]):
        assert not keys.flags.aligned or keys.strides[0] % keys.itemsize
        assert RING.owners(keys) == [RING.owner(key) for key in keys.tolist()]


def colliding(hashed: Callable[[bytes], int]) -> list[str]:
    """Ids in pairs: one, and another with the same hash."""
    dice = random.Random(32)
    seen: dict[int, str] = {}
    pairs: list[str] = []
    for _ in range(400_000):
        pod = f"pod-{dice.getrandbits(64):016x}"
        other = seen.setdefault(hashed(pod.encode()), pod)
        if other != pod:
            pairs += [other, pod]
    return pairs


def _shares_are_fair(ring: Ring) -> None:
    """P3 in exact arithmetic: nobody above (1 + epsilon) x the fair share, rounded up."""
    weights = {pod.id: round(pod.weight * 1e6) for pod in ring.pods}
    total = sum(weights.values())
    bound = Fraction(1) + Fraction(round(ring.epsilon * 1e6), 10**6)
    counts = np.bincount(ring.table, minlength=len(ring.pods)).tolist()
    assert sum(counts) == ring.slots
    for pod, count in zip(ring.pods, counts, strict=True):
        fair = Fraction(ring.slots * weights[pod.id], total)
        assert count <= math.ceil(bound * fair)


@pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")
class TestLimits:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_weights_may_lie_a_factor_of_1e12_apart(self, seed):
        weights = {f"pod{power:+}": 10.0**power for power in range(-6, 7)}
        ring = Ring(weights, seed=seed)
        _shares_are_fair(ring)
        shares = ring.shares()
        assert shares["pod+6"] == pytest.approx(0.9, abs=0.001)
        by_weight = [shares[pod] for pod in sorted(weights, key=weights.__getitem__)]
        assert by_weight == sorted(by_weight)
        assert sorted(ring.preference("AAPL")) == sorted(weights)

    def test_a_pod_of_next_to_no_weight_owns_next_to_nothing(self):
        ring = Ring({"heavy": 1e6, "light": 1e-6})
        assert ring.shares() == {"heavy": 1.0, "light": 0.0}
        assert ring.remove("heavy").shares() == {"light": 1.0}

    def test_a_ring_may_have_65535_pods(self):
        pods = [f"pod-{number:05}" for number in range(65_535)]
        random.Random(1).shuffle(pods)
        ring = Ring(pods, slots=2**18)
        _shares_are_fair(ring)
        assert len(ring.pods) == 65_535
        owner = ring.owner("AAPL")
        assert ring.preference("AAPL", 1) == (owner,)
        assert ring.remove(owner).owner("AAPL") != owner
        assert ring.owner_indices(np.arange(100)).max() < 65_535
        with pytest.raises(hashroute.TooManyPodsError) as caught:
            ring.add("one-more")
        assert (caught.value.pods, caught.value.pods_max) == (65_536, 65_535)

    @pytest.mark.parametrize("epsilon", [0, 0.0, 1e-6, 10, 10.0])
    def test_epsilon_from_0_to_10(self, epsilon):
        ring = Ring({"pod-a": 1, "pod-b": 1, "pod-c": 2}, epsilon=epsilon, slots=1024)
        _shares_are_fair(ring)
        if epsilon == 0:
            assert ring.shares() == {"pod-a": 0.25, "pod-b": 0.25, "pod-c": 0.5}
        twin = TwinRing(
            [TwinPod(pod.id, pod.weight, pod.zone) for pod in ring.pods],
            slots=1024,
            epsilon=epsilon,
            seed=0,
        )
        assert ring.digest == twin.digest()

    @pytest.mark.parametrize("bits", range(1, 21))
    def test_slots_from_2_to_2_to_the_20(self, bits):
        pods = ["pod-a", "pod-b", "pod-c", "pod-d"][: 2**bits]
        ring = Ring(pods, slots=2**bits)
        _shares_are_fair(ring)
        assert len(ring.table) == ring.slots == 2**bits
        for key in ("AAPL", b"", 0, -1, 2**64 - 1):
            assert 0 <= ring.slot(key) < ring.slots
            assert ring.owner(key) == pods[ring.table[ring.slot(key)]]
        assert Ring.from_json(ring.to_json()) == ring

    def test_ids_that_collide_under_a_32_bit_hash_are_pods_of_their_own(self):
        # Of 400,000 ids some share any 32-bit hash; CRC-32 and Adler-32 stand for them.
        pairs = [pod for hashed in (zlib.crc32, zlib.adler32) for pod in colliding(hashed)[:40]]
        assert len(set(pairs)) == len(pairs) >= 20
        ring = Ring(pairs, slots=2**14)
        _shares_are_fair(ring)
        assert min(ring.shares().values()) > 0
        one, other = pairs[:2]
        assert {ring.preference(key)[0] for key in range(5_000)} >= {one, other}
        assert ring.remove(one).shares()[other] > 0

    @pytest.mark.parametrize(
        "ids",
        [
            ["a", "A"],
            ["é", "e\u0301"],
            ["a", "a ", " a", "a\x00", "\x00a"],
            ["x" * 254, "x" * 255],
            ["pod-1", "pod-\uff11"],
        ],
    )
    def test_ids_that_look_alike_are_different_pods(self, ids):
        ring = Ring(ids, slots=4096)
        assert [pod.id for pod in ring.pods] == sorted(ids, key=str.encode)
        assert all(share > 0 for share in ring.shares().values())
        assert Ring.from_json(ring.to_json()).digest == ring.digest
