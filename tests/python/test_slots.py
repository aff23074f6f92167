"""The slot functions of Redis Cluster and Kafka, against what those projects publish."""

from __future__ import annotations

import pytest
from hashroute import Ring
from hashroute.errors import ArgumentTypeError, KeyEncodingError, KeyTypeError, ParameterError
from hashroute.slots import REDIS_SLOTS, _murmur2, kafka_partition, redis_slot
from hypothesis import given
from hypothesis import strategies as st

# Of Kafka's own test of the hash (UtilsTest), as signed ints; the last two of its C client's.
MURMUR2 = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
    (bytes([12, 42, 56, 24, 109, 111]), 274204207),
    (b"", 275646681),
]


def crc16_bit_by_bit(data: bytes) -> int:
    """The checksum of the Redis Cluster specification, one bit at a time."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ (0x1021 if crc & 0x8000 else 0)
        crc &= 0xFFFF
    return crc


def test_a_redis_slot_is_that_of_the_specification():
    assert crc16_bit_by_bit(b"123456789") == 0x31C3
    assert redis_slot("123456789") == 0x31C3
    # As the documentation of Redis shows CLUSTER KEYSLOT.
    assert redis_slot("somekey") == 11058
    assert redis_slot("foo{hash_tag}") == 2515
    assert redis_slot("bar{hash_tag}") == 2515


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"{user1000}.followers", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo{bar", b"foo{bar"),
        (b"}foo{bar}", b"bar"),
        (b"", b""),
    ],
)
def test_only_the_hash_tag_counts(key, hashed):
    assert redis_slot(key) == crc16_bit_by_bit(hashed) % REDIS_SLOTS


@given(st.binary(max_size=64).filter(lambda data: b"{" not in data))
def test_the_standard_library_has_the_checksum_of_redis(data):
    assert redis_slot(data) == crc16_bit_by_bit(data) % REDIS_SLOTS


@pytest.mark.parametrize(("key", "signed"), MURMUR2)
def test_the_hash_is_that_of_kafka(key, signed):
    assert _murmur2(key) == signed % 2**32
    for partitions in (1, 7, 12, 48, 2**31 - 1):
        assert kafka_partition(key, partitions) == (signed & 0x7FFF_FFFF) % partitions


@pytest.mark.parametrize("function", [redis_slot, lambda key: kafka_partition(key, 48)])
def test_text_is_its_utf8_bytes_and_other_types_are_refused(function):
    assert function("€USD") == function("€USD".encode()) == function(bytearray("€USD".encode()))
    assert function(memoryview(b"EURUSD")) == function(b"EURUSD")
    for wrong in (7, None, 1.5, ["a"], True):
        with pytest.raises(KeyTypeError, match="str or bytes-like"):
            function(wrong)
    with pytest.raises(KeyEncodingError):
        function("\ud800")


@pytest.mark.parametrize("partitions", [0, -1, 2**31])
def test_a_topic_has_at_least_one_partition(partitions):
    with pytest.raises(ParameterError, match="partitions") as caught:
        kafka_partition("a", partitions)
    assert caught.value.parameter == "partitions"


@pytest.mark.parametrize("partitions", [4.0, "4", None])
def test_partitions_are_an_int(partitions):
    with pytest.raises(ArgumentTypeError):
        kafka_partition("a", partitions)


def test_keys_of_one_slot_have_one_owner():
    ring = Ring(["pod-a", "pod-b", "pod-c", "pod-d"])
    owners = {ring.owner(redis_slot(f"{{user1000}}.{field}")) for field in range(100)}
    assert len(owners) == 1
    owners_of_slots = {ring.owner(redis_slot(f"user{number}")) for number in range(100)}
    assert owners_of_slots == {"pod-a", "pod-b", "pod-c", "pod-d"}
