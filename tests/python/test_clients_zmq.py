"""The ZeroMQ client: the pod of the key answers, and there is always an answer or a typed error."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import hashroute
import pytest
import zmq
from hashroute import HealthOptions, Retries, Router
from hashroute import Pod as RingPod
from hashroute.clients.zmq import AsyncClient, Client

from tests.integration.processes import SECONDS_MAX, until, until_true
from tests.integration.zmq_peers import HOLD, ByHand, Pod, PodProcess, key_of, message, relay

# So patient that a busy machine takes no pod for dead; tests of dead pods say otherwise.
PATIENT = HealthOptions(timeout_seconds=10)
NAMES = ["pod-a", "pod-b", "pod-c"]


@pytest.fixture
def pods():
    with ExitStack() as stack:
        started = [Pod(name) for name in NAMES]
        for pod in started:
            stack.callback(pod.close)
        yield started


@pytest.fixture
def processes():
    with ExitStack() as stack:
        started = [PodProcess(name) for name in NAMES]
        for pod in started:
            stack.callback(pod.close)
        yield started


def addresses(pods):
    return {pod.name: pod.address for pod in pods}


def client_of(pods, **options):
    options.setdefault("health", PATIENT)
    options.setdefault("timeout_seconds", SECONDS_MAX)
    return Client(addresses(pods), **options)


def router_of(pods, **options):
    return Router([RingPod(pod.name, zmq=pod.address) for pod in pods], **options)


def health(router):
    return {pod.pod: pod.health for pod in router.status().pods}


class TestRequests:
    def test_the_pod_of_the_key_answers_and_sees_the_key_first(self, pods):
        with client_of(pods) as client:
            for pod in pods:
                key = key_of(pod.name, pods)
                answer = client.request(key, b"a question", b"in two frames")
                assert answer == [pod.name.encode(), key, b"a question", b"in two frames"]

    @pytest.mark.parametrize(
        ("key", "frame"),
        [("AAPL", b"AAPL"), (b"\x00\xff", b"\x00\xff"), (7, b"\x07" + bytes(7)), ("", b"")],
    )
    def test_a_key_travels_as_its_bytes(self, pods, key, frame):
        with client_of(pods) as client:
            assert client.request(key, b"x")[1] == frame

    @pytest.mark.parametrize("kind", [zmq.REP, zmq.ROUTER])
    def test_pods_of_both_kinds_answer(self, kind):
        pod = Pod("pod-a", kind)
        try:
            with client_of([pod]) as client:
                for number in range(20):
                    assert client.request(number, b"x")[-1] == b"x"
        finally:
            pod.close()

    @pytest.mark.parametrize("frames", [[], [b""], [b"", b"", b""], [bytes(2**20)]])
    def test_any_frames_travel(self, pods, frames):
        with client_of(pods) as client:
            assert client.request("k", *frames)[2:] == frames

    def test_many_requests_are_in_flight_at_once_and_each_gets_its_own_answer(self, pods):
        with client_of(pods) as client:
            futures = {number: client.submit(number, b"%d" % number) for number in range(2000)}
            for number, future in futures.items():
                assert future.result(SECONDS_MAX)[-1] == b"%d" % number

    def test_answers_are_told_apart_by_their_id_not_by_their_order(self):
        pod = ByHand("pod-a")
        with client_of([pod]) as client:
            wire = pod.accept()
            futures = [client.submit("k", b"%d" % number) for number in range(3)]
            asked = [wire.message() for _ in futures]
            for number, *_, question in reversed(asked):
                wire.send(message(number, b"", b"answer to " + question))
            answers = [future.result(SECONDS_MAX) for future in futures]
            assert answers == [[b"answer to 0"], [b"answer to 1"], [b"answer to 2"]]
            wire.close()
        pod.close()

    def test_threads_share_a_client(self, pods):
        with client_of(pods) as client, ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda n: client.request(n, b"%d" % n)[-1], range(200))
            assert list(answers) == [b"%d" % number for number in range(200)]

    async def test_the_asyncio_client_keeps_the_same_promises(self, pods):
        async with AsyncClient(addresses(pods), health=PATIENT) as client:
            answers = await asyncio.gather(*(client.request(n, b"%d" % n) for n in range(500)))
            assert [answer[-1] for answer in answers] == [b"%d" % number for number in range(500)]

    async def test_an_asyncio_request_may_be_cancelled(self, pods):
        with router_of(pods) as router:
            async with AsyncClient(router, health=PATIENT) as client:
                waiting = asyncio.ensure_future(client.request("k", HOLD, timeout_seconds=3600))
                await until_true(lambda: router.in_flight == 1, "the request is in flight")
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                await until_true(lambda: router.in_flight == 0, "it counts no longer")

    def test_requests_count_in_flight_and_spill_past_the_bound(self, pods):
        with router_of(pods, floor=2, c=1.0) as router, Client(router, health=PATIENT) as client:
            key = key_of("pod-a", pods)
            futures = [client.submit(key, HOLD, timeout_seconds=SECONDS_MAX) for _ in range(6)]
            until(lambda: sum(len(pod.seen) for pod in pods) == 6, "all pods have some")
            assert {pod.pod: pod.in_flight for pod in router.status().pods} == dict.fromkeys(
                NAMES, 2
            )
            assert not any(future.done() for future in futures)

    def test_a_view_that_changes_is_followed(self, pods):
        with router_of(pods[:2]) as router, Client(router, health=PATIENT) as client:
            key = key_of("pod-c", pods)
            assert client.request(key, b"x")[0] != b"pod-c"
            router.add(RingPod("pod-c", zmq=pods[2].address))
            assert client.request(key, b"x")[0] == b"pod-c"
            router.remove("pod-c")
            assert client.request(key, b"x")[0] != b"pod-c"


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((None, b"x"), hashroute.MissingKeyError),
            ((1.5, b"x"), hashroute.KeyTypeError),
            (("k", "text"), hashroute.MalformedRequestError),
            (("k", 5), hashroute.MalformedRequestError),
        ],
    )
    def test_what_is_no_request_is_refused_at_the_call(self, pods, arguments, expected):
        with client_of(pods) as client, pytest.raises(expected):
            client.request(*arguments)

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
    def test_a_deadline_is_positive_and_finite(self, pods, seconds):
        with client_of(pods) as client, pytest.raises(hashroute.ParameterError):
            client.request("k", b"x", timeout_seconds=seconds)

    def test_no_pods_are_no_client(self):
        with pytest.raises(hashroute.EmptyViewError):
            Client([])

    def test_pods_without_an_address_are_no_pods(self):
        with Router(["pod-a"], transport="zmq") as router, Client(router) as client:
            with pytest.raises(hashroute.NoPodError, match="address") as caught:
                client.request("k", b"x")
            assert caught.value.outcome == "not_applied"

    def test_an_address_without_a_transport_is_refused_with_the_right_one(self):
        with pytest.raises(hashroute.ConfigurationError, match=r"write tcp://127\.0\.0\.1:1"):
            Client(["127.0.0.1:1"])

    def test_an_address_that_libzmq_cannot_use_costs_no_request(self, pods):
        with router_of(pods) as router, Client(router, health=PATIENT) as client:
            router.add(RingPod("pod-d", zmq="pigeon://coop"))
            for number in range(50):
                assert client.request(number, b"x")[-1] == b"x"
            assert health(router)["pod-d"] == "down"

    def test_a_router_for_another_transport_is_refused(self):
        router = Router([RingPod("pod-a", grpc="127.0.0.1:1")], health=None)
        with pytest.raises(hashroute.ParameterError, match="transport='zmq'"):
            Client(router)

    def test_a_defect_in_the_thread_leaves_nobody_waiting(self, pods, monkeypatch):
        failed = []
        monkeypatch.setattr(threading, "excepthook", failed.append)
        monkeypatch.setattr("hashroute.clients._zmq_engine.Engine._receive", lambda *_: 1 / 0)
        client = client_of(pods)
        with pytest.raises(hashroute.InternalError, match="ZeroDivisionError"):
            client.request("k", b"x")
        with pytest.raises(hashroute.ClosedError):
            client.request("k", b"x")
        client.close()
        assert len(failed) == 1

    def test_more_requests_than_the_client_may_have_are_refused(self, pods, monkeypatch):
        monkeypatch.setattr("hashroute.clients._zmq_engine.IN_FLIGHT_MAX", 3)
        with client_of(pods) as client:
            for _ in range(3):
                client.submit("k", HOLD)
            with pytest.raises(hashroute.ResourceExhaustedError, match="3 requests") as caught:
                client.submit("k", b"x")
            assert caught.value.outcome == "not_applied"


class TestFailures:
    def test_a_deadline_leaves_the_outcome_unknown(self, pods):
        with router_of(pods) as router, Client(router, health=PATIENT) as client:
            with pytest.raises(hashroute.DeadlineExceededError) as caught:
                client.request("k", HOLD, timeout_seconds=0.2)
            error = caught.value
            assert (error.outcome, error.retry) == ("unknown", False)
            assert error.pod == router.ring.owner("k")
            assert isinstance(error, TimeoutError)
            assert router.in_flight == 0
            # What was answered too late disturbs nobody.
            assert client.request("k", b"x")[-1] == b"x"

    def test_a_pod_that_cannot_be_reached_costs_no_request(self, pods):
        gone = PodProcess("pod-d")
        gone.close()
        everyone = [*pods, gone]
        with router_of(everyone) as router, Client(router, health=PATIENT) as client:
            key = key_of("pod-d", everyone)
            assert client.request(key, b"x")[0].decode() == router.ring.preference(key)[1]
            assert health(router)["pod-d"] == "down"

    def test_a_pod_that_the_network_does_not_lead_to_costs_no_request(self, pods):
        unheard = ByHand.unheard("pod-d")
        everyone = [*pods, unheard]
        # Nobody refuses the connection: without a bound of ours the system tries for minutes.
        with router_of(everyone) as router, Client(router) as client:
            key = key_of("pod-d", everyone)
            answer = client.request(key, b"x", timeout_seconds=SECONDS_MAX)
            assert answer[0].decode() == router.ring.preference(key)[1]
            assert health(router)["pod-d"] == "down"
        unheard.close()

    def test_if_no_pod_can_be_reached_nothing_was_applied(self):
        gone = [PodProcess(name) for name in NAMES[:2]]
        for pod in gone:
            pod.close()
        with client_of(gone) as client:
            with pytest.raises(hashroute.UnavailableError) as caught:
                client.request("k", b"x")
            assert (caught.value.outcome, caught.value.retry) == ("not_applied", True)

    def test_a_request_that_was_lost_with_its_pod_is_unknown(self):
        pod = ByHand("pod-a")
        with client_of([pod]) as client:
            wire = pod.accept()
            future = client.submit("k", b"once")
            assert wire.message()[1:] == [b"", b"k", b"once"]
            wire.close()
            with pytest.raises(hashroute.UnavailableError, match="may have been carried") as caught:
                future.result(SECONDS_MAX)
            assert (caught.value.outcome, caught.value.retry) == ("unknown", False)
        pod.close()

    def test_an_idempotent_one_is_sent_to_another_pod(self, pods):
        dying = ByHand("pod-d")
        everyone = [*pods, dying]
        with router_of(everyone) as router, Client(router, health=PATIENT) as client:
            wire = dying.accept()
            key = key_of("pod-d", everyone)
            future = client.submit(key, b"again", idempotent=True, timeout_seconds=SECONDS_MAX)
            while wire.message()[-1] != b"again":
                pass
            wire.close()
            assert future.result(SECONDS_MAX)[0].decode() == router.ring.preference(key)[1]
        dying.close()

    def test_repeating_is_paid_from_the_budget(self, pods):
        dying = ByHand("pod-d")
        everyone = [*pods, dying]
        poor = Retries(budget_ratio=0.0, budget_reserve=0)
        with router_of(everyone, retries=poor) as router, Client(router, health=PATIENT) as client:
            wire = dying.accept()
            key = key_of("pod-d", everyone)
            future = client.submit(key, b"again", idempotent=True, timeout_seconds=SECONDS_MAX)
            wire.message()
            wire.close()
            with pytest.raises(hashroute.UnavailableError) as caught:
                future.result(SECONDS_MAX)
            assert caught.value.outcome == "unknown"
        dying.close()

    def test_a_frozen_pod_is_found_by_its_silence_and_comes_back(self, processes):
        with router_of(processes) as router, Client(router) as client:
            key = key_of("pod-a", processes)
            until(lambda: client.request(key, b"x")[0] == b"pod-a", "the pod has its keys")
            processes[0].freeze()
            answer = client.request(key, b"x", idempotent=True, timeout_seconds=SECONDS_MAX)
            assert answer[0].decode() == router.ring.preference(key)[1]
            assert health(router)["pod-a"] == "down"
            processes[0].thaw()
            until(
                lambda: client.request(key, b"x", idempotent=True)[0] == b"pod-a",
                "the pod has its keys back",
            )

    def test_a_killed_pod_comes_back_at_its_address(self, processes):
        with router_of(processes) as router, Client(router, idempotent=True) as client:
            key = key_of("pod-b", processes)
            processes[1].kill()
            assert client.request(key, b"x")[0].decode() == router.ring.preference(key)[1]
            processes[1].start()
            until(lambda: client.request(key, b"x")[0] == b"pod-b", "the pod has its keys back")

    def test_an_answer_of_a_connection_before_is_nobodys(self):
        pod = ByHand("pod-a")
        with client_of([pod]) as client:
            first = pod.accept()
            future = client.submit("k", b"first")
            envelope = first.message()[:2]
            first.close()
            with pytest.raises(hashroute.UnavailableError):
                future.result(SECONDS_MAX)
            second = pod.accept()
            second.send(message(*envelope, b"late"), message(b"\0" * 8, b"", b"of nobody"))
            answered = client.submit("k", b"second")
            number, *_ = second.message()
            second.send(message(number, b"", b"right"))
            assert answered.result(SECONDS_MAX) == [b"right"]
            second.close()
        pod.close()


class TestSidecar:
    """A sidecar in place of the pods: its errors are raised as what they name."""

    def test_a_sidecar_routes_and_answers(self, pods):
        with relay(pods) as running, Client([running.address], health=PATIENT) as client:
            key = key_of("pod-b", pods)
            assert client.request(key, b"x") == [b"pod-b", key, b"x"]

    def test_its_error_replies_are_typed_errors(self):
        gone = PodProcess("pod-a")
        gone.close()
        with relay([gone]) as running, Client([running.address], health=PATIENT) as client:
            with pytest.raises(hashroute.UnavailableError) as caught:
                client.request("k", b"x", timeout_seconds=SECONDS_MAX)
            assert caught.value.code == "unavailable"
            assert caught.value.outcome == "not_applied"

    def test_an_unknown_outcome_stays_unknown(self, pods):
        with (
            relay(pods, zmq={"request_timeout_ms": 100}) as running,
            Client([running.address], health=PATIENT) as client,
        ):
            with pytest.raises(hashroute.DeadlineExceededError) as caught:
                client.request("k", HOLD, timeout_seconds=SECONDS_MAX)
            assert caught.value.outcome == "unknown"


class TestEnds:
    def test_a_closed_client_fails_what_has_no_answer_and_takes_nothing_new(self, pods):
        with router_of(pods) as router:
            client = Client(router, health=PATIENT)
            future = client.submit("k", HOLD)
            client.close()
            client.close()
            with pytest.raises(hashroute.ClosedError):
                future.result(SECONDS_MAX)
            with pytest.raises(hashroute.ClosedError, match="make another"):
                client.request("k", b"x")
            assert router.in_flight == 0

    def test_a_client_that_is_forgotten_leaves_no_thread(self, pods):
        before = threading.active_count()
        client = client_of(pods)
        assert client.request("k", b"x")
        del client
        gc.collect()
        until(lambda: threading.active_count() == before, "its thread has ended")
