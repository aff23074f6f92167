"""What travels: frames of any number and size, and what a request without a key gets."""

from __future__ import annotations

import os

import pytest
import zmq

from tests.integration.zmq_peers import ByHand, Pod, Wire, ask, client, error_of, message, relay

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        [b"key"],
        [b"key", b""],
        [b"key", b"", b"", b"tail"],
        [b""],
        [b"\x00\xff" * 100, b"body"],
        [b"key", *(b"%d" % number for number in range(500))],
        [b"k" * MEBIBYTE, b"body"],
    ],
    ids=["alone", "empty", "empties", "empty key", "binary key", "500 frames", "1 MiB key"],
)
def test_frames_arrive_as_they_were_sent(content):
    with relay([Pod("pod-a", zmq.REP)]) as sidecar, client(sidecar) as peer:
        assert ask(peer, *content) == [b"pod-a", *content]


@pytest.mark.parametrize("size", [255, 256, 16_383, 16_384, 65_536, MEBIBYTE, 20_000_000])
def test_bodies_of_any_size_arrive_whole(size):
    body = os.urandom(size)
    with relay([Pod("pod-a", zmq.REP)]) as sidecar, client(sidecar, zmq.DEALER) as peer:
        for number in range(3):
            peer.send_multipart([b"", b"key", b"%d" % number, body])
        for number in range(3):
            assert peer.recv_multipart() == [b"", b"pod-a", b"key", b"%d" % number, body]


def test_a_ping_between_the_frames_of_a_message_is_answered_and_left_out():
    with relay([Pod("pod-a")]) as sidecar, Wire.dealer(sidecar) as peer:
        whole = message(b"", b"key", b"body")
        peer.send(whole[:2], b"\x04\x0b\x04PING\x00\x00ctx1", whole[2:5])
        assert peer.frame() == (4, b"\x04PONGctx1")
        peer.send(whole[5:])
        assert peer.message() == [b"", b"pod-a", b"key", b"body"]


def test_a_message_may_come_byte_by_byte():
    with relay([Pod("pod-a")]) as sidecar, Wire.dealer(sidecar) as peer:
        for byte in message(b"id", b"", b"key", b"b" * 300):
            peer.send(bytes([byte]))
        assert peer.message() == [b"id", b"", b"pod-a", b"key", b"b" * 300]


def test_the_key_is_the_configured_frame_after_the_envelope():
    pods = [Pod(name) for name in ("pod-a", "pod-b", "pod-c")]
    with relay(pods, zmq={"key_frame": 1}) as sidecar, client(sidecar) as peer:
        owners = {ask(peer, b"%d" % number, b"key")[0] for number in range(20)}
        others = {ask(peer, b"key", b"%d" % number)[0] for number in range(20)}
        assert len(owners) == 1
        assert len(others) == 3


def test_a_request_without_the_key_frame_is_refused_and_the_client_lives_on():
    with relay([Pod("pod-a")], zmq={"key_frame": 1}) as sidecar, client(sidecar) as peer:
        assert error_of(ask(peer, b"only")) == ("MISSING_KEY", "not-applied")
        assert ask(peer, b"body", b"key")[0] == b"pod-a"


def test_a_request_without_the_key_frame_may_go_anywhere_if_so_configured():
    pods = [Pod(name) for name in ("pod-a", "pod-b", "pod-c")]
    anywhere = {"key_frame": 5, "on_missing": "any"}
    with relay(pods, zmq=anywhere) as sidecar, client(sidecar) as peer:
        assert len({ask(peer, b"body")[0] for _ in range(60)}) == 3


def test_a_message_without_an_empty_frame_is_refused():
    with relay([Pod("pod-a")]) as sidecar, client(sidecar, zmq.DEALER) as peer:
        peer.send_multipart([b"key", b"body"])
        assert error_of(peer.recv_multipart()) == ("MALFORMED", "not-applied")


def test_a_message_that_ends_with_its_envelope_is_refused():
    with relay([Pod("pod-a")]) as sidecar, client(sidecar, zmq.DEALER) as peer:
        peer.send_multipart([b"id", b""])
        identity, delimiter, *rest = peer.recv_multipart()
        assert (identity, delimiter) == (b"id", b"")
        assert error_of(rest) == ("MISSING_KEY", "not-applied")


def test_a_request_beyond_the_limit_is_refused_and_the_client_lives_on():
    with (
        relay([Pod("pod-a")], zmq={"message_bytes_max": MEBIBYTE}) as sidecar,
        client(sidecar) as peer,
    ):
        refused = ask(peer, b"key", bytes(2 * MEBIBYTE))
        assert error_of(refused) == ("RESOURCE_EXHAUSTED", "not-applied")
        refused = ask(peer, *[b"frame"] * 2000)
        assert error_of(refused) == ("RESOURCE_EXHAUSTED", "not-applied")
        assert ask(peer, b"key", bytes(MEBIBYTE - 100))[0] == b"pod-a"


def test_a_reply_beyond_the_limit_ends_in_an_error_and_the_pod_lives_on():
    limit = 1000
    with (
        relay([Pod("pod-a")], zmq={"message_bytes_max": limit}) as sidecar,
        client(sidecar) as peer,
    ):
        request = bytes(limit - 20)
        assert error_of(ask(peer, b"key", request)) == ("RESOURCE_EXHAUSTED", "unknown")
        assert ask(peer, b"key", b"body")[0] == b"pod-a"


def test_a_pod_that_loses_the_envelope_is_found_out():
    pod = ByHand("pod-a")
    with relay([pod]) as sidecar, client(sidecar, zmq.DEALER) as peer, pod.accept() as careless:
        peer.send_multipart([b"id", b"", b"key", b"body"])
        number, *_rest = careless.message()
        careless.send(message(number, b"", b"the answer"))
        assert error_of(peer.recv_multipart()[2:]) == ("MALFORMED", "unknown")
