"""Routers that follow: what a quorum or a sidecar agrees on counts in them, without a restart."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import hashroute
import pytest
from hashroute import Pod, Ring, Router

from tests.integration.clusters import CLUSTER, Cluster, free_address, key_of
from tests.integration.processes import SECONDS_MAX, Sidecar, until
from tests.integration.processes import Pod as PodProcess

A, B = Pod("pod-a", grpc="127.0.0.1:1"), Pod("pod-b", grpc="127.0.0.1:2")


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, groups={"gateway": ["pod-a", "pod-b"]}) as cluster:
        yield cluster


def follows(router, member):
    until(lambda: router.record_epoch == member.record.epoch, "the router has the newest record")


class TestQuorum:
    def test_it_routes_by_the_record_with_its_terms(self, cluster):
        first = cluster.join(A)
        second = cluster.join(B)
        # Nobody listens at these addresses: a probe would have it route reads elsewhere.
        router = cluster.connect(health=None)
        follows(router, second)
        assert router.transport == "grpc"
        assert router.ring.digest == second.ring.digest
        assert router.status().epoch == second.record.epoch
        for member in (first, second):
            key = key_of(router.ring, member.pod)
            with member.guard.admit(key) as admission, router.acquire(key) as route:
                assert route.pod == member.pod
                assert (route.term, route.epoch) == (admission.term, second.record.epoch)
                assert route.address == (A.grpc if member is first else B.grpc)

    def test_a_change_reaches_it_by_itself(self, cluster):
        cluster.join(A)
        router = cluster.connect()
        assert {pod.id for pod in router.ring.pods if pod.state == "active"} == {"pod-a"}
        second = cluster.join(B)
        follows(router, second)
        key = key_of(router.ring, "pod-a")
        cluster.change(drain={"pod": "pod-a"})
        until(lambda: router.ring.owner(key) == "pod-b", "the router follows the drain")
        with router.acquire(key, write=True) as route:
            assert (route.pod, route.term) == ("pod-b", route.epoch)

    def test_an_address_that_changed_is_the_one_that_counts(self, cluster):
        """The table stays as it was, and the record keeps its ring; not the pod's old address."""
        member = cluster.join(A)
        router = cluster.connect()
        member.leave()
        moved = cluster.join(Pod("pod-a", grpc="127.0.0.1:99"))
        follows(router, moved)
        with router.acquire("AAPL") as route:
            assert (route.address, route.epoch) == ("127.0.0.1:99", moved.record.epoch)

    def test_a_write_goes_to_the_owner_and_to_nobody_else(self, cluster):
        cluster.join(A)
        follows(router := cluster.connect(c=1.0, floor=0, health=None), cluster.join(B))
        key = key_of(router.ring, "pod-a")
        router.report("pod-a", "lost")
        with router.acquire(key) as route:
            assert (route.pod, route.reason) == ("pod-b", "failover")
        routes = [router.acquire(key, write=True) for _ in range(20)]
        assert {(route.pod, route.reason) for route in routes} == {("pod-a", "owner")}
        assert router.in_flight == 20
        for route in routes:
            route.release()
        assert router.in_flight == 0

    def test_a_route_has_the_tag_that_the_guard_admits(self, cluster):
        member = cluster.join(A)
        router = cluster.connect()
        with router.acquire("AAPL", write=True) as route:
            tag = route.tag
            assert (tag.slot, tag.epoch, tag.term) == (route.slot, route.epoch, route.term)
            member.guard.admit(slot=tag.slot, epoch=tag.epoch, term=tag.term).release()

    def test_a_group_is_written_at_its_leader(self, cluster):
        cluster.join(A)
        follows(router := cluster.connect(), cluster.join(B))
        with router.acquire_group("gateway") as route:
            assert (route.pod, route.slot, route.group) == ("pod-a", None, "gateway")
            assert dict(route.tag.to_metadata())["x-hashroute-group"] == "gateway"
        epoch = cluster.change(lead={"group": "gateway", "leader": "pod-b"})
        until(lambda: router.record_epoch >= epoch, "the router knows the new leader")
        with router.acquire_group("gateway") as route:
            assert (route.pod, route.term) == ("pod-b", epoch)
        with pytest.raises(hashroute.NoPodError, match="no such"):
            router.acquire_group("no such")

    def test_without_a_writer_there_is_no_route_for_writes(self, cluster):
        member = cluster.join(A)
        router = cluster.connect()
        epoch = member.drain(SECONDS_MAX)
        until(lambda: router.record_epoch >= epoch, "the router knows of the drain")
        # What is read goes where it went before: that is better than nowhere.
        with router.acquire("AAPL") as route:
            assert route.pod == "pod-a"
        with pytest.raises(hashroute.NoPodError, match=f"epoch {epoch} nobody may write"):
            router.acquire("AAPL", write=True)

    def test_it_is_stale_when_no_majority_is_heard(self, cluster):
        cluster.join(A)
        router = cluster.connect(stale_after_seconds=0.3)
        until(lambda: not router.is_stale, "the voter is heard")
        cluster.voters[0].stop(0.0)
        until(lambda: router.is_stale, "the silence is noticed")
        with router.acquire("AAPL") as route:
            assert route.pod == "pod-a"
        cluster.vote(0)
        until(lambda: not router.is_stale, "the voter is heard again")

    def test_it_waits_for_a_pod_to_join(self, cluster):
        connected = threading.Thread(
            target=cluster.connect, kwargs={"timeout_seconds": SECONDS_MAX}
        )
        connected.start()
        cluster.join(A)
        connected.join(SECONDS_MAX)
        assert not connected.is_alive()

    @pytest.mark.parametrize("is_founded", [True, False])
    def test_if_there_is_nothing_to_route_by_it_says_why(self, cluster, is_founded):
        voters = cluster.addresses if is_founded else [free_address()]
        why = "no pod has joined" if is_founded else "no voter told a record"
        with pytest.raises(hashroute.UnavailableError, match=why) as caught:
            Router.connect(voters, cluster=CLUSTER, timeout_seconds=0.3)
        assert (caught.value.code, caught.value.retry) == ("quorum_unreachable", True)

    def test_what_it_follows_is_not_changed_here(self, cluster):
        cluster.join(A)
        router = cluster.connect()
        for change in (
            lambda: router.drain("pod-a"),
            lambda: router.add("pod-z"),
            lambda: router.apply(Ring(["pod-z"])),
        ):
            with pytest.raises(hashroute.ConfigurationError, match="follows the quorum of cluster"):
                change()

    def test_after_its_end_it_routes_by_what_it_knows_and_follows_no_more(self, cluster):
        cluster.join(A)
        router = cluster.connect()
        epoch = router.record_epoch
        router.close()
        router.close()
        cluster.join(B)
        assert (router.record_epoch, router.is_stale) == (epoch, True)
        with router.acquire("AAPL") as route:
            assert route.pod == "pod-a"

    def test_a_router_that_is_forgotten_leaves_no_thread_behind(self, cluster):
        cluster.join(A)
        before = native_threads()
        router = Router.connect(cluster.addresses, cluster=CLUSTER, health=None)
        assert native_threads() - before > 0
        del router
        gc.collect()
        until(lambda: native_threads() <= before, "its threads have ended")


