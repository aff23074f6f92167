"""The routed `grpc.Channel`: a program changes one line, and a pod's death is not its problem."""

from __future__ import annotations

import gc
import json
import socket
import threading
from concurrent import futures

import grpc
import hashroute.clients.grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hashroute import Pod, Router

from tests.integration.processes import SECONDS_MAX, until
from tests.integration.processes import Pod as PodProcess

IDEMPOTENT = ["/test.Idempotent/*"]
NAMES = ["pod-a", "pod-b", "pod-c"]


@pytest.fixture(scope="module")
def pods():
    started = {name: PodProcess(name) for name in NAMES}
    yield started
    for pod in started.values():
        pod.close()


@pytest.fixture
def router(pods):
    """A router over pods that all live."""
    for pod in pods.values():
        if pod.process.poll() is not None:
            pod.start()
        pod.thaw()
    with Router([Pod(pod.name, grpc=pod.address) for pod in pods.values()]) as router:
        yield router


@pytest.fixture
def channel(router):
    with hashroute.clients.grpc.channel(router, idempotent=IDEMPOTENT) as channel:
        yield channel


def keyed(key):
    return (("x-hashroute-key", key),)


def owner(router, pods, key="AAPL"):
    return pods[router.ring.owner(key)]


def describe(channel, service="Plain", **options):
    options.setdefault("timeout", SECONDS_MAX)
    return json.loads(channel.unary_unary(f"/test.{service}/Describe")(b"", **options))


def is_idle(router):
    """Ends are counted by gRPC's own threads, a moment after the caller has its answer."""
    return until(lambda: router.in_flight == 0, "nothing is in flight")


