"""What clients see while pods die, freeze and leave: an answer or the truth (P5 and P6)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from tests.integration.processes import SECONDS_MAX, until
from tests.integration.zmq_peers import (
    HOLD,
    ByHand,
    Pod,
    PodProcess,
    Wire,
    ask,
    client,
    command,
    error_of,
    key_of,
    message,
    relay,
    settings,
)

ONCE = {"idempotent": False}
WATCHFUL = {"timeout_ms": 150}


def mixed() -> tuple[PodProcess, Pod, list[Pod | PodProcess]]:
    """A pod to be mistreated, one that takes over, and both."""
    victim, heir = PodProcess("pod-a"), Pod("pod-b")
    return victim, heir, [victim, heir]


def test_killing_a_pod_fails_no_idempotent_request():
    victim, _, pods = mixed()
    keys = [b"key-%d" % number for number in range(300)]
    with relay(pods) as sidecar, client(sidecar, zmq.DEALER) as peer:
        for number, key in enumerate(keys):
            peer.send_multipart([b"", key, b"body"])
            if number == 150:
                victim.kill()
        replies = [peer.recv_multipart() for _ in keys]
        assert sorted(reply[2] for reply in replies) == sorted(keys)
        sidecar.until_health("pod-a", "down")
        assert ask_as_dealer(peer, key_of("pod-a", pods))[1] == b"pod-b"
        victim.start()
        sidecar.until_health("pod-a", "up")
        assert ask_as_dealer(peer, key_of("pod-a", pods))[1] == b"pod-a"


def ask_as_dealer(peer, key: bytes) -> list[bytes]:
    peer.send_multipart([b"", key, b"body"])
    return peer.recv_multipart()


def test_a_request_lost_with_its_pod_is_sent_elsewhere_if_it_may_be_repeated():
    victim, heir, pods = mixed()
    with relay(pods) as sidecar, client(sidecar, zmq.DEALER) as peer:
        key = key_of("pod-a", pods)
        peer.send_multipart([b"", key, HOLD])
        sidecar.until_in_flight(1)
        victim.kill()
        until(lambda: heir.seen, "the other pod got it")
        assert heir.seen == [[key, HOLD]]
        assert sidecar.snapshot()["totals"]["retries"] == 1


def test_a_request_lost_with_its_pod_is_unknown_if_it_may_not_be_repeated():
    victim, heir, pods = mixed()
    with relay(pods, zmq=ONCE) as sidecar, client(sidecar) as peer:
        peer.send_multipart([key_of("pod-a", pods), HOLD])
        until_answers_nothing(sidecar, victim)
        victim.kill()
        assert error_of(peer.recv_multipart()) == ("UNAVAILABLE", "unknown")
        assert heir.seen == []
        # The next one never reached the dead pod, so it may go elsewhere.
        assert ask(peer, key_of("pod-a", pods), b"body")[0] == b"pod-b"


def until_answers_nothing(sidecar, victim) -> None:
    """Returns when the request in flight has left the relay: a later one has been answered."""
    with client(sidecar) as other:
        assert ask(other, key_of(victim.name, [victim]), b"after")
    sidecar.until_in_flight(1)


def test_a_frozen_pods_idempotent_requests_go_elsewhere_and_its_late_answer_is_dropped():
    victim, _, pods = mixed()
    with relay(pods, health=WATCHFUL) as sidecar, client(sidecar, zmq.DEALER) as peer:
        key = key_of("pod-a", pods)
        assert ask_as_dealer(peer, key)[1] == b"pod-a"
        victim.freeze()
        assert ask_as_dealer(peer, key)[1] == b"pod-b"
        assert sidecar.pod("pod-a")["health"] == "down"
        refused = sidecar.snapshot()["totals"]["refused"]
        victim.thaw()
        sidecar.until_health("pod-a", "up")
        until(
            lambda: sidecar.snapshot()["totals"]["refused"] == refused + 1, "the late answer came"
        )
        assert ask_as_dealer(peer, key) == [b"", b"pod-a", key, b"body"]


def test_a_frozen_pods_requests_wait_for_it_if_nobody_else_can_take_them():
    pod = PodProcess("pod-a")
    with relay([pod], health=WATCHFUL) as sidecar, client(sidecar) as peer:
        assert ask(peer, b"key", b"body")[0] == b"pod-a"
        pod.freeze()
        peer.send_multipart([b"key", b"body"])
        sidecar.until_health("pod-a", "down")
        assert sidecar.in_flight() == 1
        pod.thaw()
        assert peer.recv_multipart() == [b"pod-a", b"key", b"body"]
        assert sidecar.snapshot()["totals"]["retries"] == 0, "it was asked once"


def test_a_frozen_pods_other_requests_wait_for_it():
    victim, heir, pods = mixed()
    with relay(pods, zmq=ONCE, health=WATCHFUL) as sidecar, client(sidecar) as peer:
        key = key_of("pod-a", pods)
        assert ask(peer, key, b"body")[0] == b"pod-a"
        victim.freeze()
        peer.send_multipart([key, b"body"])
        sidecar.until_health("pod-a", "down")
        assert sidecar.in_flight() == 1
        victim.thaw()
        assert peer.recv_multipart() == [b"pod-a", key, b"body"]
        assert heir.seen == []


def answer_ping(pod: Wire) -> list[bytes]:
    """Answers the next question whether the pod lives; a message that comes before it instead."""
    bodies: list[bytes] = []
    while True:
        flags, body = pod.frame()
        if not flags & 4:
            bodies.append(body)
            if not flags & 1:
                return bodies
        elif body.startswith(b"\x04PING"):
            pod.send(command(b"PONG", body[7:]))
            return []


def heed(pod: Wire) -> list[bytes]:
    """The next message; until it comes the pod answers whoever asks whether it lives."""
    while not (bodies := answer_ping(pod)):
        pass
    return bodies


def test_a_pod_that_answers_while_it_is_out_of_the_view_is_up_when_it_is_back():
    pod = ByHand("pod-a")
    pods = [pod, Pod("pod-b")]
    patient = {"timeout_ms": 1_500}
    with (
        relay(pods, zmq=ONCE, health=patient) as sidecar,
        client(sidecar) as peer,
        ThreadPoolExecutor() as threads,
        pod.accept() as connection,
    ):
        heard = threads.submit(heed, connection)
        peer.send_multipart([key_of("pod-a", pods), b"body"])
        number, *_ = heard.result(SECONDS_MAX)
        sidecar.until_health("pod-a", "down")
        entry = sidecar.settings["view"]["pods"][0]
        # The request that it has keeps the connection.
        entry["state"] = "down"
        sidecar.apply(sidecar.settings)
        for _ in range(int(patient["timeout_ms"] / 50) + 5):
            answer_ping(connection)
        entry["state"] = "active"
        sidecar.apply(sidecar.settings)
        for _ in range(3):
            answer_ping(connection)
        # It answers no more of them: what it did answer is enough.
        sidecar.until_health("pod-a", "up")
        connection.send(message(number, b"", b"answer"))
        assert peer.recv_multipart() == [b"answer"]


def test_a_silent_connection_is_made_anew_while_answers_may_yet_come_on_it():
    pod = ByHand("pod-a")
    with (
        relay([pod], zmq=ONCE, health=WATCHFUL) as sidecar,
        client(sidecar) as early,
        client(sidecar) as late,
        ThreadPoolExecutor() as threads,
        pod.accept() as first,
    ):
        heard = threads.submit(heed, first)
        early.send_multipart([b"key", b"early"])
        number, *_ = heard.result(SECONDS_MAX)
        # From here on the first connection is as one that the network swallowed.
        with pod.accept() as second:
            heard = threads.submit(heed, second)
            sidecar.until_health("pod-a", "up")
            late.send_multipart([b"key", b"late"])
            other, *request = heard.result(SECONDS_MAX)
            assert request == [b"", b"key", b"late"]
            second.send(message(other, b"", b"late answer"))
            assert late.recv_multipart() == [b"late answer"]
            first.send(message(number, b"", b"early answer"))
            assert early.recv_multipart() == [b"early answer"]


def test_a_pod_that_lost_a_request_does_not_get_it_again():
    pods = [ByHand("pod-a"), ByHand("pod-b")]
    with relay(pods) as sidecar, client(sidecar) as peer:
        first, second = (pod.accept() for pod in pods)
        with second:
            with first:
                peer.send_multipart([key_of("pod-a", pods), b"body"])
                first.message()
            second.message()
            back = pods[0].accept()
            sidecar.until_health("pod-a", "up")
        with back:
            assert error_of(peer.recv_multipart()) == ("UNAVAILABLE", "unknown")


def test_a_request_that_no_pod_answers_in_time_is_unknown():
    with (
        relay([Pod("pod-a")], zmq={"request_timeout_ms": 200}) as sidecar,
        client(sidecar) as peer,
    ):
        assert error_of(ask(peer, b"key", HOLD)) == ("DEADLINE_EXCEEDED", "unknown")
        assert ask(peer, b"key", b"body")[0] == b"pod-a"
        assert sidecar.count("DEADLINE_EXCEEDED") == 1


def test_a_client_that_left_costs_nothing_but_the_time_of_its_requests():
    with relay([Pod("pod-a")], zmq={"request_timeout_ms": 300}) as sidecar:
        with client(sidecar) as peer:
            peer.send_multipart([b"key", HOLD])
            sidecar.until_in_flight(1)
        until(lambda: sidecar.snapshot()["totals"]["connections"]["zmq"] == 0, "it left")
        sidecar.until_in_flight(0)


def test_no_retry_is_paid_for_from_an_empty_budget():
    victim, heir, pods = mixed()
    broke = {"budget_ratio": 0.0, "budget_reserve": 0}
    with relay(pods, retry=broke) as sidecar, client(sidecar) as peer:
        peer.send_multipart([key_of("pod-a", pods), HOLD])
        until_answers_nothing(sidecar, victim)
        victim.kill()
        assert error_of(peer.recv_multipart()) == ("UNAVAILABLE", "unknown")
        assert heir.seen == []
        assert sidecar.snapshot()["totals"]["retry_budget_exhausted"] == 1


def test_a_pod_that_leaves_the_view_finishes_what_it_has():
    leaving, staying = ByHand("pod-a"), Pod("pod-b")
    pods = [leaving, staying]
    with relay(pods) as sidecar, client(sidecar, zmq.DEALER) as peer, leaving.accept() as pod:
        key = key_of("pod-a", pods)
        peer.send_multipart([b"", key, b"slow"])
        request = pod.message()
        sidecar.apply(settings([staying]))
        assert ask_as_dealer(peer, key)[1] == b"pod-b"
        pod.send(message(*request[:2], b"pod-a"))
        assert peer.recv_multipart() == [b"", b"pod-a"]
        pod.until_closed()


def test_an_answer_of_a_pod_that_was_not_asked_is_dropped():
    pods = [ByHand("pod-a"), ByHand("pod-b")]
    with (
        relay(pods) as sidecar,
        client(sidecar) as peer,
        pods[0].accept() as asked,
        pods[1].accept() as other,
    ):
        peer.send_multipart([key_of("pod-a", pods), b"body"])
        number, *_rest = asked.message()
        other.send(message(number, b"", b"false"))
        until(lambda: sidecar.snapshot()["totals"]["refused"] == 1, "it was dropped")
        asked.send(message(number, b"", b"true"))
        assert peer.recv_multipart() == [b"true"]


def test_an_answer_that_comes_twice_or_to_nobody_is_dropped():
    pod = ByHand("pod-a")
    with relay([pod]) as sidecar, client(sidecar, zmq.DEALER) as peer, pod.accept() as server:
        peer.send_multipart([b"", b"key", b"1"])
        number, *_rest = server.message()
        reply = message(number, b"", b"answer")
        server.send(reply, reply, message(b"\0" * 8, b"", b"x"), message(b"short", b"", b"x"))
        peer.send_multipart([b"", b"key", b"2"])
        number, *_rest = server.message()
        server.send(message(number, b"", b"second"))
        assert [peer.recv_multipart() for _ in "12"] == [[b"", b"answer"], [b"", b"second"]]
        assert sidecar.snapshot()["totals"]["refused"] == 3


def test_a_request_that_did_not_leave_whole_goes_elsewhere_though_it_may_not_be_repeated():
    stuck, heir = ByHand("pod-a"), Pod("pod-b")
    pods = [stuck, heir]
    body = bytes(30_000_000)
    with relay(pods, zmq=ONCE) as sidecar, client(sidecar, zmq.DEALER) as peer:
        with stuck.accept() as server:
            key = key_of("pod-a", pods)
            peer.send_multipart([b"", key, body])
            # It has begun to leave; no socket buffers all of it.
            assert server.read(2000)
        assert peer.recv_multipart() == [b"", b"pod-b", key, body]


def test_draining_a_pod_under_load_fails_nothing():
    pods = [Pod("pod-a"), Pod("pod-b"), Pod("pod-c")]
    with relay(pods) as sidecar, client(sidecar, zmq.DEALER) as peer:
        keys = [b"key-%d" % number for number in range(600)]
        for number, key in enumerate(keys):
            peer.send_multipart([b"", key, b"body"])
            if number == 300:
                changed = settings(pods)
                changed["view"]["pods"][0]["state"] = "draining"
                sidecar.apply(changed)
        assert sorted(peer.recv_multipart()[2] for _ in keys) == sorted(keys)
        before = len(pods[0].seen)
        assert ask_as_dealer(peer, key_of("pod-a", pods))[1] != b"pod-a"
        assert len(pods[0].seen) == before


def test_a_relay_that_stops_finishes_what_it_has_and_refuses_the_rest():
    pod = ByHand("pod-a")
    with (
        relay([pod]) as sidecar,
        client(sidecar, zmq.DEALER) as peer,
        pod.accept() as server,
        ThreadPoolExecutor() as threads,
    ):
        asked = 0
        peer.send_multipart([b"", b"key", b"body"])
        while not peer.poll(20):
            # So far every request was passed on. The next one may find the relay stopping.
            asked += 1
            if asked == 1:
                stopped = threads.submit(sidecar.stop, SECONDS_MAX)
            peer.send_multipart([b"", b"key", b"body"])
        assert error_of(peer.recv_multipart()[1:]) == ("UNAVAILABLE", "not-applied")
        for _ in range(asked):
            number, *_rest = server.message()
            server.send(message(number, b"", b"answer"))
        assert [peer.recv_multipart() for _ in range(asked)] == [[b"", b"answer"]] * asked
        assert stopped.result()


def test_a_relay_that_stops_cuts_off_what_is_not_finished_in_time():
    with relay([Pod("pod-a")]) as sidecar, client(sidecar) as peer:
        peer.send_multipart([b"key", HOLD])
        sidecar.until_in_flight(1)
        assert not sidecar.stop(0.1)


def test_a_relay_that_stops_in_time_has_answered_everything():
    with relay([Pod("pod-a")]) as sidecar, Wire.dealer(sidecar) as peer:
        peer.send(message(b"", b"key", b"body") * 500)
        assert peer.message() == [b"", b"pod-a", b"key", b"body"]
        assert sidecar.stop(10.0)
        rest = peer.until_closed()
        answered = rest.count(message(b"", b"pod-a", b"key", b"body"))
        refused = rest.count(b"HASHROUTE-ERROR UNAVAILABLE outcome=not-applied")
        assert answered + refused == 499


@pytest.mark.parametrize("address", ["ipc:///tmp/pod", "tcp://127.0.0.1:1"])
def test_a_pod_that_cannot_be_reached_is_passed_over(address):
    away, here = Pod("pod-a"), Pod("pod-b")
    with relay([away, here]) as sidecar, client(sidecar) as peer:
        key = key_of("pod-a", [away, here])
        changed = settings([away, here])
        changed["view"]["pods"][0]["addresses"]["zmq"] = address
        sidecar.apply(changed)
        assert ask(peer, key, b"body")[0] == b"pod-b"
