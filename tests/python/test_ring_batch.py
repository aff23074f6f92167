"""Batches of every kind of container give what one call for each key gives."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hashroute import KeyTypeError, Ring

RING = Ring([f"pod-{number}" for number in range(16)])
PLACES = {pod.id: place for place, pod in enumerate(RING.pods)}
DICE = random.Random(7)


def one_by_one(keys) -> list[int]:
    return [PLACES[RING.owner(key)] for key in keys]


@pytest.mark.parametrize("width", [*range(1, 36), 64, 300])
def test_texts_of_a_fixed_width_count_without_their_padding(width):
    texts = [DICE.randbytes(DICE.randint(0, width)).rstrip(b"\0") for _ in range(200)]
    texts += [b"x" * width, b"", b"\0" * (width - 1) + b"x"]
    array = np.array(texts, dtype=f"S{width}")
    assert RING.owner_indices(array).tolist() == one_by_one(texts)


# Around the number of keys that are hashed together.
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_of_any_number_and_step(count, dtype):
    spread = np.array([DICE.getrandbits(64) for _ in range(2 * count)], np.uint64).astype(dtype)
    for array in (spread[:count].copy(), spread[::2], spread[::-1]):
        assert RING.owner_indices(array).tolist() == one_by_one(array.tolist())


def test_a_list_may_mix_all_kinds_of_keys():
    kinds = ["AAPL", b"AAPL", 7, -1, 2**64 - 1, "Ünïcode", bytearray(b"x"), np.int64(9), ""]
    keys = [DICE.choice(kinds) for _ in range(500)]
    assert RING.owner_indices(keys).tolist() == one_by_one(keys)
    assert RING.owner_indices(tuple(keys)).tolist() == one_by_one(keys)


def test_a_list_that_a_key_changes_is_looked_up_as_it_was():
    class Clears:
        def __index__(self) -> int:
            keys.clear()
            return 7

    keys: list[object] = ["AAPL", Clears(), "MSFT", "not " + str(RING.slots)]
    found = RING.owner_indices(keys)
    assert keys == []
    assert found.tolist() == one_by_one(["AAPL", 7, "MSFT", "not 65536"])


def test_a_wrong_key_behind_many_good_ones_is_refused():
    with pytest.raises(KeyTypeError):
        RING.owner_indices([*("AAPL" for _ in range(100)), None])