class TestCalls:
    """Everything that a grpc.Channel does, through the routed one."""

    def test_it_is_a_channel(self, channel):
        assert isinstance(channel, grpc.Channel)

    def test_a_call_goes_to_the_pod_of_its_key_with_the_headers_of_a_router(self, router, channel):
        for key in ("AAPL", "MSFT", "EURUSD"):
            described = describe(channel, metadata=keyed(key))
            headers = dict(described["metadata"])
            assert described["pod"] == router.ring.owner(key)
            assert headers["x-hashroute-slot"] == str(router.ring.slot(key))
            assert headers["x-hashroute-epoch"] == headers["x-hashroute-term"] == "1"
            assert headers["x-hashroute-key"] == key
        is_idle(router)

    def test_a_callers_own_routing_headers_are_dropped(self, channel):
        forged = (("x-hashroute-term", "99"), ("x-hashroute-slot", "99"), *keyed("AAPL"))
        names = [name for name, _ in describe(channel, metadata=forged)["metadata"]]
        assert names.count("x-hashroute-term") == names.count("x-hashroute-slot") == 1

    def test_one_response_comes_with_its_call(self, channel):
        metadata = (("initial-a", "1"), ("trailing-b", "2"), *keyed("k"))
        echo = channel.unary_unary("/test.Plain/Echo")
        response, call = echo.with_call(b"hello", timeout=SECONDS_MAX, metadata=metadata)
        assert response == b"hello"
        assert call.code() is grpc.StatusCode.OK
        assert ("initial-a", "1") in [tuple(entry) for entry in call.initial_metadata()]
        assert ("trailing-b", "2") in [tuple(entry) for entry in call.trailing_metadata()]

    def test_a_future_is_a_future(self, router, channel):
        future = channel.unary_unary("/test.Plain/Echo").future(b"hello", metadata=keyed("k"))
        done = threading.Event()
        future.add_done_callback(lambda it: it is future and done.set())
        assert future.result(SECONDS_MAX) == b"hello"
        assert done.wait(SECONDS_MAX)
        assert future.done()
        assert not future.running()
        assert future.exception() is None
        assert not future.cancelled()
        is_idle(router)

    def test_streams_run_both_ways(self, router, channel):
        count = channel.unary_stream("/test.Plain/Count")
        assert list(count(b"3", metadata=keyed("k"))) == [b"0", b"1", b"2"]
        gather = channel.stream_unary("/test.Plain/Gather")
        gathered = {"messages": 2, "bytes": 3}
        assert json.loads(gather(iter([b"a", b"bc"]), metadata=keyed("k"))) == gathered
        assert json.loads(gather.future(iter([b"a", b"bc"])).result(SECONDS_MAX)) == gathered
        chat = channel.stream_stream("/test.Plain/Chat")(iter([b"a", b"b"]), metadata=keyed("k"))
        assert next(chat) == b"heard a"
        assert list(chat) == [b"heard b"]
        assert chat.code() is grpc.StatusCode.OK
        is_idle(router)

    def test_a_conversation_may_be_slower_than_its_answers(self, channel):
        heard = threading.Semaphore(0)

        def requests():
            for number in range(3):
                yield str(number).encode()
                heard.acquire(timeout=SECONDS_MAX)

        chat = channel.stream_stream("/test.Plain/Chat")(requests(), timeout=SECONDS_MAX)
        for number, response in enumerate(chat):
            assert response == f"heard {number}".encode()
            heard.release()

    def test_a_stream_may_be_longer_than_what_is_kept_of_it(self, channel):
        sent = [str(number).encode() for number in range(1000)]
        chat = channel.stream_stream("/test.Plain/Chat")(iter(sent), timeout=SECONDS_MAX)
        assert list(chat) == [b"heard " + request for request in sent]

    def test_a_deadline_holds_over_the_whole_call(self, router, channel):
        call = channel.unary_unary("/test.Plain/Hang")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"deadline", timeout=0.3, metadata=keyed("k"))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # grpc rounds a deadline up to what fits its header.
        assert 90 < describe(channel, timeout=100)["seconds_left"] < 102
        is_idle(router)

    def test_a_cancelled_call_is_cancelled_at_the_pod(self, router, pods, channel):
        pod = owner(router, pods, "k")
        future = channel.unary_unary("/test.Plain/Hang").future(b"gone", metadata=keyed("k"))
        until(lambda: "hang gone" in pod.notes(), "the call arrives")
        assert future.cancel()
        until(lambda: "cancelled gone" in pod.notes(), "the cancellation arrives")
        assert future.cancelled()
        assert future.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(grpc.FutureCancelledError):
            future.result(SECONDS_MAX)
        is_idle(router)

    def test_a_stream_that_is_cancelled_ends(self, router, channel):
        flood = channel.unary_stream("/test.Plain/Flood")(b"100000", metadata=keyed("k"))
        next(flood)
        flood.cancel()
        with pytest.raises(grpc.RpcError):
            list(flood)
        assert flood.code() is grpc.StatusCode.CANCELLED
        is_idle(router)

    def test_an_error_of_the_pod_passes_through_untouched(self, router, channel):
        failure = json.dumps({"code": 9, "details": "not now", "first": True}).encode()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Idempotent/Fail")(
                failure, timeout=SECONDS_MAX, metadata=(("trailing-x", "y"), *keyed("k"))
            )
        error = caught.value
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not now")
        assert ("trailing-x", "y") in [tuple(entry) for entry in error.trailing_metadata()]
        assert all(pod.health == "up" for pod in router.status().pods)

    def test_a_stream_that_fails_midway_fails_there(self, channel):
        responses = channel.unary_stream("/test.Idempotent/CountAndFail")(b"2", metadata=keyed("k"))
        assert [next(responses), next(responses)] == [b"0", b"1"]
        with pytest.raises(grpc.RpcError) as caught:
            next(responses)
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS

    def test_stubs_and_interceptors_work_on_it(self, channel):
        methods = []

        class Notes(grpc.UnaryUnaryClientInterceptor):
            def intercept_unary_unary(self, continuation, details, request):
                methods.append(details.method)
                return continuation(details, request)

        stub = health_pb2_grpc.HealthStub(grpc.intercept_channel(channel, Notes()))
        response = stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        assert methods == ["/grpc.health.v1.Health/Check"]

    def test_large_messages_are_not_copied_away(self, channel):
        message = bytes(3 * 2**20)
        assert channel.unary_unary("/test.Plain/Echo")(message, timeout=SECONDS_MAX) == message

    def test_a_channel_says_that_it_is_ready_as_long_as_some_pod_is(self, channel):
        grpc.channel_ready_future(channel).result(SECONDS_MAX)
        states = []
        channel.subscribe(states.append)
        until(lambda: states == [grpc.ChannelConnectivity.READY], "the state is told")
        channel.unsubscribe(states.append)


