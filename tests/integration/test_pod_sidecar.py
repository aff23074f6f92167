"""Sidecars beside the clients and guards in Python: both sides speak the same words."""

from __future__ import annotations

import contextlib
import json

import grpc
import hashroute.clients.grpc
import pytest
import zmq
from hashroute import Router

from tests.integration.clusters import CLUSTER, Cluster, GuardedPod, free_address, key_of
from tests.integration.fenced_store import Load, Store, check
from tests.integration.processes import SECONDS_MAX, Pod, Sidecar, until


@pytest.fixture
def store():
    with Store() as store:
        yield store


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, voters=3, lease="default") as cluster:
        yield cluster


@contextlib.contextmanager
def before(cluster, store, kind, directory):
    """A sidecar that follows the quorum, and two guarded pods; ready when it knows both."""
    with contextlib.ExitStack() as stack:
        pods = {name: GuardedPod(kind, name, cluster, store) for name in ("pod-a", "pod-b")}
        for pod in pods.values():
            stack.callback(pod.close)
        is_zmq = kind == "zmq"
        tables = [
            f'[pods.{pod.name}]\nzmq = "tcp://{pod.address}"\n'
            if is_zmq
            else f'[pods.{pod.name}]\ngrpc = "{pod.address}"\n'
            for pod in pods.values()
        ]
        listen = 'zmq = "tcp://127.0.0.1:0"' if is_zmq else 'grpc = "127.0.0.1:0"'
        configuration = f"""
            [listen]
            {listen}
            control = "127.0.0.1:0"
            {"".join(tables)}
            [quorum]
            cluster = "{CLUSTER}"
            voters = {json.dumps(cluster.addresses)}
            [writes]
            patience = "30s"
            [[routes]]
            match = "/orders.Writes/*"
            key = ["metadata:x-hashroute-key"]
            write = true
            [[routes]]
            match = "/orders.Reads/*"
            key = ["metadata:x-hashroute-key"]
            [zmq]
            write = true
            """
        sidecar = Sidecar(directory / "sidecar", configuration)
        stack.callback(sidecar.close)
        router = stack.enter_context(Router.connect(sidecar.addresses["control"]))
        until(lambda: _active(router) == pods.keys(), "the router knows both pods")
        until(lambda: sidecar.status()["digest"] == router.ring.digest, "so does the sidecar")
        yield sidecar, pods, router


def _active(router):
    return {pod.id for pod in router.ring.pods if pod.state == "active"}


def write(channel, key):
    call = channel.unary_unary("/orders.Writes/Write")
    metadata = (("x-hashroute-key", key),)
    return lambda entry: json.loads(
        call(entry.encode(), metadata=metadata, timeout=SECONDS_MAX, wait_for_ready=True)
    )


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_drain_refuses_nobody_and_a_kill_goes_on_elsewhere(cluster, store, kind, tmp_path):
    with before(cluster, store, kind, tmp_path) as (sidecar, pods, router):
        key = key_of(router.ring, "pod-a")
        with grpc.insecure_channel(sidecar.address) as channel:
            with Load(write(channel, key)) as load:
                load.until_written(20, by="pod-a")
                cluster.change(drain={"pod": "pod-a"})
                load.until_written(20, by="pod-b")
                assert load.failed == {}
                # The drained pod's next process owns its share again, then the other one dies.
                pods["pod-a"].kill()
                pods["pod-a"].start()
                until(lambda: _active(router) == pods.keys(), "it is back")
                load.until_written(20)
                owner = router.ring.owner(key)
                pods[owner].kill()
                load.until_written(20, by=({*pods} - {owner}).pop())
            check(store, load.acknowledged, unknown=load.failed)
            who = channel.unary_unary("/orders.Reads/Who")
            assert who(b"", metadata=(("x-hashroute-key", key),)) in {b"pod-a", b"pod-b"}