class TestSidecar:
    @pytest.fixture
    def sidecar(self, tmp_path):
        pods = [PodProcess("pod-a"), PodProcess("pod-b")]
        tables = "".join(f'[pods.{pod.name}]\ngrpc = "{pod.address}"\n' for pod in pods)
        listen = '[listen]\ngrpc = "127.0.0.1:0"\ncontrol = "127.0.0.1:0"\n'
        sidecar = Sidecar(tmp_path, listen + tables)
        yield sidecar
        sidecar.close()
        for pod in pods:
            pod.close()

    def test_it_routes_by_the_view_of_the_sidecar(self, sidecar):
        with Router.connect(sidecar.addresses["control"]) as router:
            status = sidecar.status()
            assert (router.ring.digest, router.ring.epoch) == (status["digest"], status["epoch"])
            assert {pod.id for pod in router.ring.pods} == {"pod-a", "pod-b"}
            key = key_of(router.ring, "pod-a")
            sidecar.command("drain", "pod-a")
            until(lambda: router.ring.owner(key) == "pod-b", "the router follows the drain")
            assert not router.is_stale
            with router.acquire(key) as route:
                assert (route.pod, route.term) == ("pod-b", route.epoch)
            with pytest.raises(hashroute.ParameterError, match="follows no quorum"):
                router.acquire(key, write=True)
            with pytest.raises(hashroute.ConfigurationError, match="follows the sidecar at"):
                router.remove("pod-a")

    def test_a_sidecar_that_is_gone_leaves_it_stale(self, sidecar):
        with Router.connect(sidecar.addresses["control"], stale_after_seconds=0.5) as router:
            sidecar.kill()
            until(lambda: router.is_stale, "the silence is noticed")
            with router.acquire("AAPL") as route:
                assert route.pod in {"pod-a", "pod-b"}

    def test_a_router_that_is_forgotten_leaves_no_thread_behind(self, sidecar):
        def following():
            return [it for it in threading.enumerate() if it.name == "hashroute-follow"]

        router = Router.connect(sidecar.addresses["control"])
        assert following()
        del router
        gc.collect()
        until(lambda: not following(), "its thread has ended")

    def test_a_sidecar_that_does_not_answer_is_named(self):
        address = free_address()
        with pytest.raises(hashroute.UnavailableError, match=address):
            Router.connect(address, timeout_seconds=0.3)

    def test_a_list_without_a_cluster_is_neither(self):
        with pytest.raises(hashroute.ParameterError, match="cluster="):
            Router.connect(["127.0.0.1:1"])


def test_a_router_of_its_own_pods_is_never_stale():
    with Router(["pod-a"]) as router:
        assert not router.is_stale
        assert router.record_epoch is None


def native_threads() -> int:
    """The threads of this process that follow and keep leases."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text(encoding="utf-8").strip())
        except FileNotFoundError:
            continue
    return sum(name in {"hr-follow", "hr-quorum"} for name in names)
