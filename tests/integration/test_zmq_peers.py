"""Unmodified libzmq sockets on both sides of the relay, of every kind that speaks request-reply."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import zmq
from hashroute import Ring

from tests.integration.processes import until
from tests.integration.zmq_peers import HOLD, Pod, ask, client, error_of, relay

NAMES = ("pod-a", "pod-b", "pod-c")
KEYS = [b"symbol-%d" % number for number in range(60)]


def pods(*kinds: int) -> list[Pod]:
    kinds = kinds or (zmq.REP, zmq.ROUTER, zmq.DEALER)
    return [Pod(name, kind) for name, kind in zip(NAMES, kinds, strict=False)]


@pytest.mark.parametrize("kind", [zmq.REP, zmq.ROUTER, zmq.DEALER])
def test_every_kind_of_pod_answers_and_every_key_has_its_pod(kind):
    ring = Ring(NAMES)
    with relay(pods(kind, kind, kind)) as sidecar, client(sidecar) as peer:
        for key in KEYS:
            assert ask(peer, key, b"body") == [ring.owner(key).encode(), key, b"body"]


def test_a_correlating_req_client_gets_its_own_replies():
    ring = Ring(NAMES)
    with relay(pods()) as sidecar, client(sidecar, REQ_CORRELATE=1, REQ_RELAXED=1) as peer:
        peer.send_multipart([b"key", HOLD])
        sidecar.until_in_flight(1)
        # The socket gives the held request up. The number that it puts first is not the key.
        for key in KEYS:
            assert ask(peer, key, b"body") == [ring.owner(key).encode(), key, b"body"]


def test_a_dealer_with_ids_of_its_own_gets_them_back():
    ring = Ring(NAMES)
    # All are under way at one time, and none of them is to spill.
    load = {"floor": len(KEYS)}
    with relay(pods(), load=load) as sidecar, client(sidecar, zmq.DEALER) as peer:
        for number, key in enumerate(KEYS):
            peer.send_multipart([b"trace", b"id-%d" % number, b"", key, b"body"])
        replies = [peer.recv_multipart() for _ in KEYS]
        assert sorted(replies) == sorted(
            [b"trace", b"id-%d" % number, b"", ring.owner(key).encode(), key, b"body"]
            for number, key in enumerate(KEYS)
        )


def test_a_router_client_reaches_the_relay_by_the_name_it_gave_it():
    ring = Ring(NAMES)
    context = zmq.Context()
    with relay(pods()) as sidecar, context.socket(zmq.ROUTER) as peer:
        peer.linger = 0
        peer.router_mandatory = 1
        peer.setsockopt(zmq.CONNECT_ROUTING_ID, b"relay")
        peer.connect(sidecar.address)
        until(lambda: routable(peer), "the handshake is over")
        assert peer.recv_multipart()[:3] == [b"relay", b"first", b""]
        for key in KEYS:
            peer.send_multipart([b"relay", b"id", b"", key, b"body"])
            assert peer.recv_multipart() == [
                b"relay",
                b"id",
                b"",
                ring.owner(key).encode(),
                key,
                b"body",
            ]
    context.term()


def routable(peer) -> bool:
    try:
        peer.send_multipart([b"relay", b"first", b"", b"key"])
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return False
    return True


def test_clients_of_all_kinds_at_once_lose_nothing_and_double_nothing():
    served = pods()
    each = 5_000
    counts: Counter[bytes] = Counter()

    def load(sidecar, number):
        with client(sidecar, zmq.DEALER) as peer:
            for at in range(each):
                peer.send_multipart([b"", b"key-%d" % at, b"%d:%d" % (number, at)])
            for _ in range(each):
                counts[peer.recv_multipart()[-1]] += 1

    with relay(served) as sidecar:
        threads = [threading.Thread(target=load, args=(sidecar, number)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = Counter(body for pod in served for body in pod.bodies())
        assert len(counts) == len(seen) == 2 * each
        assert set(counts.values()) == set(seen.values()) == {1}
        assert sidecar.count("OK") == 2 * each
        assert sidecar.in_flight() == 0


def test_pods_that_start_after_the_relay_are_found():
    late = Pod("pod-a", zmq.REP)
    address = late.address
    late.close()
    with relay([late]) as sidecar, client(sidecar) as peer:
        sidecar.until_health("pod-a", "down")
        assert error_of(ask(peer, b"key", b"body")) == ("UNAVAILABLE", "not-applied")
        again = Pod("pod-a", zmq.REP, address)
        sidecar.until_health("pod-a", "up")
        assert ask(peer, b"key", b"body") == [b"pod-a", b"key", b"body"]
        again.close()


def test_a_relay_that_comes_back_finds_its_clients_again():
    served = pods()
    with relay(served) as sidecar, client(sidecar) as peer:
        ask(peer, b"key", b"body")
        port, settings = sidecar.port, sidecar.settings
        assert sidecar.stop(5.0)
        settings["listen"]["zmq"] = f"tcp://127.0.0.1:{port}"
        successor = type(sidecar)(settings)
        assert ask(peer, b"key", b"again")[-1] == b"again"
        assert successor.stop(5.0)
