"""What `Ring` promises about one ring: keys, values, changes, and errors that say what to do."""

from __future__ import annotations

import json
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import hashroute
import numpy as np
import pytest
from hashroute import Pod, Ring

PODS = ["pod-a", "pod-b", "pod-c", "pod-d"]


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring(PODS)


class TestKeys:
    """One key, many spellings: each spelling of the same bytes has the same owner."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("AAPL", b"AAPL"),
            ("naïve-κλειδί-🔑", "naïve-κλειδί-🔑".encode()),
            (b"AAPL", bytearray(b"AAPL")),
            (b"AAPL", memoryview(b"AAPL")),
            (b"APL", memoryview(b"A.P.L")[::2]),
            (b"AAPL", np.frombuffer(b"AAPL", dtype=np.uint8)),
            ("AAPL", np.str_("AAPL")),
            (b"AAPL", np.bytes_(b"AAPL")),
            (7, (7).to_bytes(8, "little")),
            (-7, (-7).to_bytes(8, "little", signed=True)),
            (2**64 - 1, b"\xff" * 8),
            (2**63, (2**63).to_bytes(8, "little")),
            (-(2**63), (-(2**63)).to_bytes(8, "little", signed=True)),
            (7, np.int64(7)),
            (7, np.uint8(7)),
            (-7, np.int16(-7)),
            ("", b""),
            ("x" * 2**20, b"x" * 2**20),
        ],
    )
    def test_spellings_of_the_same_bytes_are_one_key(self, ring, one, other):
        assert ring.slot(one) == ring.slot(other)
        assert ring.owner(one) == ring.owner(other)
        assert ring.preference(one) == ring.preference(other)

    def test_a_subclass_counts_as_what_it_extends(self, ring):
        class Symbol(str):
            __slots__ = ()

        class Raw(bytes):
            __slots__ = ()

        class Number(int):
            __slots__ = ()

        assert ring.slot(Symbol("AAPL")) == ring.slot("AAPL")
        assert ring.slot(Raw(b"AAPL")) == ring.slot(b"AAPL")
        assert ring.slot(Number(9)) == ring.slot(9)

    @pytest.mark.parametrize(
        "key",
        [None, 1.5, True, np.bool_(1), np.float64(1), ["AAPL"], ("AAPL",), {}, object()],
    )
    def test_what_is_not_a_key_is_refused_with_what_would_be(self, ring, key):
        with pytest.raises(hashroute.KeyTypeError, match="str, bytes-like or int, not") as caught:
            ring.owner(key)
        assert isinstance(caught.value, TypeError)
        assert caught.value.code == "key_type"
        assert not caught.value.retry

    @pytest.mark.parametrize("key", [2**64, -(2**63) - 1, 10**40])
    def test_an_int_that_does_not_fit_8_bytes_is_refused(self, ring, key):
        with pytest.raises(hashroute.KeyRangeError, match=r"-2\*\*63 \.\. 2\*\*64-1") as caught:
            ring.owner(key)
        assert isinstance(caught.value, OverflowError)

    def test_a_lone_surrogate_has_no_utf8_form(self, ring):
        with pytest.raises(hashroute.KeyEncodingError, match="surrogates"):
            ring.owner("AAPL\ud800")

    def test_lookups_hand_out_the_same_string_object(self, ring):
        assert ring.owner("AAPL") is ring.owner(b"AAPL")


class TestBatches:
    def test_owners_are_those_of_the_single_lookup_in_order(self, ring):
        keys = ["AAPL", b"MSFT", 3, "", -1, bytearray(b"q")]
        expected = [ring.owner(key) for key in keys]
        ids = [pod.id for pod in ring.pods]
        assert ring.owners(keys) == expected
        assert ring.owners(tuple(keys)) == expected
        assert ring.owners(key for key in keys) == expected
        indices = ring.owner_indices(keys)
        assert indices.dtype == np.uint16
        assert [ids[index] for index in indices] == expected

    @pytest.mark.parametrize("dtype", [np.int64, np.uint64])
    def test_integer_arrays_are_looked_up_as_ints(self, ring, dtype):
        keys = np.arange(1000, dtype=dtype) * 7919
        assert ring.owner_indices(keys).tolist() == ring.owner_indices(keys.tolist()).tolist()
        assert ring.owners(keys) == ring.owners(keys.tolist())

    def test_negative_and_huge_elements_are_their_8_bytes(self, ring):
        negative = np.array([-1, -(2**63), 5], dtype=np.int64)
        huge = np.array([2**64 - 1, 2**63, 5], dtype=np.uint64)
        assert ring.owners(negative) == ring.owners(negative.tolist()) == ring.owners(huge)

    def test_an_array_need_not_be_contiguous_or_writable(self, ring):
        keys = np.arange(1000, dtype=np.int64)
        for view in (keys[::3], keys[::-1], keys.reshape(10, 100)[:, 4]):
            assert ring.owners(view) == ring.owners(view.tolist())
        keys.flags.writeable = False
        assert len(ring.owner_indices(keys)) == 1000

    def test_fixed_width_bytes_are_looked_up_without_their_padding(self, ring):
        texts = [b"AAPL", b"", b"A", b"in\x00side", b"GOOGL-long"]
        keys = np.array(texts)
        assert keys.dtype.kind == "S"
        assert ring.owners(keys) == ring.owners(texts)
        assert ring.owners(keys[::2]) == ring.owners(texts[::2])

    @pytest.mark.parametrize("keys", [[], (), np.array([], np.int64), np.array([], "S4")])
    def test_no_keys_have_no_owners(self, ring, keys):
        assert ring.owners(keys) == []
        assert ring.owner_indices(keys).shape == (0,)

    @pytest.mark.parametrize(
        ("keys", "advice"),
        [
            (np.zeros(3), "float64.*astype"),
            (np.zeros(3, np.int32), "int32.*astype"),
            (np.zeros(3, ">i8"), ">i8"),
            (np.array(["AAPL"]), "tolist"),
            (np.array(["AAPL"], dtype=object), "tolist"),
            ("AAPL", r"owner\(key\)"),
            (b"AAPL", r"owner\(key\)"),
            (5, r"owner\(key\)"),
            (5.0, "iterable of keys, not float"),
            (None, "iterable of keys, not NoneType"),
            (["AAPL", None], "not NoneType"),
        ],
    )
    def test_what_is_not_a_batch_is_refused_with_what_to_write(self, ring, keys, advice):
        for lookup in (ring.owners, ring.owner_indices):
            with pytest.raises(hashroute.KeyTypeError, match=advice):
                lookup(keys)

    @pytest.mark.parametrize("shape", [(), (2, 2), (0, 3)])
    def test_an_array_of_other_than_one_dimension_is_refused(self, ring, shape):
        with pytest.raises(hashroute.KeyShapeError, match="one dimension"):
            ring.owner_indices(np.zeros(shape, np.int64))

    def test_an_error_of_the_iterable_is_not_hidden(self, ring):
        def keys():
            yield "AAPL"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            ring.owners(keys())

    def test_many_threads_may_look_up_at_once(self, ring):
        keys = np.arange(20_000, dtype=np.int64)
        expected = ring.owner_indices(keys).tolist()
        together = threading.Barrier(4)

        def look_up(_: int) -> list[int]:
            together.wait(timeout=10)
            return ring.owner_indices(keys).tolist()

        with ThreadPoolExecutor(4) as pool:
            assert all(found == expected for found in pool.map(look_up, range(4)))


class TestValues:
    def test_the_order_of_the_pods_does_not_matter(self, ring):
        other = Ring(reversed(PODS))
        assert other == ring
        assert hash(other) == hash(ring)
        assert other.digest == ring.digest
        assert (other.table == ring.table).all()

    def test_history_does_not_matter_but_the_epoch_counts_it(self, ring):
        back = ring.add("pod-e").remove("pod-e")
        assert back == ring
        assert back.digest == ring.digest
        assert (ring.epoch, back.epoch) == (1, 3)

    @pytest.mark.parametrize(
        "other",
        [
            Ring(PODS[:3]),
            Ring(PODS, slots=32_768),
            Ring(PODS, epsilon=0.1),
            Ring(PODS, seed=1),
            Ring(dict.fromkeys(PODS, 2.0)),
            PODS,
        ],
    )
    def test_rings_that_differ_are_not_equal(self, ring, other):
        assert ring != other

    def test_the_spellings_of_pods_are_the_same_ring(self, ring):
        assert Ring(dict.fromkeys(PODS, 1.0)) == Ring(map(Pod, PODS)) == Ring(set(PODS)) == ring

    def test_a_ring_cannot_be_changed(self, ring):
        for name in ("digest", "view", "anything"):
            with pytest.raises(AttributeError):
                setattr(ring, name, None)
        with pytest.raises(AttributeError):
            ring.pods[0].weight = 2.0

    def test_pickle_and_json_keep_everything(self):
        pods = [
            Pod("pod-a", weight=0.1, zone="rack-1", grpc="127.0.0.1:1", zmq="tcp://127.0.0.1:2"),
            Pod("pod-b", weight=2.5, state="draining"),
        ]
        ring = Ring(pods, slots=1024, epsilon=0.2, seed=9).reweight("pod-b", 3.0)
        for copy in (pickle.loads(pickle.dumps(ring)), Ring.from_json(ring.to_json())):  # noqa: S301
            assert copy == ring
            assert copy.pods == ring.pods
            assert (copy.epoch, copy.slots, copy.epsilon, copy.seed) == (2, 1024, 0.2, 9)
            assert copy.digest == ring.digest
        assert json.loads(ring.to_json())["version"] == 1

    def test_repr_says_what_it_is(self, ring):
        assert repr(ring) == (
            f"<Ring of 4 pods, slots=65536, epsilon=0.05, seed=0, epoch=1, digest={ring.digest}>"
        )

    def test_a_pod_is_found_by_its_id(self, ring):
        assert ring.pod("pod-b") == Pod("pod-b")
        with pytest.raises(hashroute.UnknownPodError, match=r"'pod-z'.*'pod-a'") as caught:
            ring.pod("pod-z")
        assert caught.value.pod == "pod-z"
        assert isinstance(caught.value, KeyError)


class TestAssignment:
    def test_shares_follow_the_weights(self):
        ring = Ring({"light": 1.0, "heavy": 3.0}, epsilon=0.0)
        assert ring.shares() == {"light": 0.25, "heavy": 0.75}

    def test_the_table_is_what_lookups_read(self, ring):
        ids = [pod.id for pod in ring.pods]
        table = ring.table
        assert table.shape == (65_536,)
        assert table.dtype == np.uint16
        assert ids[table[ring.slot("AAPL")]] == ring.owner("AAPL")
        table[:] = 0
        assert ids[ring.table[ring.slot("AAPL")]] == ring.owner("AAPL")

    def test_pods_that_take_no_traffic_own_nothing(self):
        states = {"a": "joining", "b": "active", "c": "draining", "d": "down"}
        ring = Ring([Pod(pod, state=state) for pod, state in states.items()])
        shares = ring.shares()
        assert shares["c"] == shares["d"] == 0.0
        assert shares["a"] + shares["b"] == 1.0
        assert set(ring.preference("AAPL")) == {"a", "b"}

    def test_a_drained_pod_keeps_its_place_and_loses_its_keys(self, ring):
        drained = ring.with_state("pod-a", "draining")
        assert drained.shares()["pod-a"] == 0.0
        assert [pod.id for pod in drained.pods] == PODS
        assert drained.with_state("pod-a", "active") == ring

    def test_a_preference_list_starts_with_the_owner_and_names_each_pod_once(self, ring):
        for key in range(200):
            preference = ring.preference(key)
            assert preference[0] == ring.owner(key)
            assert sorted(preference) == PODS
            assert ring.preference(key, 2) == preference[:2]
            assert ring.preference(key, 99) == preference
        assert ring.preference("AAPL", 0) == ()

    def test_a_preference_list_names_other_zones_first(self):
        zones = {"a1": "A", "a2": "A", "b1": "B", "b2": "B", "c1": "C"}
        ring = Ring([Pod(pod, zone=zone) for pod, zone in zones.items()])
        for key in range(200):
            first_three = [zones[pod] for pod in ring.preference(key, 3)]
            assert sorted(first_three) == ["A", "B", "C"]

    def test_a_plan_leads_from_one_table_to_the_other_in_bounded_steps(self, ring):
        target = ring.add("pod-e")
        plan = ring.plan(target, slots_per_step=1000)
        ids = [pod.id for pod in ring.pods]
        table = [ids[index] for index in ring.table]
        for step in plan.steps:
            assert 0 < len(step.moves) <= 1000
            for move in step.moves:
                assert table[move.slot] == move.source
                table[move.slot] = move.target
        ids = [pod.id for pod in target.pods]
        assert table == [ids[index] for index in target.table]
        assert plan.least_slots <= plan.moved_slots
        assert plan.moved_slots == sum(len(step.moves) for step in plan.steps)

    def test_a_plan_without_a_limit_is_one_step_and_to_itself_none(self, ring):
        assert len(ring.plan(ring.remove("pod-a"), slots_per_step=None).steps) == 1
        assert ring.plan(ring).steps == ()

    @pytest.mark.parametrize(
        ("to", "slots_per_step", "expected"),
        [
            (Ring(PODS, slots=1024), 8, hashroute.PlanError),
            (Ring(PODS[:2]), 0, hashroute.PlanError),
            (Ring(PODS[:2]), -1, hashroute.ParameterError),
            (Ring(PODS[:2]), "8", hashroute.ArgumentTypeError),
            (PODS, 8, hashroute.ArgumentTypeError),
        ],
    )
    def test_a_plan_that_cannot_be_is_refused(self, ring, to, slots_per_step, expected):
        with pytest.raises(expected):
            ring.plan(to, slots_per_step=slots_per_step)


class TestChanges:
    def test_a_change_makes_another_ring_at_the_next_epoch(self, ring):
        added = ring.add("pod-e", weight=2.0, zone="rack-2")
        assert added.pod("pod-e") == Pod("pod-e", weight=2.0, zone="rack-2")
        assert added.reweight("pod-e", 3.0).pod("pod-e").weight == 3.0
        assert added.add(Pod("pod-f", grpc="127.0.0.1:1")).pod("pod-f").grpc == "127.0.0.1:1"
        assert [pod.id for pod in ring.remove("pod-a").pods] == PODS[1:]
        assert ring.epoch == 1
        assert [pod.id for pod in ring.pods] == PODS

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda ring: ring.add("pod-a"), hashroute.DuplicatePodError),
            (lambda ring: ring.add(7), hashroute.ArgumentTypeError),
            (lambda ring: ring.add(""), hashroute.PodIdError),
            (lambda ring: ring.add("x" * 256), hashroute.PodIdError),
            (lambda ring: ring.add("e", weight=0), hashroute.WeightError),
            (lambda ring: ring.remove("pod-z"), hashroute.UnknownPodError),
            (lambda ring: ring.reweight("pod-z", 1.0), hashroute.UnknownPodError),
            (lambda ring: ring.reweight("pod-a", -1.0), hashroute.WeightError),
            (lambda ring: ring.with_state("pod-a", "gone"), hashroute.ParameterError),
            (lambda ring: ring.with_state("pod-z", "down"), hashroute.UnknownPodError),
            (lambda _: Ring(["a"]).remove("a"), hashroute.EmptyViewError),
            (lambda _: Ring(["a"]).with_state("a", "draining"), hashroute.EmptyViewError),
        ],
    )
    def test_a_change_that_cannot_be_is_refused(self, ring, change, expected):
        with pytest.raises(expected):
            change(ring)


class TestBadInput:
    @pytest.mark.parametrize("weight", [0, -1.0, math.nan, math.inf, -math.inf, 1e300, 1e-9])
    def test_a_weight_must_be_positive_and_finite(self, weight):
        with pytest.raises(hashroute.WeightError, match='pod "b"') as caught:
            Ring({"a": 1.0, "b": weight})
        assert caught.value.pod == "b"
        assert isinstance(caught.value, ValueError)

    @pytest.mark.parametrize(
        ("pods", "options", "expected"),
        [
            ([], {}, hashroute.EmptyViewError),
            ({}, {}, hashroute.EmptyViewError),
            ([Pod("a", state="down")], {}, hashroute.EmptyViewError),
            (["a", "a"], {}, hashroute.DuplicatePodError),
            ([Pod("a"), "a"], {}, hashroute.DuplicatePodError),
            ([""], {}, hashroute.PodIdError),
            ("pod-a", {}, hashroute.ArgumentTypeError),
            (b"pod-a", {}, hashroute.ArgumentTypeError),
            (None, {}, hashroute.ArgumentTypeError),
            (5, {}, hashroute.ArgumentTypeError),
            ([None], {}, hashroute.ArgumentTypeError),
            ([b"pod-a"], {}, hashroute.ArgumentTypeError),
            (["\ud800"], {}, hashroute.ArgumentTypeError),
            ({"a": "heavy"}, {}, hashroute.ArgumentTypeError),
            ([Pod("a", zone=1)], {}, hashroute.ArgumentTypeError),
            ([Pod("a", grpc=50051)], {}, hashroute.ArgumentTypeError),
            ([Pod("a", state="gone")], {}, hashroute.ParameterError),
            (["a"], {"slots": 1000}, hashroute.ParameterError),
            (["a"], {"slots": 0}, hashroute.ParameterError),
            (["a"], {"slots": 2**25}, hashroute.ParameterError),
            (["a"], {"slots": -1}, hashroute.ParameterError),
            (["a"], {"slots": 2**70}, hashroute.ParameterError),
            (["a"], {"slots": 65536.0}, hashroute.ArgumentTypeError),
            (["a"], {"epsilon": -0.1}, hashroute.ParameterError),
            (["a"], {"epsilon": math.nan}, hashroute.ParameterError),
            (["a"], {"epsilon": "5%"}, hashroute.ArgumentTypeError),
            (["a"], {"seed": -1}, hashroute.ParameterError),
            (map(str, range(65)), {"slots": 64}, hashroute.TooManyPodsError),
        ],
    )
    def test_what_cannot_be_built_is_refused_at_the_call(self, pods, options, expected):
        with pytest.raises(expected) as caught:
            Ring(pods, **options)
        assert isinstance(caught.value, hashroute.ConfigurationError)
        assert isinstance(caught.value, ValueError)

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("", None),
            ("[]", None),
            ('{"version": 2}', None),
            ('{"version": 1, "epoch": 1}', "pods"),
        ],
    )
    def test_a_text_that_is_no_view_is_refused_with_the_field(self, text, path):
        with pytest.raises(hashroute.ViewFormatError) as caught:
            Ring.from_json(text)
        assert path is None or caught.value.path == path

    def test_few_slots_for_many_pods_are_pointed_out_where_the_ring_is_made(self):
        with pytest.warns(hashroute.FewSlotsWarning, match="8192 slots would do") as caught:
            Ring(map(str, range(17)), slots=4096)
        assert caught[0].filename == __file__
