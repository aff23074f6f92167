"""Writes through the ZeroMQ client to guarded pods: one writer, one answer, one row."""

from __future__ import annotations

import asyncio
import contextlib
import json

import hashroute
import pytest
import zmq
from hashroute import HealthOptions, Router
from hashroute.clients.zmq import AsyncClient, Client

from tests.integration.clusters import CLUSTER, Cluster, GuardedPod, key_of
from tests.integration.fenced_store import Load, Store, check
from tests.integration.processes import SECONDS_MAX, until
from tests.integration.zmq_peers import Pod as PlainPod

PATIENCE_SECONDS = SECONDS_MAX


@pytest.fixture
def store():
    with Store() as store:
        yield store


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, voters=3, lease="default") as cluster:
        yield cluster


@pytest.fixture
def pods(cluster, store):
    with contextlib.ExitStack() as stack:
        started = {}
        for name in ("pod-a", "pod-b"):
            started[name] = GuardedPod("zmq", name, cluster, store)
            stack.callback(started[name].close)
        yield started


@pytest.fixture
def router(cluster, pods):
    router = cluster.connect()
    active = {"pod-a", "pod-b"}
    until(lambda: active <= {p.id for p in router.ring.pods if p.state == "active"}, "both joined")
    assert pods.keys() == active
    assert router.transport == "zmq"
    return router


@pytest.fixture
def client(router):
    with Client(router, write=True, patience_seconds=PATIENCE_SECONDS) as client:
        yield client


def write(client, key, entry, **options):
    options.setdefault("timeout_seconds", SECONDS_MAX)
    [answer] = client.request(key, entry.encode(), **options)
    return json.loads(answer)


def writing(client, key):
    return lambda entry: write(client, key, entry)


def test_a_write_is_carried_out_by_its_owner_under_its_term(client, router, store):
    for name in ("pod-a", "pod-b"):
        key = key_of(router.ring, name)
        with router.acquire(key) as route:
            assert write(client, key, f"to {name}") == {"pod": name, "term": route.term}
    check(store, ["to pod-a", "to pod-b"])
    assert router.in_flight == 0


def test_without_a_tag_it_is_refused(router, store):
    with Client(router) as client, pytest.raises(hashroute.UntaggedError) as caught:
        write(client, "AAPL", "never")
    assert caught.value.outcome == "not_applied"
    assert store.rows() == []


def test_the_owner_is_killed_and_its_writes_go_on_elsewhere(client, router, pods, store):
    key = key_of(router.ring, "pod-a")
    with Load(writing(client, key)) as load:
        load.until_written(20, by="pod-a")
        pods["pod-a"].kill()
        load.until_written(20, by="pod-b")
    assert {error.outcome for error in load.failed.values()} <= {"unknown"}
    # The write that each thread had there, and the next one, if it left before the loss was seen.
    assert len(load.failed) <= 2 * load.threads
    check(store, load.acknowledged, unknown=load.failed)


def test_a_write_whose_pod_dies_before_it_answers_is_unknown_and_not_repeated(
    client, router, store
):
    key = key_of(router.ring, "pod-a")
    with pytest.raises(hashroute.UnavailableError) as caught:
        write(client, key, "die")
    assert caught.value.outcome == "unknown"
    assert write(client, key, "next")["pod"] == "pod-b"
    check(store, ["die", "next"])


def test_the_owner_is_drained_and_nobody_notices(client, router, cluster, store):
    key = key_of(router.ring, "pod-a")
    with Load(writing(client, key)) as load:
        load.until_written(20, by="pod-a")
        epoch = cluster.change(drain={"pod": "pod-a"})
        load.until_written(20, by="pod-b")
    assert load.failed == {}
    check(store, load.acknowledged)
    assert max(answer["term"] for answer in load.acknowledged.values()) == epoch


def test_a_frozen_owner_is_replaced_and_writes_nothing_when_it_wakes(router, pods, store):
    key = key_of(router.ring, "pod-a")
    with (
        Client(router, write=True, patience_seconds=1.0) as client,
        Load(writing(client, key)) as load,
    ):
        load.until_written(20, by="pod-a")
        pods["pod-a"].freeze()
        load.until_written(20, by="pod-b")
        pods["pod-a"].thaw()
        load.until_written(20)
    check(store, load.acknowledged, unknown=load.failed)


def test_an_idempotent_write_at_a_frozen_pod_goes_on_at_the_new_owner(router, pods, store):
    """Its connection stands, and the client asks for no sign of life: only the record tells."""
    key = key_of(router.ring, "pod-a")
    health = HealthOptions(timeout_seconds=SECONDS_MAX)
    with Client(router, write=True, patience_seconds=PATIENCE_SECONDS, health=health) as client:
        write(client, key, "before")
        pods["pod-a"].freeze()
        assert write(client, key, "after", idempotent=True)["pod"] == "pod-b"
        pods["pod-a"].thaw()
    assert "after" in {entry for entry, *_ in store.rows()}


def test_a_client_that_hears_of_nothing_gives_up_with_the_last_refusal(cluster, router, store):
    key = key_of(router.ring, "pod-a")
    deaf = Router.connect(cluster.addresses, cluster=CLUSTER)
    deaf.close()
    cluster.change(drain={"pod": "pod-a"})
    with Client(deaf, write=True, patience_seconds=0.2) as client:
        with pytest.raises(hashroute.NotOwnerError, match="no pod accepted the write") as caught:
            write(client, key, "never")
        assert caught.value.outcome == "not_applied"
        with pytest.raises(hashroute.DeadlineExceededError) as caught:
            write(client, key, "never", timeout_seconds=0.1)
        assert caught.value.outcome == "not_applied"
        assert deaf.in_flight == 0
    assert store.rows() == []


def test_a_write_that_waits_may_be_given_up(cluster, router, store):
    key = key_of(router.ring, "pod-a")
    deaf = Router.connect(cluster.addresses, cluster=CLUSTER)
    deaf.close()
    cluster.change(drain={"pod": "pod-a"})
    with Client(deaf, write=True, patience_seconds=PATIENCE_SECONDS) as client:
        future = client.submit(key, b"never")
        until(lambda: deaf.in_flight == 0, "it was refused, and waits")
        assert future.cancel()
        other = client.submit(key, b"never")
    # And those that wait hear of the end of their client.
    with pytest.raises(hashroute.ClosedError):
        other.result(SECONDS_MAX)
    assert store.rows() == []


async def test_the_same_holds_on_an_event_loop(router, cluster, store):
    key = key_of(router.ring, "pod-a")
    async with AsyncClient(router, write=True, patience_seconds=PATIENCE_SECONDS) as client:
        drained = asyncio.create_task(asyncio.to_thread(cluster.change, drain={"pod": "pod-a"}))
        answers = {}
        while not drained.done() or len(answers) < 50:
            entries = [f"entry-{len(answers) + number}" for number in range(10)]
            written = await asyncio.gather(
                *(client.request(key, entry.encode()) for entry in entries)
            )
            answers |= dict(zip(entries, (json.loads(one) for [one] in written), strict=True))
        epoch = await drained
    assert answers[next(reversed(answers))] == {"pod": "pod-b", "term": epoch}
    check(store, answers)


def test_a_client_of_pods_that_nobody_guards_writes_through_no_quorum():
    pod = PlainPod("pod-a", zmq.REP)
    try:
        with pytest.raises(hashroute.ParameterError, match="quorum"):
            Client([pod.address], write=True)
        with Client([pod.address]) as client, pytest.raises(hashroute.ParameterError):
            client.request("k", b"x", write=True)
    finally:
        pod.close()
