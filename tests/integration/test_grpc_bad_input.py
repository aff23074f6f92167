"""Whatever arrives on the gRPC port, the rest of the traffic goes on and memory stays bounded."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from itertools import repeat

import grpc
import pytest

from tests.integration.processes import SECONDS_MAX, UNLIMITED, configuration, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
MEBIBYTE = 1 << 20
GROWTH_MAX = 24 * MEBIBYTE
"""What one misbehaving caller may cost; far below what each of them would take if it could."""

IMPATIENT = '[limits]\nhandshake_timeout = "100ms"\nkeepalive = "100ms"\n'


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def header_block(*entries: tuple[bytes, bytes]) -> bytes:
    """HPACK literals that enter no table; for names and values shorter than 127 bytes."""
    pairs = (b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in entries)
    return b"".join(pairs)


CALL = header_block(
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/safe.Pod/Hang"),
    (b":authority", b"test"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


def connect(sidecar) -> socket.socket:
    host, _, port = sidecar.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS_MAX)


def received_until_closed(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection, which must come."""
    received = bytearray()
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return bytes(received)


def send_until_closed(connection: socket.socket, chunks) -> None:
    """Sends until the other side has had enough, which it must have."""
    try:
        for chunk in chunks:
            connection.sendall(chunk)
    except (ConnectionResetError, BrokenPipeError):
        return
    pytest.fail("the connection was never closed")


def assert_serves(sidecar) -> None:
    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        assert channel.unary_unary("/safe.Pod/Echo")(b"ok", timeout=SECONDS_MAX) == b"ok"


@pytest.fixture(scope="module")
def sidecar(shared_pods, tmp_path_factory):
    """A sidecar that soon gives up on those who say nothing."""
    from tests.integration.processes import Sidecar

    directory = tmp_path_factory.mktemp("impatient")
    sidecar = Sidecar(directory, configuration(shared_pods, IMPATIENT))
    yield sidecar
    assert sidecar.process.poll() is None, sidecar.printed()
    sidecar.close()


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS", b"PUT"])
def test_http_1_is_told_what_this_port_speaks(sidecar, method):
    with connect(sidecar) as connection:
        connection.sendall(method + b" / HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = received_until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"gRPC" in answer
    assert b"HTTP/2" in answer
    assert_serves(sidecar)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        bytes(1000),
        b"\xff" * 1000,
        PREFACE[:-1] + b"?" * 1000,
        PREFACE + b"\xff" * 1000,
        PREFACE + frame(SETTINGS, 0, 7, b"odd"),
        PREFACE + frame(SETTINGS, 0, 0) + frame(CONTINUATION, END_HEADERS, 1, b""),
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, b"\xff" * 100),
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 2, CALL),
    ],
    ids=[
        "tls",
        "zeros",
        "ones",
        "almost-preface",
        "preface-then-noise",
        "settings-on-a-stream",
        "continuation-of-nothing",
        "broken-hpack",
        "even-stream",
    ],
)
def test_garbage_closes_its_own_connection_alone(sidecar, garbage):
    with connect(sidecar) as connection:
        connection.sendall(garbage)
        received_until_closed(connection)
    assert_serves(sidecar)


@pytest.mark.parametrize("said", [b"", PREFACE[:10], PREFACE], ids=["nothing", "part", "preface"])
def test_a_connection_that_never_finishes_its_greeting_is_closed(sidecar, said):
    with connect(sidecar) as connection:
        connection.sendall(said)
        received_until_closed(connection)


def test_a_connection_whose_other_end_is_gone_is_closed(sidecar):
    """It greeted, then fell silent: it does not answer when asked whether it is there."""
    with connect(sidecar) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0))
        received_until_closed(connection)


def test_oversized_metadata_fails_its_own_call_alone(shared_sidecar):
    with grpc.insecure_channel(shared_sidecar.address, options=UNLIMITED) as channel:
        hang = channel.unary_unary("/safe.Pod/Hang").future(b"beside oversized")
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/safe.Pod/Echo")(
                b"", metadata=(("x-large", "x" * 100_000),), timeout=SECONDS_MAX
            )
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary("/safe.Pod/Echo")(b"ok", timeout=SECONDS_MAX) == b"ok"
        assert not hang.done(), "another call on the connection was lost"
        hang.cancel()


def test_metadata_up_to_the_limit_passes(shared_sidecar):
    with grpc.insecure_channel(shared_sidecar.address, options=UNLIMITED) as channel:
        value = "x" * 40_000
        _, call = channel.unary_unary("/safe.Pod/Echo").with_call(
            b"", metadata=(("initial-large", value),), timeout=SECONDS_MAX
        )
        assert dict(call.initial_metadata())["initial-large"] == value


def test_headers_without_end_close_the_connection(sidecar):
    before = sidecar.resident_bytes()
    with connect(sidecar) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, CALL))
        part = header_block((b"x-more", b"y" * 100)) * 100
        send_until_closed(connection, repeat(frame(CONTINUATION, 0, 1, part), 50_000))
    assert sidecar.resident_bytes() - before < GROWTH_MAX
    assert_serves(sidecar)