class TestKeys:
    def test_a_key_in_the_message_is_found_by_name_or_number(self, router):
        service = health_pb2.HealthCheckRequest(service="EURUSD")
        for source in ("field:service", "field:1", ["metadata:absent", "field:service"]):
            with hashroute.clients.grpc.channel(router, key=source) as channel:
                call = channel.unary_unary(
                    "/test.Plain/Describe", health_pb2.HealthCheckRequest.SerializeToString
                )
                described = json.loads(call(service, timeout=SECONDS_MAX))
                assert described["pod"] == router.ring.owner("EURUSD")

    def test_a_function_may_name_the_key(self, router):
        def key(method, request):
            return 7 if (method, request) == ("/test.Plain/Describe", b"") else None

        with hashroute.clients.grpc.channel(router, key=key) as channel:
            assert describe(channel)["pod"] == router.ring.owner(7)

    def test_the_method_may_be_the_key(self, router):
        with hashroute.clients.grpc.channel(router, key="path") as channel:
            assert describe(channel)["pod"] == router.ring.owner("/test.Plain/Describe")

    def test_a_request_without_a_key_goes_to_any_pod(self, channel):
        assert {describe(channel)["pod"] for _ in range(60)} == set(NAMES)

    def test_or_is_rejected_with_what_was_looked_for(self, router):
        sources = ["metadata:symbol", "field:service"]
        with hashroute.clients.grpc.channel(router, key=sources, on_missing="reject") as channel:
            for call in (
                lambda: channel.unary_unary("/test.Plain/Echo")(b""),
                lambda: channel.unary_unary("/test.Plain/Echo").future(b"").result(),
                lambda: list(channel.unary_stream("/test.Plain/Count")(b"1")),
                lambda: channel.stream_unary("/test.Plain/Gather")(iter([])),
                lambda: next(channel.stream_stream("/test.Plain/Chat")(iter([]))),
            ):
                with pytest.raises(grpc.RpcError, match="field:service") as caught:
                    call()
                error = caught.value
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "metadata:symbol, field:service" in error.details()
                assert error.trailing_metadata() == (("x-hashroute-outcome", "not-applied"),)
                assert isinstance(error.__cause__, hashroute.MissingKeyError)

    @pytest.mark.parametrize(
        "options",
        [
            {"key": "symbol"},
            {"key": "field:"},
            {"key": "field:a..b"},
            {"key": ["metadata:"]},
            {"on_missing": "ignore"},
            {"idempotent": ["Service"]},
            {"idempotent": "/a/b/c"},
        ],
    )
    def test_what_says_nothing_is_refused_at_the_call(self, router, options):
        with pytest.raises(hashroute.ConfigurationError):
            hashroute.clients.grpc.channel(router, **options)


