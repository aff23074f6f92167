"""Writes through the direct gRPC client to guarded pods: one writer, one answer, one row."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import hashroute.clients.grpc
import pytest
from hashroute import Router

from tests.integration.clusters import CLUSTER, Cluster, GuardedPod, key_of
from tests.integration.fenced_store import Load, Store, check
from tests.integration.processes import SECONDS_MAX, until

WRITES = ["/orders.Writes/*"]
# Longer than a machine that builds something else at the same time takes for a new writer.
PATIENCE_SECONDS = SECONDS_MAX


@pytest.fixture
def store():
    with Store() as store:
        yield store


@pytest.fixture
def kind(request):
    """What kind of server the pods are."""
    return getattr(request, "param", "sync")


BOTH_KINDS = pytest.mark.parametrize("kind", ["sync", "aio"], indirect=True)


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, voters=3, lease="default") as cluster:
        yield cluster


@pytest.fixture
def pods(cluster, store, kind):
    with contextlib.ExitStack() as stack:
        started = {}
        for name in ("pod-a", "pod-b"):
            started[name] = GuardedPod(kind, name, cluster, store)
            stack.callback(started[name].close)
        yield started


@pytest.fixture
def router(cluster, pods):
    router = cluster.connect()
    active = {"pod-a", "pod-b"}
    until(lambda: active <= {p.id for p in router.ring.pods if p.state == "active"}, "both joined")
    assert pods.keys() == active
    return router


@pytest.fixture
def channel(router):
    with hashroute.clients.grpc.channel(
        router, writes=WRITES, patience_seconds=PATIENCE_SECONDS
    ) as channel:
        yield channel


def keyed(key):
    return (("x-hashroute-key", key),)


def write(channel, key, entry, timeout=SECONDS_MAX):
    call = channel.unary_unary("/orders.Writes/Write")
    return json.loads(call(entry.encode(), metadata=keyed(key), timeout=timeout))


def writing(channel, key):
    """Writes one entry after the other to this key."""
    return lambda entry: write(channel, key, entry)


@BOTH_KINDS
def test_a_write_is_carried_out_by_its_owner_under_its_term(channel, router, store):
    for name in ("pod-a", "pod-b"):
        key = key_of(router.ring, name)
        with router.acquire(key) as route:
            assert write(channel, key, f"to {name}") == {"pod": name, "term": route.term}
    check(store, ["to pod-a", "to pod-b"])
    assert router.in_flight == 0


@BOTH_KINDS
def test_a_stream_of_requests_is_one_write(channel, router, store):
    key = key_of(router.ring, "pod-a")
    batch = channel.stream_unary("/orders.Writes/Batch")
    answer = batch(iter([b"one", b"two"]), metadata=keyed(key), timeout=SECONDS_MAX)
    assert json.loads(answer)["pod"] == "pod-a"
    check(store, ["one", "two"])


def test_reads_go_on_as_ever(channel, router):
    call = channel.unary_unary("/orders.Reads/Who")
    key = key_of(router.ring, "pod-b")
    assert call(b"", metadata=keyed(key), timeout=SECONDS_MAX) == b"pod-b"
    assert call(b"", timeout=SECONDS_MAX) in {b"pod-a", b"pod-b"}


def test_a_write_without_a_key_is_refused_before_it_is_sent(channel, store):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/orders.Writes/Write")(b"x", timeout=SECONDS_MAX)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert store.rows() == []


def test_who_comes_past_every_router_is_refused(pods, store):
    with grpc.insecure_channel(pods["pod-a"].address) as channel:
        call = channel.unary_unary("/orders.Writes/Write")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"x", metadata=keyed("AAPL"), timeout=SECONDS_MAX, wait_for_ready=True)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert dict(caught.value.trailing_metadata())["x-hashroute-refusal"] == "untagged"
    assert store.rows() == []


@BOTH_KINDS
def test_the_owner_is_killed_and_its_writes_go_on_elsewhere(channel, router, pods, store):
    key = key_of(router.ring, "pod-a")
    with Load(writing(channel, key)) as load:
        load.until_written(20, by="pod-a")
        pods["pod-a"].kill()
        load.until_written(20, by="pod-b")
    # What was at the dead pod may have been carried out, and its callers were told so.
    outcomes = [dict(error.trailing_metadata()) for error in load.failed.values()]
    assert {outcome["x-hashroute-outcome"] for outcome in outcomes} <= {"unknown"}
    # The write that each thread had there, and the next one, if it began before gRPC saw the
    # connection end: gRPC does not tell whether that left.
    assert len(load.failed) <= 2 * load.threads, [e.details() for e in load.failed.values()]
    check(store, load.acknowledged, unknown=load.failed)


def test_a_write_whose_pod_dies_before_it_answers_is_unknown_and_not_repeated(
    channel, router, store
):
    key = key_of(router.ring, "pod-a")
    with pytest.raises(grpc.RpcError) as caught:
        write(channel, key, "die")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata()) == {"x-hashroute-outcome": "unknown"}
    assert isinstance(caught.value.__cause__, hashroute.UnavailableError)
    assert write(channel, key, "next")["pod"] == "pod-b"
    check(store, ["die", "next"])


@BOTH_KINDS
def test_the_owner_is_drained_and_nobody_notices(channel, router, cluster, store):
    key = key_of(router.ring, "pod-a")
    with Load(writing(channel, key)) as load:
        load.until_written(20, by="pod-a")
        epoch = cluster.change(drain={"pod": "pod-a"})
        load.until_written(20, by="pod-b")
    assert load.failed == {}
    check(store, load.acknowledged)
    assert max(answer["term"] for answer in load.acknowledged.values()) == epoch


def test_a_frozen_owner_is_replaced_and_writes_nothing_when_it_wakes(router, pods, store):
    """What it had may have been carried out, and is waited for as long as there is patience."""
    key = key_of(router.ring, "pod-a")
    with (
        hashroute.clients.grpc.channel(router, writes=WRITES, patience_seconds=1.0) as channel,
        Load(writing(channel, key)) as load,
    ):
        load.until_written(20, by="pod-a")
        pods["pod-a"].freeze()
        load.until_written(20, by="pod-b")
        pods["pod-a"].thaw()
        load.until_written(20)
    details = {error.details().partition(";")[0] for error in load.failed.values()}
    assert any("went to another owner" in text for text in details), details
    check(store, load.acknowledged, unknown=load.failed)


def test_a_killed_pod_comes_back_under_another_term(channel, router, pods, store):
    key = key_of(router.ring, "pod-a")
    first = write(channel, key, "first")
    pods["pod-a"].kill()
    pods["pod-a"].start()
    until(lambda: router.ring.owner(key) == "pod-a", "the router knows that it is back")
    second = write(channel, key, "second")
    assert second["pod"] == "pod-a"
    assert second["term"] > first["term"]
    check(store, ["first", "second"])


def test_a_router_that_hears_of_nothing_gives_up_with_the_last_refusal(cluster, router, store):
    key = key_of(router.ring, "pod-a")
    deaf = Router.connect(cluster.addresses, cluster=CLUSTER)
    deaf.close()
    epoch = cluster.change(drain={"pod": "pod-a"})
    with hashroute.clients.grpc.channel(deaf, writes=WRITES, patience_seconds=0.2) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            write(channel, key, "never")
        error = caught.value
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(error.trailing_metadata()) == {
            "x-hashroute-refusal": "not-owner",
            "x-hashroute-outcome": "not-applied",
        }
        assert isinstance(error.__cause__, hashroute.NotOwnerError)
        assert "another process owns" in error.details()
        # Its deadline comes first, if that is sooner.
        patient = hashroute.clients.grpc.channel(deaf, writes=WRITES)
        with patient, pytest.raises(grpc.RpcError) as caught:
            write(patient, key, "never", timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata())["x-hashroute-outcome"] == "not-applied"
    assert epoch > deaf.record_epoch
    assert store.rows() == []


def test_a_write_that_waits_may_be_cancelled(cluster, router, store):
    key = key_of(router.ring, "pod-a")
    deaf = Router.connect(cluster.addresses, cluster=CLUSTER)
    deaf.close()
    cluster.change(drain={"pod": "pod-a"})
    with hashroute.clients.grpc.channel(
        deaf, writes=WRITES, patience_seconds=PATIENCE_SECONDS
    ) as channel:
        future = channel.unary_unary("/orders.Writes/Write").future(b"x", metadata=keyed(key))
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        until(lambda: deaf.in_flight == 0, "it was refused, and waits")
        assert not future.done()
        assert future.cancel()
        assert done.wait(SECONDS_MAX)
        assert future.cancelled()
        assert future.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(grpc.FutureCancelledError):
            future.result()
    assert store.rows() == []


def test_a_write_that_waits_ends_with_its_channel(cluster, router):
    key = key_of(router.ring, "pod-a")
    deaf = Router.connect(cluster.addresses, cluster=CLUSTER)
    deaf.close()
    cluster.change(drain={"pod": "pod-a"})
    channel = hashroute.clients.grpc.channel(deaf, writes=WRITES, patience_seconds=PATIENCE_SECONDS)
    future = channel.unary_unary("/orders.Writes/Write").future(b"x", metadata=keyed(key))
    stream = channel.unary_stream("/orders.Writes/Write")(b"x", metadata=keyed(key))
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(list, stream)
        until(lambda: deaf.in_flight == 0, "they were refused, and wait")
        channel.close()
        for ended in (future, streaming):
            with pytest.raises(grpc.RpcError) as caught:
                ended.result(SECONDS_MAX)
            assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_without_any_writer_a_write_waits_for_one(channel, router, pods, cluster, store):
    key = key_of(router.ring, "pod-a")
    for name in ("pod-a", "pod-b"):
        cluster.change(drain={"pod": name})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(write, channel, key, "patient")
        for pod in pods.values():
            pod.kill()
        pods["pod-b"].start()
        assert waiting.result(SECONDS_MAX)["pod"] == "pod-b"
    check(store, ["patient"])


class TestAsyncio:
    """The same over a `grpc.aio.Channel`."""

    @pytest.fixture
    async def channel(self, router):
        async with hashroute.clients.grpc.aio_channel(
            router, writes=WRITES, patience_seconds=PATIENCE_SECONDS
        ) as channel:
            yield channel

    @staticmethod
    async def write(channel, key, entry, timeout=SECONDS_MAX):  # noqa: ASYNC109
        call = channel.unary_unary("/orders.Writes/Write")
        return json.loads(await call(entry.encode(), metadata=keyed(key), timeout=timeout))

    async def test_the_owner_is_drained_and_nobody_notices(self, channel, router, cluster, store):
        key = key_of(router.ring, "pod-a")
        drained = asyncio.create_task(asyncio.to_thread(cluster.change, drain={"pod": "pod-a"}))
        answers = {}
        while not drained.done() or len(answers) < 50:
            entries = [f"entry-{len(answers) + number}" for number in range(10)]
            written = await asyncio.gather(*(self.write(channel, key, entry) for entry in entries))
            answers |= dict(zip(entries, written, strict=True))
        epoch = await drained
        assert answers[next(reversed(answers))] == {"pod": "pod-b", "term": epoch}
        check(store, answers)

    async def test_the_owner_is_killed_and_the_next_write_is_carried_out_once(
        self, channel, router, pods, store
    ):
        key = key_of(router.ring, "pod-a")
        await self.write(channel, key, "before")
        pods["pod-a"].kill()
        answer = None
        entries = ["before"]
        while answer is None:
            entries.append(f"after-{len(entries)}")
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await self.write(channel, key, entries[-1])
        assert answer["pod"] == "pod-b"
        check(store, ["before", entries[-1]], unknown=entries)

    async def test_a_stream_of_requests_is_one_write(self, channel, router, store):
        key = key_of(router.ring, "pod-a")
        call = channel.stream_unary("/orders.Writes/Batch")(metadata=keyed(key))
        for entry in (b"one", b"two"):
            await call.write(entry)
        await call.done_writing()
        assert json.loads(await call)["pod"] == "pod-a"
        check(store, ["one", "two"])

    async def test_a_router_that_hears_of_nothing_gives_up_with_the_last_refusal(
        self, cluster, router, store
    ):
        key = key_of(router.ring, "pod-a")
        deaf = Router.connect(cluster.addresses, cluster=CLUSTER)
        deaf.close()
        cluster.change(drain={"pod": "pod-a"})
        async with hashroute.clients.grpc.aio_channel(
            deaf, writes=WRITES, patience_seconds=0.2
        ) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await self.write(channel, key, "never")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            trailing = dict(caught.value.trailing_metadata())
            assert trailing["x-hashroute-refusal"] == "not-owner"
            stream = channel.unary_stream("/orders.Writes/Write")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(aiter(stream(b"never", metadata=keyed(key))))
            assert dict(caught.value.trailing_metadata())["x-hashroute-refusal"] == "not-owner"
        assert store.rows() == []
