"""The key of a call, wherever it stands, sends the call to the pod that `hashroute.Ring` names."""

from __future__ import annotations

import contextlib
import json
import random

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hashroute import Ring

from tests.integration.conftest import POD_NAMES
from tests.integration.processes import SECONDS_MAX, UNLIMITED, configuration

RING = Ring(POD_NAMES)
KEY = "x-hashroute-key"
KEYS = [f"symbol-{number}" for number in range(64)]
HOST = "127.0.0.1"
STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE

ROUTES = """
[[routes]]
match = "/metadata.Pod/*"
key = ["metadata:x-hashroute-key"]

[[routes]]
match = "/any.Pod/*"
key = ["metadata:x-hashroute-key"]
on_missing = "any"

[[routes]]
match = "/number.Pod/*"
key = ["field:1"]

[[routes]]
match = "/nested.Pod/*"
key = ["field:5.2"]

[[routes]]
match = "/integer.Pod/*"
key = ["field:7"]

[[routes]]
match = "/test.Named/*"
key = ["field:user.id"]
descriptor_set = "named.binpb"

[[routes]]
match = "/path.Pod/*"
key = ["path"]

[[routes]]
match = "/peer.Pod/*"
key = ["peer"]

[[routes]]
match = "/order.Pod/*"
key = ["metadata:x-first", "field:1", "path"]
"""


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """`test.Request` with a name, a user who has an id, a number and a payload; and its service."""
    file = descriptor_pb2.FileDescriptorProto(name="named.proto", package="test", syntax="proto3")
    user = file.message_type.add(name="User")
    user.field.add(name="id", number=2, type=STRING, label=1)
    request = file.message_type.add(name="Request")
    request.field.add(name="name", number=1, type=STRING, label=1)
    request.field.add(name="user", number=5, type=MESSAGE, type_name=".test.User", label=1)
    request.field.add(name="number", number=7, type=INT64, label=1)
    request.field.add(name="payload", number=9, type=BYTES, label=1)
    method = file.service.add(name="Named").method.add(name="Describe")
    method.input_type = method.output_type = ".test.Request"
    return descriptor_pb2.FileDescriptorSet(file=[file])


def request_class():
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_set().file[0])
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Request"))