class TestFailover:
    def test_a_dead_pod_costs_no_request_whatever_its_kind(self, router, pods, channel):
        dead = owner(router, pods)
        describe(channel, metadata=keyed("AAPL"))
        dead.kill()
        heir = router.ring.preference("AAPL")[1]
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        assert describe(channel, **options)["pod"] == heir
        assert list(channel.unary_stream("/test.Plain/Count")(b"2", **options)) == [b"0", b"1"]
        gathered = channel.stream_unary("/test.Plain/Gather")(iter([b"abc"]), **options)
        assert json.loads(gathered)["bytes"] == 3
        chat = channel.stream_stream("/test.Plain/Chat")(iter([b"a", b"b"]), **options)
        assert list(chat) == [b"heard a", b"heard b"]
        is_idle(router)

    def test_each_kind_of_call_finds_another_pod_by_itself(self, pods, router):
        """Nobody has noticed yet that the pod is dead: there are no probes, and no call before."""
        owner(router, pods).kill()
        for call in (
            lambda c, o: c.unary_unary("/test.Plain/Echo")(b"x", **o),
            lambda c, o: c.unary_unary("/test.Plain/Echo").future(b"x", **o).result(SECONDS_MAX),
            lambda c, o: list(c.unary_stream("/test.Plain/Count")(b"2", **o)),
            lambda c, o: c.unary_stream("/test.Plain/Count")(b"2", **o).initial_metadata(),
            lambda c, o: c.unary_stream("/test.Plain/Count")(b"0", **o).result(SECONDS_MAX),
            lambda c, o: c.stream_unary("/test.Plain/Gather")(iter([b"x"]), **o),
            lambda c, o: list(c.stream_stream("/test.Plain/Chat")(iter([b"x"]), **o)),
        ):
            unprobed = Router(router.ring, health=None)
            with hashroute.clients.grpc.channel(unprobed) as channel:
                call(channel, {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX})
            assert sum(pod.retries for pod in unprobed.status().pods) == 1

    def test_a_pod_that_is_back_gets_its_keys_back(self, router, pods, channel):
        dead = owner(router, pods)
        dead.kill()
        assert describe(channel, metadata=keyed("AAPL"))["pod"] != dead.name
        dead.start()
        until(
            lambda: describe(channel, metadata=keyed("AAPL"))["pod"] == dead.name,
            "the pod has its keys back",
        )

    def test_an_idempotent_call_leaves_a_frozen_pod(self, router, pods, channel):
        frozen = owner(router, pods)
        describe(channel, metadata=keyed("AAPL"))
        frozen.freeze()
        described = describe(channel, "Idempotent", metadata=keyed("AAPL"))
        assert described["pod"] == router.ring.preference("AAPL")[1]
        is_idle(router)

    def test_an_idempotent_stream_leaves_a_frozen_pod_before_its_first_response(
        self, router, pods, channel
    ):
        describe(channel, metadata=keyed("AAPL"))
        owner(router, pods).freeze()
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        assert list(channel.unary_stream("/test.Idempotent/Count")(b"2", **options)) == [b"0", b"1"]
        chat = channel.stream_stream("/test.Idempotent/Chat")(iter([b"a"]), **options)
        assert list(chat) == [b"heard a"]

    def test_a_pod_that_accepts_and_says_nothing_has_been_reached_by_nothing(self):
        """So any call goes on, as soon as the connection has taken too long to be made."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            mute = f"127.0.0.1:{silent.getsockname()[1]}"
            router = Router([Pod("mute", grpc=mute)], health=None)
            with hashroute.clients.grpc.channel(router) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    describe(channel, metadata=keyed("AAPL"), timeout=SECONDS_MAX / 3)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_another_call_waits_for_the_frozen_pod_and_is_not_repeated(self, router, pods, channel):
        frozen = owner(router, pods)
        describe(channel, metadata=keyed("AAPL"))
        frozen.freeze()
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        future = channel.unary_unary("/test.Plain/Describe").future(b"", **options)
        until(lambda: not all(p.health == "up" for p in router.status().pods), "the freeze is seen")
        assert not future.done()
        frozen.thaw()
        assert json.loads(future.result(SECONDS_MAX))["pod"] == frozen.name

    def test_an_idempotent_call_that_was_under_way_is_repeated_elsewhere(
        self, router, pods, channel
    ):
        dying = owner(router, pods)
        heir = pods[router.ring.preference("AAPL")[1]]
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        future = channel.unary_unary("/test.Idempotent/Wait").future(b"again", **options)
        until(lambda: "wait again" in dying.notes(), "the call arrives")
        dying.kill()
        until(lambda: "wait again" in heir.notes(), "the call arrives elsewhere")
        heir.call("Release")
        assert future.result(SECONDS_MAX) == b"again"

    def test_another_call_that_was_under_way_fails_and_is_not_repeated(self, router, pods, channel):
        dying = owner(router, pods)
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        future = channel.unary_unary("/test.Plain/Wait").future(b"once", **options)
        until(lambda: "wait once" in dying.notes(), "the call arrives")
        dying.kill()
        with pytest.raises(grpc.RpcError) as caught:
            future.result(SECONDS_MAX)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        others = [pod for pod in pods.values() if pod is not dying]
        assert all("wait once" not in pod.notes() for pod in others)
        is_idle(router)

    def test_a_stream_that_has_begun_is_not_repeated(self, router, pods, channel):
        dying = owner(router, pods)
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        flood = channel.unary_stream("/test.Idempotent/Flood")(b"100000", **options)
        next(flood)
        dying.kill()
        with pytest.raises(grpc.RpcError) as caught:
            list(flood)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert sum(pod.retries for pod in router.status().pods) == 0

    def test_if_every_pod_is_gone_the_last_failure_is_the_callers(self, router, pods, channel):
        for pod in pods.values():
            pod.kill()
        for call in (
            lambda: describe(channel, metadata=keyed("AAPL")),
            lambda: list(channel.unary_stream("/test.Plain/Count")(b"2", timeout=SECONDS_MAX)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        is_idle(router)

    def test_without_any_pod_to_go_to_the_cause_is_ours(self):
        with (
            Router(["pod-a"], transport="grpc") as router,
            hashroute.clients.grpc.channel(router) as channel,
        ):
            with pytest.raises(grpc.RpcError, match="address") as caught:
                describe(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert isinstance(caught.value.__cause__, hashroute.NoPodError)

    def test_retries_that_may_repeat_work_are_paid_from_the_budget(self, pods, router):
        retries = hashroute.Retries(budget_ratio=0.0, budget_reserve=0)
        poor = Router(router.ring, health=None, retries=retries)
        dying = owner(poor, pods)
        with hashroute.clients.grpc.channel(poor, idempotent=True) as channel:
            future = channel.unary_unary("/test.Plain/Wait").future(b"p", metadata=keyed("AAPL"))
            until(lambda: "wait p" in dying.notes(), "the call arrives")
            dying.kill()
            with pytest.raises(grpc.RpcError):
                future.result(SECONDS_MAX)
            # Reaching no pod costs nothing.
            assert describe(channel, metadata=keyed("AAPL"))["pod"] != dying.name


class TestCaution:
    """A pod may answer in the words of a transport. Only certainty repeats a request."""

    @pytest.fixture
    def server(self):
        """One server that counts requests, and answers them with the status that they name."""
        seen = []

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                if not details.method.startswith("/test."):
                    return None

                def answer(request, context):
                    seen.append(request)
                    context.abort(grpc.StatusCode.UNAVAILABLE, request.decode())

                return grpc.unary_unary_rpc_method_handler(answer)

        server = grpc.server(futures.ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers((Handler(),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield address, seen
        server.stop(None)

    def test_the_words_of_a_refusal_from_a_pod_are_an_answer(self, server):
        address, seen = server
        text = b"failed to connect to all addresses; last error: it is my own backend"
        pods = {"pod-a": address, "pod-b": address}
        with hashroute.clients.grpc.channel(pods, idempotent=True) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/test.Plain/Any")(text, timeout=SECONDS_MAX)
            assert caught.value.details() == text.decode()
        assert seen == [text]

    def test_unavailable_in_its_own_words_is_an_answer(self, server):
        address, seen = server
        pods = {"pod-a": address, "pod-b": address}
        with (
            hashroute.clients.grpc.channel(pods, idempotent=True) as channel,
            pytest.raises(grpc.RpcError),
        ):
            channel.unary_unary("/test.Plain/Any")(b"warming up", timeout=SECONDS_MAX)
        assert seen == [b"warming up"]


class TestPods:
    @pytest.mark.usefixtures("router")
    def test_addresses_alone_make_a_channel(self, pods):
        addresses = [pod.address for pod in pods.values()]
        with hashroute.clients.grpc.channel(addresses) as channel:
            assert describe(channel)["pod"] in NAMES
        with hashroute.clients.grpc.channel(addresses[0]) as channel:
            assert describe(channel)["pod"] == NAMES[0]

    def test_a_pod_that_left_is_hung_up_when_it_has_finished(self, router, pods, channel):
        leaving = owner(router, pods)
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        future = channel.unary_unary("/test.Plain/Wait").future(b"bye", **options)
        until(lambda: "wait bye" in leaving.notes(), "the call arrives")
        router.remove(leaving.name)
        assert describe(channel, metadata=keyed("AAPL"))["pod"] != leaving.name
        leaving.call("Release")
        assert future.result(SECONDS_MAX) == b"bye"
        is_idle(router)

    def test_a_closed_channel_cancels_what_is_under_way(self, router, pods):
        channel = hashroute.clients.grpc.channel(router)
        pod = owner(router, pods, "k")
        future = channel.unary_unary("/test.Plain/Hang").future(b"closed", metadata=keyed("k"))
        until(lambda: "hang closed" in pod.notes(), "the call arrives")
        channel.close()
        assert future.code() is grpc.StatusCode.CANCELLED
        is_idle(router)
        with pytest.raises(ValueError, match="closed"):
            channel.unary_unary("/test.Plain/Echo")(b"")

    def test_a_channel_ends_its_own_router_and_leaves_a_given_one(self, router, pods):
        with hashroute.clients.grpc.channel(router):
            pass
        owner(router, pods).kill()
        until(lambda: not all(p.health == "up" for p in router.status().pods), "it still probes")

    def test_a_channel_that_is_forgotten_leaves_no_thread(self, router):
        channel = hashroute.clients.grpc.channel(router)
        assert describe(channel)
        is_idle(router)
        del channel
        gc.collect()
        until(
            lambda: "hashroute-waiting" not in {thread.name for thread in threading.enumerate()},
            "its thread has ended",
        )

    def test_a_router_for_another_transport_is_refused(self):
        with pytest.raises(hashroute.ParameterError, match="transport='grpc'"):
            hashroute.clients.grpc.channel(Router(["pod-a"]))
