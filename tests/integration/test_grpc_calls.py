"""Whatever a caller and a pod say to each other passes through the sidecar as it was said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import any_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.integration.processes import SECONDS_MAX, until

if TYPE_CHECKING:
    from tests.integration.processes import Pod

MEBIBYTE = 1 << 20


def visible(metadata) -> list[tuple[str, str | bytes]]:
    """The entries that the test itself sent around."""
    return [(name, value) for name, value in metadata if name.startswith(("initial-", "trailing-"))]


def noted(pods: list[Pod], note: str) -> bool:
    return any(note in pod.notes() for pod in pods)


def test_a_unary_call_is_answered(channel):
    assert channel.unary_unary("/safe.Pod/Echo")(b"hello", timeout=SECONDS_MAX) == b"hello"


def test_a_server_stream_arrives_whole_and_in_order(channel):
    answers = channel.unary_stream("/safe.Pod/Count")(b"1000", timeout=SECONDS_MAX)
    assert list(answers) == [str(number).encode() for number in range(1000)]


def test_a_client_stream_arrives_whole(channel):
    requests = (bytes(size) for size in range(500))
    answer = channel.stream_unary("/safe.Pod/Gather")(requests, timeout=SECONDS_MAX)
    assert json.loads(answer) == {"messages": 500, "bytes": sum(range(500))}


def test_a_client_stream_without_a_message_is_a_call(channel):
    answer = channel.stream_unary("/safe.Pod/Gather")(iter(()), timeout=SECONDS_MAX)
    assert json.loads(answer) == {"messages": 0, "bytes": 0}


def test_both_sides_of_a_stream_take_turns(channel):
    """Each message waits for the answer to the one before: nothing may be held back."""
    answered = threading.Semaphore(1)

    def requests():
        for number in range(50):
            assert answered.acquire(timeout=SECONDS_MAX)
            yield str(number).encode()

    heard = []
    for answer in channel.stream_stream("/safe.Pod/Chat")(requests(), timeout=SECONDS_MAX):
        heard.append(answer)
        answered.release()
    assert heard == [f"heard {number}".encode() for number in range(50)]


def test_an_empty_message_is_a_message(channel):
    assert channel.unary_unary("/safe.Pod/Echo")(b"", timeout=SECONDS_MAX) == b""


def test_metadata_keeps_its_bytes_its_order_and_its_duplicates(channel):
    entries = (
        ("initial-text", "first"),
        ("initial-raw-bin", bytes(range(256))),
        ("initial-text", "second"),
        ("initial-empty", ""),
        ("trailing-text", "a, b"),
        ("trailing-raw-bin", b"\x00\xff"),
        ("trailing-raw-bin", b""),
        ("trailing-text", "c"),
    )
    _, call = channel.unary_unary("/safe.Pod/Echo").with_call(
        b"", metadata=entries, timeout=SECONDS_MAX
    )
    for received, prefix in ((call.initial_metadata(), "i"), (call.trailing_metadata(), "t")):
        sent = [entry for entry in entries if entry[0].startswith(prefix)]
        # gRPC keeps the order of equal names, and promises nothing between different ones.
        assert sorted(visible(received), key=lambda entry: entry[0]) == sorted(
            sent, key=lambda entry: entry[0]
        )


def test_a_failure_in_trailers_alone_keeps_code_details_and_metadata(channel):
    failure = json.dumps({"code": 9, "details": "größer als 100 %: 失敗"}).encode()
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/safe.Pod/Fail")(
            failure, metadata=(("trailing-why", "because"),), timeout=SECONDS_MAX
        )
    error = raised.value
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "größer als 100 %: 失敗"
    assert visible(error.trailing_metadata()) == [("trailing-why", "because")]


def test_a_failure_after_initial_metadata_keeps_both(channel):
    failure = json.dumps({"code": 8, "details": "full", "first": True}).encode()
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/safe.Pod/Fail")(failure, timeout=SECONDS_MAX)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert visible(raised.value.initial_metadata()) == [("initial-answer", "yes")]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] != 0])
def test_every_status_code_of_a_pod_is_its_callers(channel, code):
    failure = json.dumps({"code": code.value[0], "details": "so"}).encode()
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/once.Pod/Fail")(failure, timeout=SECONDS_MAX)
    assert (raised.value.code(), raised.value.details()) == (code, "so")
    trailers = dict(raised.value.trailing_metadata())
    assert "x-hashroute-outcome" not in trailers, "the failure was the pod's own"


def test_status_details_pass(channel):
    details = any_pb2.Any(type_url="type.googleapis.com/test.Reason", value=b"\x00\x01\xfe")
    failure = json.dumps({"code": 5, "details": "none"}).encode()
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/safe.Pod/Fail")(
            failure,
            metadata=(("grpc-status-details-bin", details.SerializeToString()),),
            timeout=SECONDS_MAX,
        )
    trailers = dict(raised.value.trailing_metadata())
    assert any_pb2.Any.FromString(trailers["grpc-status-details-bin"]) == details


def test_a_stream_that_fails_midway_delivers_what_came_before(channel):
    received = []

    def receive():
        answers = channel.unary_stream("/safe.Pod/CountAndFail")(b"10", timeout=SECONDS_MAX)
        # What came before the failure stays in the list.
        received.extend(int(answer) for answer in answers)

    with pytest.raises(grpc.RpcError) as raised:
        receive()
    assert received == list(range(10))
    assert raised.value.code() is grpc.StatusCode.DATA_LOSS
    assert raised.value.details() == "the rest is gone"


def test_a_method_that_no_pod_has_is_unimplemented(channel):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/safe.Pod/NoSuchMethod")(b"", timeout=SECONDS_MAX)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_pod_is_told_the_callers_deadline(channel):
    answer = channel.unary_unary("/safe.Pod/Describe")(b"", timeout=25.0)
    # grpcio writes a deadline with three digits, rounded up.
    assert 0 < json.loads(answer)["seconds_left"] < 25.2


def test_no_deadline_is_made_up(channel):
    call = channel.unary_unary("/safe.Pod/Describe").future(b"")
    assert json.loads(call.result(timeout=SECONDS_MAX))["seconds_left"] is None


def test_a_deadline_ends_the_call_at_both_ends(channel, shared_pods):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/safe.Pod/Hang")(b"deadline", timeout=0.5)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: noted(shared_pods, "cancelled deadline"), "the pod's call is cancelled")


def test_a_cancelled_call_is_cancelled_at_the_pod(channel, shared_pods):
    call = channel.unary_unary("/safe.Pod/Hang").future(b"cancel")
    until(lambda: noted(shared_pods, "hang cancel"), "the call reaches a pod")
    call.cancel()
    until(lambda: noted(shared_pods, "cancelled cancel"), "the pod's call is cancelled")


def test_a_caller_that_dies_is_a_cancellation(shared_sidecar, shared_pods):
    program = (
        "import grpc, sys;"
        "channel = grpc.insecure_channel(sys.argv[1]);"
        "channel.unary_unary('/safe.Pod/Hang')(b'death')"
    )
    with subprocess.Popen([sys.executable, "-c", program, shared_sidecar.address]) as caller:
        until(lambda: noted(shared_pods, "hang death"), "the call reaches a pod")
        caller.kill()
    until(lambda: noted(shared_pods, "cancelled death"), "the pod's call is cancelled")


@pytest.mark.parametrize("method", ["Echo", "Zip"])
def test_compressed_messages_pass(channel, method):
    message = os.urandom(100) * 1000
    answer = channel.unary_unary(f"/safe.Pod/{method}")(
        message, compression=grpc.Compression.Gzip, timeout=SECONDS_MAX
    )
    assert answer == message


def test_compressed_streams_pass(channel):
    messages = [os.urandom(50) * number for number in range(1, 100)]
    answers = channel.stream_stream("/safe.Pod/Chat")(
        iter(messages), compression=grpc.Compression.Gzip, timeout=SECONDS_MAX
    )
    assert list(answers) == [b"heard " + message for message in messages]


@pytest.mark.parametrize("boundary", [16 * 1024, 64 * 1024, MEBIBYTE])
def test_messages_around_the_sizes_of_frames_and_windows_pass(channel, boundary):
    """Many at a time on one connection, so that they compete for its window."""
    sizes = [boundary + off for off in (-6, -5, -1, 0, 1, 5)] * 4
    messages = [os.urandom(size) for size in sizes]
    echo = channel.unary_unary("/safe.Pod/Echo")
    with ThreadPoolExecutor(len(messages)) as threads:
        answers = threads.map(lambda message: echo(message, timeout=SECONDS_MAX), messages)
        assert list(answers) == messages


def test_a_message_of_64_mebibytes_passes_to_the_pod(channel):
    message = bytes(64 * MEBIBYTE)
    answer = channel.stream_unary("/safe.Pod/Gather")(iter([message]), timeout=SECONDS_MAX)
    assert json.loads(answer) == {"messages": 1, "bytes": 64 * MEBIBYTE}


def test_a_message_of_64_mebibytes_passes_to_the_caller(channel):
    size = 64 * MEBIBYTE
    answer = channel.unary_unary("/safe.Pod/Bytes")(str(size).encode(), timeout=SECONDS_MAX)
    assert len(answer) == size


def test_the_health_service_of_a_pod_answers(channel):
    request = health_pb2.HealthCheckRequest(service="")
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS_MAX)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_health_watch_stays_open_and_can_be_cancelled(channel):
    watch = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=""), timeout=SECONDS_MAX
    )
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        next(watch)
    assert raised.value.code() is grpc.StatusCode.CANCELLED


def test_reflection_of_a_pod_answers(channel):
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        requests, timeout=SECONDS_MAX
    )
    services = {service.name for service in next(answers).list_services_response.service}
    assert "grpc.health.v1.Health" in services