REQUEST = request_class()


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field as protobuf writes it."""
    length, encoded = len(value), bytearray([number << 3 | 2])
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(encoded) + bytes([length]) + value


@pytest.fixture(scope="module")
def keyed(shared_pods, tmp_path_factory):
    """The address of a sidecar that looks for keys in every kind of place."""
    from tests.integration.processes import Sidecar

    directory = tmp_path_factory.mktemp("keyed")
    (directory / "named.binpb").write_bytes(descriptor_set().SerializeToString())
    sidecar = Sidecar(directory, configuration(shared_pods, routes=ROUTES))
    yield sidecar.address
    sidecar.close()


@pytest.fixture
def describe(keyed):
    """Calls `Describe` of a service and returns what the pod saw."""
    with describing(keyed) as call:
        yield call


@contextlib.contextmanager
def describing(address: str):
    """Yields what calls `Describe` of a service at this address and returns what the pod saw."""
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:

        def call(service: str, request: bytes = b"", *metadata: tuple[str, str]):
            answer = channel.unary_unary(f"/{service}/Describe")(
                request, metadata=metadata, timeout=SECONDS_MAX
            )
            return json.loads(answer)

        yield call


def refusal(describe, *arguments) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        describe(*arguments)
    return raised.value


def test_a_key_in_metadata_goes_to_its_owner(describe):
    owners = [describe("metadata.Pod", b"", (KEY, key))["pod"] for key in KEYS]
    assert owners == RING.owners(KEYS)
    assert set(owners) == set(POD_NAMES)


def test_a_field_by_number_goes_to_its_owner(describe):
    for key in KEYS:
        request = REQUEST(name=key, payload=b"x" * 100).SerializeToString()
        assert describe("number.Pod", request)["pod"] == RING.owner(key)


def test_a_field_within_a_field_goes_to_its_owner(describe):
    for key in KEYS:
        request = REQUEST(name="not this", user={"id": key}).SerializeToString()
        assert describe("nested.Pod", request)["pod"] == RING.owner(key)


def test_a_field_by_name_goes_to_its_owner(describe):
    for key in KEYS:
        request = REQUEST(name="not this", user={"id": key}).SerializeToString()
        assert describe("test.Named", request)["pod"] == RING.owner(key)


def test_an_integer_field_goes_to_the_owner_of_the_integer(describe):
    for number in (1, 2, 127, 128, 10**6, 2**63 - 1):
        request = REQUEST(number=number).SerializeToString()
        assert describe("integer.Pod", request)["pod"] == RING.owner(number)


def test_a_key_behind_another_field_is_found(describe):
    """Serializers order fields by number, but the wire allows any order."""
    request = REQUEST(payload=bytes(50_000)).SerializeToString()
    request += REQUEST(name="late").SerializeToString()
    assert describe("number.Pod", request)["pod"] == RING.owner("late")


def test_the_path_is_a_key(describe):
    assert describe("path.Pod")["pod"] == RING.owner("/path.Pod/Describe")


def test_the_caller_is_a_key(describe):
    assert {describe("peer.Pod")["pod"] for _ in range(10)} == {RING.owner(HOST)}


def test_sources_are_tried_in_order(describe):
    request = REQUEST(name="from-field").SerializeToString()
    in_metadata = describe("order.Pod", request, ("x-first", "from-metadata"))
    assert in_metadata["pod"] == RING.owner("from-metadata")
    assert describe("order.Pod", request)["pod"] == RING.owner("from-field")
    assert describe("order.Pod", b"")["pod"] == RING.owner("/order.Pod/Describe")


@pytest.mark.parametrize(
    ("service", "looked_for"),
    [("metadata.Pod", KEY), ("nested.Pod", "5.2"), ("test.Named", "5.2")],
)
def test_a_missing_key_is_refused_with_what_was_looked_for(describe, service, looked_for):
    error = refusal(describe, service, REQUEST(name="another field").SerializeToString())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert looked_for in error.details()
    assert dict(error.trailing_metadata())["x-hashroute-outcome"] == "not-applied"


def test_a_message_that_is_not_protobuf_is_refused(describe):
    error = refusal(describe, "number.Pod", b"\xff" * 20)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_missing_keys_spread_where_any_pod_will_do(describe):
    assert {describe("any.Pod")["pod"] for _ in range(60)} == set(POD_NAMES)


def test_a_method_without_a_route_is_keyed_by_metadata(describe):
    owners = [describe("unrouted.Pod", b"", (KEY, key))["pod"] for key in KEYS]
    assert owners == RING.owners(KEYS)


def test_a_stream_is_keyed_by_its_first_message(keyed):
    first = REQUEST(name="first").SerializeToString()
    second = REQUEST(name="second").SerializeToString()
    with grpc.insecure_channel(keyed, options=UNLIMITED) as channel:
        call = channel.stream_stream("/number.Pod/Chat")(iter([first, second]), timeout=SECONDS_MAX)
        assert list(call) == [b"heard " + first, b"heard " + second]
        assert dict(call.initial_metadata())["x-hashroute-pod"] == RING.owner("first")


@pytest.mark.parametrize("size", [1, 100, 10_000, 60_000])
def test_keys_of_any_bytes(describe, size):
    key = random.Random(size).randbytes(size)
    assert describe("number.Pod", field(1, key))["pod"] == RING.owner(key)


def test_a_key_beyond_the_buffer_is_refused_with_the_limit_to_raise(describe):
    error = refusal(describe, "number.Pod", field(1, bytes(1 << 20)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "buffer_bytes" in error.details()


def test_a_key_of_a_mebibyte_is_found_where_the_buffer_is_larger(shared_pods, start_sidecar):
    buffer = '[retry]\nbuffer_bytes = "4MiB"\n'
    routes = '[[routes]]\nmatch = "/number.Pod/*"\nkey = ["field:1"]\n'
    sidecar = start_sidecar(configuration(shared_pods, buffer, routes=routes))
    key = random.Random(7).randbytes(1 << 20)
    behind = REQUEST(payload=bytes(1_000_000)).SerializeToString()
    with describing(sidecar.address) as describe:
        assert describe("number.Pod", field(1, key))["pod"] == RING.owner(key)
        assert describe("number.Pod", behind + field(1, b"late"))["pod"] == RING.owner("late")


def test_an_empty_key_is_a_key(describe):
    assert describe("number.Pod", field(1, b""))["pod"] == RING.owner(b"")


def test_a_compressed_message_without_another_key_is_refused_clearly(keyed):
    """The sidecar reads no compressed message, so there the key must stand in metadata."""
    request = REQUEST(name="a" * 1000).SerializeToString()
    with (
        grpc.insecure_channel(keyed, options=UNLIMITED) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        channel.unary_unary("/number.Pod/Describe")(
            request, compression=grpc.Compression.Gzip, timeout=SECONDS_MAX
        )
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "compress" in raised.value.details()


def test_the_pod_is_told_slot_epoch_and_term(describe):
    for key in KEYS:
        told = dict(describe("metadata.Pod", b"", (KEY, key))["metadata"])
        assert int(told["x-hashroute-slot"]) == RING.slot(key)
        assert (int(told["x-hashroute-epoch"]), int(told["x-hashroute-term"])) == (1, 1)


def test_a_caller_cannot_forge_what_the_pod_is_told(describe):
    names = ("x-hashroute-slot", "x-hashroute-epoch", "x-hashroute-term")
    forged = [(name, "123456") for name in names]
    metadata = describe("metadata.Pod", b"", (KEY, "key"), *forged)["metadata"]
    for name in names:
        values = [value for entry, value in metadata if entry == name]
        assert len(values) == 1
        assert values != ["123456"]


def test_the_key_reaches_the_pod_too(describe):
    metadata = describe("metadata.Pod", b"", (KEY, "kept"))["metadata"]
    assert [KEY, "kept"] in metadata


def test_the_caller_is_told_the_pod_in_answers_and_in_failures(keyed):
    metadata = ((KEY, "told"),)
    with grpc.insecure_channel(keyed, options=UNLIMITED) as channel:
        _, call = channel.unary_unary("/metadata.Pod/Echo").with_call(
            b"", metadata=metadata, timeout=SECONDS_MAX
        )
        assert dict(call.initial_metadata())["x-hashroute-pod"] == RING.owner("told")
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/metadata.Pod/Fail")(
                b'{"code": 5, "details": "no"}', metadata=metadata, timeout=SECONDS_MAX
            )
    error = raised.value
    said = [*(error.initial_metadata() or ()), *error.trailing_metadata()]
    assert ("x-hashroute-pod", RING.owner("told")) in said


def test_two_sidecars_agree_without_talking(shared_pods, start_sidecar):
    """Each lists the pods in another order."""
    metadata = '[[routes]]\nmatch = "/metadata.Pod/*"\n'
    sidecars = [
        start_sidecar(configuration(pods, routes=metadata))
        for pods in (shared_pods, list(reversed(shared_pods)))
    ]
    digests, owners = set(), []
    for sidecar in sidecars:
        digests.add(sidecar.status()["digest"])
        with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
            call = channel.unary_unary("/metadata.Pod/Describe")
            answers = [call(b"", metadata=((KEY, key),), timeout=SECONDS_MAX) for key in KEYS]
            owners.append([json.loads(answer)["pod"] for answer in answers])
    assert owners[0] == owners[1] == RING.owners(KEYS)
    assert digests == {RING.digest}
