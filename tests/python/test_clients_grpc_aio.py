"""The routed `grpc.aio.Channel`: the promises of the sync channel, kept on an event loop."""

from __future__ import annotations

import asyncio
import json

import grpc
import grpc.aio
import hashroute.clients.grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hashroute import Pod, Router

from tests.integration.processes import SECONDS_MAX, until_true
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
async def channel(router):
    async with hashroute.clients.grpc.aio_channel(router, idempotent=IDEMPOTENT) as channel:
        yield channel


def keyed(key):
    return (("x-hashroute-key", key),)


def owner(router, pods, key="AAPL"):
    return pods[router.ring.owner(key)]


async def describe(channel, service="Plain", **options):
    options.setdefault("timeout", SECONDS_MAX)
    return json.loads(await channel.unary_unary(f"/test.{service}/Describe")(b"", **options))


async def noted(pod, note):
    await until_true(lambda: note in pod.notes(), f"the pod notes {note!r}")


async def every(responses):
    return [response async for response in responses]


async def is_idle(router):
    await until_true(lambda: router.in_flight == 0, "nothing is in flight")


class TestCalls:
    async def test_it_is_a_channel(self, channel):
        assert isinstance(channel, grpc.aio.Channel)
        await asyncio.wait_for(channel.channel_ready(), SECONDS_MAX)
        assert channel.get_state() is grpc.ChannelConnectivity.READY

    async def test_a_call_goes_to_the_pod_of_its_key_with_the_headers_of_a_router(
        self, router, channel
    ):
        for key in ("AAPL", "MSFT", "EURUSD"):
            described = await describe(channel, metadata=grpc.aio.Metadata(*keyed(key)))
            headers = dict(described["metadata"])
            assert described["pod"] == router.ring.owner(key)
            assert headers["x-hashroute-slot"] == str(router.ring.slot(key))
            assert headers["x-hashroute-epoch"] == headers["x-hashroute-term"] == "1"
        await is_idle(router)

    async def test_one_response_comes_with_its_call(self, channel):
        metadata = (("initial-a", "1"), ("trailing-b", "2"), *keyed("k"))
        call = channel.unary_unary("/test.Plain/Echo")(b"hello", metadata=metadata)
        done = []
        call.add_done_callback(done.append)
        assert await call == b"hello"
        assert await call.code() is grpc.StatusCode.OK
        assert (await call.initial_metadata())["initial-a"] == "1"
        assert (await call.trailing_metadata())["trailing-b"] == "2"
        assert call.done()
        assert not call.cancelled()
        assert done == [call]

    async def test_streams_run_both_ways(self, router, channel):
        count = channel.unary_stream("/test.Plain/Count")
        responses = [response async for response in count(b"3", metadata=keyed("k"))]
        assert responses == [b"0", b"1", b"2"]
        gather = channel.stream_unary("/test.Plain/Gather")
        gathered = {"messages": 2, "bytes": 3}
        assert json.loads(await gather(iter([b"a", b"bc"]))) == gathered

        async def requests():
            for request in (b"a", b"bc"):
                yield request

        assert json.loads(await gather(requests(), metadata=keyed("k"))) == gathered
        written = gather()
        await written.write(b"a")
        await written.write(b"bc")
        await written.done_writing()
        assert json.loads(await written) == gathered
        await is_idle(router)

    async def test_a_conversation_is_written_and_read_in_turn(self, channel):
        chat = channel.stream_stream("/test.Plain/Chat")(metadata=keyed("k"))
        for number in range(3):
            await chat.write(str(number).encode())
            assert await chat.read() == f"heard {number}".encode()
        await chat.done_writing()
        with pytest.raises(asyncio.InvalidStateError, match="done_writing"):
            await chat.write(b"more")
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK
        with pytest.raises(asyncio.InvalidStateError):
            await chat.write(b"late")

    async def test_a_stream_may_be_longer_than_what_is_kept_of_it(self, channel):
        sent = [str(number).encode() for number in range(1000)]
        chat = channel.stream_stream("/test.Plain/Chat")(iter(sent), timeout=SECONDS_MAX)
        assert [response async for response in chat] == [b"heard " + request for request in sent]

    async def test_a_deadline_holds_over_the_whole_call(self, router, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Plain/Hang")(b"late", timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await is_idle(router)

    async def test_a_cancelled_call_is_cancelled_at_the_pod(self, router, pods, channel):
        pod = owner(router, pods, "k")
        call = channel.unary_unary("/test.Plain/Hang")(b"gone", metadata=keyed("k"))
        await noted(pod, "hang gone")
        assert call.cancel()
        await noted(pod, "cancelled gone")
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await is_idle(router)

    async def test_who_waits_and_is_cancelled_cancels_the_call(self, router, pods, channel):
        pod = owner(router, pods, "k")
        hang = channel.unary_unary("/test.Plain/Hang")
        waiting = asyncio.ensure_future(hang(b"task", metadata=keyed("k")))
        await noted(pod, "hang task")
        waiting.cancel()
        await noted(pod, "cancelled task")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await is_idle(router)

    async def test_a_stream_that_is_cancelled_ends(self, router, channel):
        flood = channel.unary_stream("/test.Plain/Flood")(b"100000", metadata=keyed("k"))
        await flood.read()
        flood.cancel()
        with pytest.raises(asyncio.CancelledError):
            await every(flood)
        assert await flood.code() is grpc.StatusCode.CANCELLED
        await is_idle(router)

    async def test_an_error_of_the_pod_passes_through_untouched(self, router, channel):
        failure = json.dumps({"code": 9, "details": "not now", "first": True}).encode()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Idempotent/Fail")(failure, metadata=keyed("k"))
        error = caught.value
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not now")
        assert all(pod.health == "up" for pod in router.status().pods)

    async def test_a_stream_that_fails_midway_fails_there(self, channel):
        responses = channel.unary_stream("/test.Idempotent/CountAndFail")(b"2", metadata=keyed("k"))
        assert [await responses.read(), await responses.read()] == [b"0", b"1"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await responses.read()
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS

    async def test_stubs_work_on_it(self, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        response = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
        assert response.status == health_pb2.HealthCheckResponse.SERVING

    async def test_a_key_in_the_message_is_found(self, router):
        async with hashroute.clients.grpc.aio_channel(router, key="field:service") as channel:
            call = channel.unary_unary(
                "/test.Plain/Describe", health_pb2.HealthCheckRequest.SerializeToString
            )
            described = json.loads(await call(health_pb2.HealthCheckRequest(service="EURUSD")))
            assert described["pod"] == router.ring.owner("EURUSD")

    async def test_a_request_without_a_key_may_be_rejected(self, router):
        async with hashroute.clients.grpc.aio_channel(router, on_missing="reject") as channel:
            call = channel.unary_unary("/test.Plain/Echo")(b"")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            for ended in (
                call,
                channel.unary_stream("/test.Plain/Count")(b"1").read(),
                channel.stream_unary("/test.Plain/Gather")(iter([])),
                channel.stream_stream("/test.Plain/Chat")().read(),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match="x-hashroute-key") as caught:
                    await ended
                assert caught.value.trailing_metadata()["x-hashroute-outcome"] == "not-applied"
                assert isinstance(caught.value.__cause__, hashroute.MissingKeyError)


class TestFailover:
    async def test_each_kind_of_call_finds_another_pod_by_itself(self, pods, router):
        """Nobody has noticed yet that the pod is dead: there are no probes, and no call before."""
        owner(router, pods).kill()

        async def written(call):
            await call.write(b"x")
            await call.done_writing()
            return await call.code()

        for invoke in (
            lambda c, o: c.unary_unary("/test.Plain/Echo")(b"x", **o),
            lambda c, o: every(c.unary_stream("/test.Plain/Count")(b"2", **o)),
            lambda c, o: c.unary_stream("/test.Plain/Count")(b"2", **o).initial_metadata(),
            lambda c, o: c.stream_unary("/test.Plain/Gather")(iter([b"x"]), **o),
            lambda c, o: written(c.stream_unary("/test.Plain/Gather")(**o)),
            lambda c, o: every(c.stream_stream("/test.Plain/Chat")(iter([b"x"]), **o)),
        ):
            unprobed = Router(router.ring, health=None)
            async with hashroute.clients.grpc.aio_channel(unprobed) as channel:
                await invoke(channel, {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX})
            assert sum(pod.retries for pod in unprobed.status().pods) == 1

    async def test_an_idempotent_call_leaves_a_frozen_pod(self, router, pods, channel):
        await describe(channel, metadata=keyed("AAPL"))
        owner(router, pods).freeze()
        heir = router.ring.preference("AAPL")[1]
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        assert (await describe(channel, "Idempotent", **options))["pod"] == heir
        responses = channel.unary_stream("/test.Idempotent/Count")(b"2", **options)
        assert [response async for response in responses] == [b"0", b"1"]
        chat = channel.stream_stream("/test.Idempotent/Chat")(**options)
        await chat.write(b"a")
        assert await chat.read() == b"heard a"
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        await is_idle(router)

    async def test_another_call_waits_for_the_frozen_pod_and_is_not_repeated(
        self, router, pods, channel
    ):
        frozen = owner(router, pods)
        await describe(channel, metadata=keyed("AAPL"))
        frozen.freeze()
        waiting = asyncio.ensure_future(describe(channel, metadata=keyed("AAPL")))
        await until_true(
            lambda: not all(pod.health == "up" for pod in router.status().pods), "it is seen"
        )
        assert not waiting.done()
        frozen.thaw()
        assert (await waiting)["pod"] == frozen.name

    async def test_an_idempotent_call_that_was_under_way_is_repeated_elsewhere(
        self, router, pods, channel
    ):
        dying, heir = owner(router, pods), pods[router.ring.preference("AAPL")[1]]
        options = {"metadata": keyed("AAPL"), "timeout": SECONDS_MAX}
        call = channel.unary_unary("/test.Idempotent/Wait")(b"again", **options)
        await noted(dying, "wait again")
        dying.kill()
        await noted(heir, "wait again")
        heir.call("Release")
        assert await call == b"again"

    async def test_another_call_that_was_under_way_fails_and_is_not_repeated(
        self, router, pods, channel
    ):
        dying = owner(router, pods)
        call = channel.unary_unary("/test.Plain/Wait")(b"once", metadata=keyed("AAPL"))
        await noted(dying, "wait once")
        dying.kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        others = [pod for pod in pods.values() if pod is not dying]
        assert all("wait once" not in pod.notes() for pod in others)
        await is_idle(router)

    async def test_a_stream_that_has_begun_is_not_repeated(self, router, pods, channel):
        dying = owner(router, pods)
        flood = channel.unary_stream("/test.Idempotent/Flood")(b"100000", metadata=keyed("AAPL"))
        await flood.read()
        dying.kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await every(flood)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert sum(pod.retries for pod in router.status().pods) == 0

    async def test_if_every_pod_is_gone_the_last_failure_is_the_callers(
        self, router, pods, channel
    ):
        for pod in pods.values():
            pod.kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await describe(channel, metadata=keyed("AAPL"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await is_idle(router)

    async def test_a_closed_channel_takes_no_call(self, router):
        channel = hashroute.clients.grpc.aio_channel(router)
        await channel.close()
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        with pytest.raises(ValueError, match="closed"):
            await channel.unary_unary("/test.Plain/Echo")(b"")