def test_calls_opened_only_to_be_reset_do_not_pile_up(sidecar):
    """The sidecar may put up with it or close the connection; the pods must be spared the load."""
    before = sidecar.resident_bytes()
    with connect(sidecar) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        resets = (
            frame(HEADERS, END_HEADERS, stream, CALL) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
            for stream in range(1, 100_001, 2)
        )
        try:
            for reset in resets:
                connection.sendall(reset)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert_serves(sidecar)
    assert sidecar.resident_bytes() - before < GROWTH_MAX


def test_a_caller_that_never_reads_what_it_provokes_costs_little(sidecar):
    """Every ping asks for an answer that is never taken."""
    before = sidecar.resident_bytes()
    with connect(sidecar) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        connection.settimeout(1.0)
        pings = frame(PING, 0, 0, b"12345678") * 1000
        try:
            for _ in range(5000):
                connection.sendall(pings)
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass
        assert sidecar.resident_bytes() - before < GROWTH_MAX
        assert_serves(sidecar)


def stalled(count) -> int:
    """Returns a count that has stopped rising: equal in many looks on end."""
    history = [-1]

    def unchanged() -> bool:
        history.append(count())
        return len(history) > 25 and len(set(history[-25:])) == 1

    until(unchanged, "the sender is held back")
    return history[-1]


def test_a_caller_that_stops_reading_holds_back_the_pod(shared_sidecar, shared_pods):
    """End-to-end flow control: neither sidecar nor pod may gather what nobody takes."""
    before = shared_sidecar.resident_bytes()
    messages = 4096
    with grpc.insecure_channel(shared_sidecar.address, options=UNLIMITED) as channel:
        call = channel.unary_stream("/safe.Pod/Flood")(str(messages).encode())
        next(call)
        sent = stalled(lambda: max(pod.flooded() for pod in shared_pods))
        assert sent < messages // 4, "the pod was not held back"
        assert shared_sidecar.resident_bytes() - before < GROWTH_MAX
        # A caller that stands still holds back itself alone, also on its own connection.
        assert channel.unary_unary("/safe.Pod/Echo")(b"ok", timeout=SECONDS_MAX) == b"ok"
        assert sum(1 for _ in call) == messages - 1


def test_a_pod_that_stops_reading_holds_back_the_caller(pods, start_sidecar):
    sidecar = start_sidecar(configuration(pods))
    before = sidecar.resident_bytes()
    taken = 0
    messages = 4096

    def requests():
        nonlocal taken
        for _ in range(messages):
            yield bytes(65_536)
            taken += 1

    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = channel.stream_unary("/safe.Pod/Ignore").future(requests())
        until(lambda: any(pod.notes() for pod in pods), "the call reaches a pod")
        assert stalled(lambda: taken) < messages // 4, "the caller was not held back"
        assert sidecar.resident_bytes() - before < GROWTH_MAX
        for pod in pods:
            pod.call("Release")
        assert call.result(SECONDS_MAX) == str(messages * 65_536).encode()


def test_more_connections_than_allowed_are_turned_away(shared_pods, start_sidecar):
    limits = "[limits]\nconnections_max = 4\n"
    sidecar = start_sidecar(configuration(shared_pods, limits))
    greeting = PREFACE + frame(SETTINGS, 0, 0)
    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        echo = channel.unary_unary("/safe.Pod/Echo")
        assert echo(b"one", timeout=SECONDS_MAX) == b"one"
        others = [connect(sidecar) for _ in range(8)]
        try:
            for connection in others:
                connection.sendall(greeting)
            surplus = sum(1 for connection in others if not connection.recv(1))
        except ConnectionResetError:
            surplus = len(others)
        finally:
            for connection in others:
                connection.close()
        assert surplus >= 5
        assert echo(b"still", timeout=SECONDS_MAX) == b"still"


def test_more_calls_than_allowed_are_refused_and_were_not_applied(shared_pods, start_sidecar):
    sidecar = start_sidecar(configuration(shared_pods, "[limits]\nrequests_max = 8\n"))
    with (
        grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel,
        grpc.insecure_channel(sidecar.address, options=UNLIMITED) as other_channel,
    ):
        hang = channel.unary_unary("/once.Pod/Hang")
        hanging = [hang.future(b"crowd") for _ in range(8)]
        until(
            lambda: sum(pod.notes().count("hang crowd") for pod in shared_pods) == 8,
            "all that are allowed have reached a pod",
        )
        with pytest.raises(grpc.RpcError) as raised:
            other_channel.unary_unary("/once.Pod/Echo")(b"", timeout=SECONDS_MAX)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(raised.value.trailing_metadata())
        assert trailers["x-hashroute-outcome"] == "not-applied"
        for call in hanging:
            call.cancel()


def test_an_address_in_use_is_named_and_nothing_starts(shared_pods, shared_sidecar, tmp_path):
    file = tmp_path / "hashroute.toml"
    text = configuration(shared_pods)
    file.write_text(
        text.replace('grpc = "127.0.0.1:0"', f'grpc = "{shared_sidecar.address}"'),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "hashroute", "proxy", "--config", file],
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS_MAX,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 2
    assert shared_sidecar.address in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