def test_zeromq_writes_go_through_a_sidecar_to_a_guarded_loop(cluster, store, tmp_path):
    with before(cluster, store, "zmq", tmp_path) as (sidecar, _, router):
        key = key_of(router.ring, "pod-a")
        with zmq.Context() as context, context.socket(zmq.REQ) as client:
            client.linger = 0
            client.rcvtimeo = int(SECONDS_MAX * 1000)
            client.connect(sidecar.addresses["zmq"])

            def write(entry):
                client.send_multipart([key.encode(), entry.encode()])
                [answer] = client.recv_multipart()
                return json.loads(answer)

            with Load(write, threads=1) as load:
                load.until_written(20, by="pod-a")
                cluster.change(drain={"pod": "pod-a"})
                load.until_written(20, by="pod-b")
        assert load.failed == {}
        check(store, load.acknowledged)


def test_a_router_that_asks_a_sidecar_follows_the_quorum_behind_it(cluster, store, tmp_path):
    with before(cluster, store, "sync", tmp_path) as (_, _, router):
        assert router.record_epoch is not None
        key = key_of(router.ring, "pod-a")
        with hashroute.clients.grpc.channel(router, writes=["/orders.Writes/*"]) as channel:
            assert write(channel, key)("one")["pod"] == "pod-a"
            epoch = cluster.change(drain={"pod": "pod-a"})
            assert write(channel, key)("two") == {"pod": "pod-b", "term": epoch}
    check(store, ["one", "two"])


@contextlib.contextmanager
def guarded_services(cluster, directory):
    """Two services that know of nothing, each behind the guard of a sidecar: the member."""
    with contextlib.ExitStack() as stack:
        services = {name: Pod(name) for name in ("pod-a", "pod-b")}
        for service in services.values():
            stack.callback(service.close)
        doors = {name: free_address() for name in services}
        pods = "".join(f'[pods.{name}]\ngrpc = "{door}"\n' for name, door in doors.items())
        for name, service in services.items():
            configuration = f"""
                [listen]
                control = "127.0.0.1:0"
                {pods}
                [quorum]
                cluster = "{CLUSTER}"
                voters = {json.dumps(cluster.addresses)}
                pod = "{name}"
                priority = "ordinary"
                stall_check = "0ms"
                force = true
                [guard]
                grpc = "{doors[name]}"
                grpc_service = "{service.address}"
                [[routes]]
                match = "/once.Pod/*"
                key = ["metadata:x-hashroute-key"]
                write = true
                """
            stack.callback(Sidecar(directory / name, configuration).close)
        yield services


def test_the_direct_client_speaks_with_the_guards_of_sidecars(cluster, tmp_path):
    with guarded_services(cluster, tmp_path) as services:
        router = cluster.connect(timeout_seconds=SECONDS_MAX)
        until(lambda: _active(router) == services.keys(), "both have joined")
        key = key_of(router.ring, "pod-a")
        metadata = (("x-hashroute-key", key),)
        writes = {"writes": ["/once.Pod/*"], "patience_seconds": SECONDS_MAX}
        with hashroute.clients.grpc.channel(router, **writes) as channel:
            describe = channel.unary_unary("/once.Pod/Describe")

            def write(_):
                answer = json.loads(describe(b"", metadata=metadata, timeout=SECONDS_MAX))
                return {
                    "pod": answer["pod"],
                    "term": int(dict(answer["metadata"])["x-hashroute-term"]),
                }

            count = channel.unary_stream("/once.Pod/Count")
            gather = channel.stream_unary("/once.Pod/Gather")
            with Load(write) as load:
                load.until_written(20, by="pod-a")
                epoch = cluster.change(drain={"pod": "pod-a"})
                # Also of calls with streams the caller sees one answer.
                assert list(count(b"3", metadata=metadata)) == [b"0", b"1", b"2"]
                gathered = json.loads(gather(iter([b"a", b"b"]), metadata=metadata))
                assert gathered["messages"] == 2
                load.until_written(20, by="pod-b")
            assert load.failed == {}
            assert max(answer["term"] for answer in load.acknowledged.values()) == epoch
