"""Peers that misbehave: each gets what it deserves, and the others notice nothing."""

from __future__ import annotations

import contextlib
import os
import random
import struct

import pytest
import zmq

from tests.integration.processes import until
from tests.integration.zmq_peers import (
    GREETING,
    HOLD,
    ByHand,
    Pod,
    Wire,
    ask,
    client,
    error_of,
    frame,
    message,
    ready,
    relay,
)

PING = b"\x04\x07\x04PING\x00\x00"
CURVE = GREETING[:12] + b"CURVE".ljust(20, b"\0") + GREETING[32:]


def refused(sidecar) -> int:
    return int(sidecar.snapshot()["totals"]["refused"])


def connections(sidecar) -> int:
    return int(sidecar.snapshot()["totals"]["connections"]["zmq"])


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        random.Random(7).randbytes(500),
        GREETING[:10] + b"\x01" + bytes(60),
        CURVE,
        GREETING + ready(b"SUB"),
        GREETING + message(b"", b"key"),
        GREETING + frame(b"x" * 20_000),
        GREETING + ready(b"REQ") + b"\xff" * 20,
        GREETING + ready(b"REQ") + b"\x06" + struct.pack(">Q", 1 << 40),
        GREETING + ready(b"REQ") + b"\x04\x1a\x04PING\x00\x00" + b"c" * 20,
    ],
    ids=[
        *("HTTP", "TLS", "noise", "ZMTP 2", "CURVE", "SUB", "early message", "long handshake"),
        *("reserved flags", "huge command", "long ping"),
    ],
)
def test_garbage_is_hung_up_on_and_counted_and_disturbs_nobody(garbage):
    with relay([Pod("pod-a")]) as sidecar, client(sidecar) as peer:
        assert ask(peer, b"key", b"before")[0] == b"pod-a"
        with Wire.connect(sidecar, garbage) as stranger:
            stranger.until_closed()
        assert ask(peer, b"key", b"after")[0] == b"pod-a"
        assert refused(sidecar) == 1
        assert connections(sidecar) == 1


def test_a_peer_of_the_wrong_type_is_told_why():
    with relay([Pod("pod-a")]) as sidecar, Wire.connect(sidecar, GREETING) as peer:
        peer.send(ready(b"PUSH"))
        came = peer.until_closed()
        assert b"ERROR" in came
        assert b"PUSH cannot talk to a ROUTER socket, expected one of REQ, DEALER, ROUTER" in came


def test_a_connection_that_says_nothing_is_closed_in_time():
    with (
        relay([Pod("pod-a")], limits={"handshake_timeout_ms": 100}) as sidecar,
        Wire.connect(sidecar) as silent,
        client(sidecar) as peer,
    ):
        assert silent.until_closed() == GREETING
        assert ask(peer, b"key", b"body")[0] == b"pod-a"


def test_a_client_that_vanished_without_a_word_is_noticed():
    with (
        relay([Pod("pod-a")], limits={"keepalive_ms": 100}) as sidecar,
        Wire.dealer(sidecar) as vanished,
        client(sidecar) as peer,
    ):
        assert ask(peer, b"key", b"body")[0] == b"pod-a"
        flags, body = vanished.frame()
        assert flags == 4
        assert body == b"\x04PING" + struct.pack(">H", 3)
        until(lambda: connections(sidecar) == 1, "the silent one is gone")
        # libzmq answers the same question, so it stays however quiet its program is.
        assert ask(peer, b"key", b"later")[0] == b"pod-a"


def test_connections_beyond_the_limit_are_refused_and_the_others_stay():
    with relay([Pod("pod-a")], limits={"connections_max": 2}) as sidecar, client(sidecar) as peer:
        assert ask(peer, b"key", b"body")[0] == b"pod-a"
        with Wire.dealer(sidecar):
            with Wire.connect(sidecar) as third:
                assert third.until_closed() == b""
            assert ask(peer, b"key", b"body")[0] == b"pod-a"
            assert refused(sidecar) == 1


def test_requests_beyond_the_limit_are_refused_and_the_others_answered():
    with (
        relay([Pod("pod-a")], limits={"requests_max": 10}) as sidecar,
        client(sidecar, zmq.DEALER) as greedy,
    ):
        for _ in range(11):
            greedy.send_multipart([b"", b"key", HOLD])
        _, *error = greedy.recv_multipart()
        assert error_of(error) == ("RESOURCE_EXHAUSTED", "not-applied")
        sidecar.until_in_flight(10)


def test_a_client_that_does_not_read_waits_in_its_own_socket():
    body = os.urandom(60_000)
    limits = {"message_bytes_max": 1 << 20}
    with (
        relay([Pod("pod-a")], zmq=limits) as sidecar,
        client(sidecar) as peer,
        Wire.dealer(sidecar) as stalled,
    ):
        sent = stalled.until_blocked(message(b"", b"key", body), 256 << 20, 0.5)
        assert sent < 128 << 20, "the relay takes no more than it can answer"
        for _ in range(50):
            assert ask(peer, b"key", b"body")[0] == b"pod-a"
        sidecar.until_in_flight(0)
        # Once it reads, it gets every answer to what the relay took from it.
        whole = sent // len(message(b"", b"key", body))
        for _ in range(whole):
            assert stalled.message()[-1] == body


def test_memory_is_bounded_while_large_messages_come_in_and_their_senders_are_told():
    clients = 100
    head = message(b"", b"key", bytes(900_000), b"")[:-2]
    pod = ByHand("pod-a")
    with contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(relay([pod], zmq={"message_bytes_max": 1_000_000}))
        server = stack.enter_context(pod.accept())
        peers = [stack.enter_context(Wire.dealer(sidecar)) for _ in range(clients)]
        for peer in peers:
            # The answer shows that all before the ping was taken in: together, more than 64 MiB.
            peer.send(head, PING)
            assert peer.frame() == (4, b"\x04PONG")
        # The relay looks at its memory whenever it looks at the clock, and it then asks the pod
        # whether it lives: by the second question after this answer it has looked.
        server.send(PING)
        until(lambda: server.frame()[1] == b"\x04PONG", "what it asked before was read")
        for _ in range(2):
            assert server.frame()[1].startswith(b"\x04PING")
        for peer in peers:
            peer.send(frame(b"end"))
        until(lambda: refused(sidecar) + sidecar.in_flight() == clients, "all were decided on")
        assert sidecar.count("RESOURCE_EXHAUSTED") == refused(sidecar)
        assert 25 < refused(sidecar) < clients, "as many as had to be"


def test_a_client_that_takes_no_replies_is_cut_off_before_they_fill_the_memory():
    pod = ByHand("pod-a")
    reply = bytes(1_000_000)
    with (
        # The pod says nothing while the client is waited for; that must not count against it.
        relay([pod], zmq={"message_bytes_max": 1 << 20}, health={"timeout_ms": 60_000}) as sidecar,
        pod.accept() as server,
        Wire.dealer(sidecar) as stalled,
    ):
        stalled.send(message(b"", b"key", b"body") * 100)
        for _ in range(100):
            number, *_rest = server.message()
            server.send(message(number, b"", reply))
        until(lambda: connections(sidecar) == 0, "it was cut off")
        with client(sidecar) as peer:
            peer.send_multipart([b"key", b"body"])
            number, *_rest = server.message()
            server.send(message(number, b"", b"answer"))
            assert peer.recv_multipart() == [b"answer"]
