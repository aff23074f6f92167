"""What `Router` promises: where a request goes, what counts in flight, what a change disturbs."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import hashroute
import pytest
from hashroute import HealthOptions, Pod, Retries, Ring, Router

PODS = ["pod-a", "pod-b", "pod-c", "pod-d"]
SECONDS_MAX = 30.0


@pytest.fixture
def router():
    with Router(PODS) as router:
        yield router


def key_of(router: Router, pod: str) -> int:
    return next(key for key in itertools.count() if router.ring.owner(key) == pod)


def health(router: Router, pod: str) -> str:
    return next(status.health for status in router.status().pods if status.pod == pod)


class TestRoutes:
    def test_a_route_goes_to_the_owner_and_says_so(self, router):
        with router.acquire("AAPL") as route:
            assert route.pod == router.ring.owner("AAPL")
            assert route.slot == router.ring.slot("AAPL")
            assert (route.term, route.epoch, route.reason) == (1, 1, "owner")
            assert route.address is None
            assert repr(route) == f'<Route to "{route.pod}" at no address, owner>'

    def test_a_request_counts_in_flight_until_the_end_of_its_block(self, router):
        with router.acquire("AAPL"):
            with router.acquire("AAPL"):
                assert router.in_flight == 2
            assert router.in_flight == 1
        assert router.in_flight == 0

    async def test_the_same_route_serves_async_programs(self, router):
        async with router.acquire("AAPL") as route:
            assert route.pod == router.ring.owner("AAPL")
            assert router.in_flight == 1
            await asyncio.gather(*(self._hold(router, key) for key in range(10)))
        assert router.in_flight == 0

    async def _hold(self, router, key):
        async with router.acquire(key):
            assert router.in_flight > 1

    def test_an_exception_ends_the_request_and_passes_through(self, router):
        with pytest.raises(ZeroDivisionError), router.acquire("AAPL") as route:
            raise ZeroDivisionError
        assert router.in_flight == 0
        status = next(pod for pod in router.status().pods if pod.pod == route.pod)
        assert (status.requests_ok, status.requests_error, status.health) == (0, 1, "up")

    async def test_an_exception_in_an_async_block_ends_the_request(self, router):
        with pytest.raises(ZeroDivisionError):
            async with router.acquire("AAPL"):
                raise ZeroDivisionError
        assert router.in_flight == 0

    def test_a_route_that_is_forgotten_counts_no_longer(self, router):
        route = router.acquire("AAPL")
        assert router.in_flight == 1
        del route
        assert router.in_flight == 0

    def test_a_route_is_for_one_request(self, router):
        with router.acquire("AAPL") as route:
            pass
        with pytest.raises(hashroute.ClosedError, match="acquire another"), route:
            pass
        route.release()
        assert router.in_flight == 0

    def test_requests_without_a_key_are_spread_over_all_pods(self, router):
        pods = [router.acquire_any() for _ in range(200)]
        counts = [sum(route.pod == pod for route in pods) for pod in PODS]
        assert min(counts) > 30

    def test_what_is_no_key_is_refused_as_the_ring_does(self, router):
        with pytest.raises(hashroute.KeyTypeError):
            router.acquire(None)
        assert router.in_flight == 0

    def test_threads_share_a_router(self, router):
        together = threading.Barrier(4)

        def work(thread: int) -> None:
            together.wait(timeout=10)
            for key in range(500):
                with router.acquire(key * 4 + thread) as route:
                    assert route.pod in PODS

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert router.in_flight == 0
        assert sum(pod.requests_ok for pod in router.status().pods) == 2000


class TestLoad:
    def test_p3_no_pod_has_more_in_flight_than_its_bound(self):
        router = Router(PODS, c=1.25, floor=4)
        key = key_of(router, "pod-a")
        held = []
        for total in range(1, 101):
            held.append(router.acquire(key))
            for pod in router.status().pods:
                assert pod.in_flight <= max(4, math.ceil(1.25 * 0.25 * total))
        pods = router.status().pods
        assert sum(pod.in_flight for pod in pods) == 100
        assert sum(pod.spills for pod in pods) == sum(r.reason == "spill" for r in held) > 50

    def test_the_spill_follows_the_keys_preference_list(self):
        router = Router(PODS, floor=1, c=1.0)
        key = key_of(router, "pod-b")
        routes = [router.acquire(key) for _ in range(4)]
        assert [route.pod for route in routes] == list(router.ring.preference(key))

    def test_a_quiet_fleet_does_not_spill(self):
        router = Router(PODS, floor=16)
        key = key_of(router, "pod-c")
        assert {router.acquire(key).pod for _ in range(16)} == {"pod-c"}


class TestHealth:
    def test_a_refused_pod_is_passed_over_until_it_is_reported_alive(self, router):
        key = key_of(router, "pod-a")
        with router.acquire(key) as route:
            route.failed("refused")
        assert health(router, "pod-a") == "down"
        with router.acquire(key) as route:
            assert route.pod == router.ring.preference(key)[1]
            assert route.reason == "failover"
            route.succeeded()
        router.report("pod-a", "alive")
        with router.acquire(key) as route:
            assert route.pod == "pod-a"

    def test_a_lost_connection_takes_the_pod_out_of_the_way(self, router):
        router.report("pod-a", "lost")
        status = next(pod for pod in router.status().pods if pod.pod == "pod-a")
        assert (status.health, status.last_down_reason) == ("down", "connection_lost")

    def test_deadlines_in_a_row_make_a_suspect_and_an_error_does_not(self, router):
        key = key_of(router, "pod-a")
        for kind in ["error"] * 10 + ["deadline"] * 4:
            with router.acquire(key) as route:
                route.failed(kind)
        assert health(router, "pod-a") == "up"
        with router.acquire(key) as route:
            route.failed("deadline")
        assert health(router, "pod-a") == "suspect"

    def test_if_no_pod_is_well_the_owner_gets_the_request(self, router):
        for pod in PODS:
            router.report(pod, "lost")
        assert not router.has_pod_up
        with router.acquire("AAPL") as route:
            assert (route.pod, route.reason) == (router.ring.owner("AAPL"), "last_resort")

    def test_who_waits_for_a_fall_hears_of_it_at_once(self, router):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(router.wait_for_change, 0, SECONDS_MAX)
            router.report("pod-a", "lost")
            assert waiting.result(SECONDS_MAX / 2) == 1
        assert router.wait_for_change(1, 0) == 1

    def test_the_ring_is_not_rebuilt_for_a_pod_that_is_down(self, router):
        before = router.status().digest
        router.report("pod-a", "lost")
        assert router.status().digest == before
        assert router.status().epoch == 1

    @pytest.mark.parametrize("word", ["", "timeout", "REFUSED"])
    def test_an_unknown_word_is_refused_with_the_known_ones(self, router, word):
        with pytest.raises(hashroute.ParameterError, match="'refused', 'lost'"):
            router.acquire("k").failed(word)
        with pytest.raises(hashroute.ParameterError, match="'alive', 'refused' or 'lost'"):
            router.report("pod-a", word)

    def test_a_report_on_a_pod_that_left_is_ignored(self, router):
        router.report("pod-z", "lost")
        assert router.has_pod_up


class TestChanges:
    def test_a_change_disturbs_nothing_in_flight(self, router):
        with router.acquire("AAPL") as route:
            router.remove(route.pod)
            assert router.in_flight == 1
            assert route.pod not in [pod.pod for pod in router.status().pods]
        assert router.in_flight == 0

    def test_slots_that_keep_their_owner_keep_their_term(self, router):
        terms = dict.fromkeys(range(500), 1)
        owners = {key: router.ring.owner(key) for key in terms}
        for epoch, change in enumerate(
            (
                lambda: router.add("pod-e"),
                lambda: router.reweight("pod-b", 1.5),
                lambda: router.remove("pod-e"),
            ),
            start=2,
        ):
            change()
            for key, before in owners.items():
                with router.acquire(key) as route:
                    terms[key] = terms[key] if route.pod == before else epoch
                    assert (route.term, route.epoch) == (terms[key], epoch)
                    owners[key] = route.pod
        # What moved at epoch 2 went to pod-e, and moved again when that left.
        assert set(terms.values()) == {1, 3, 4}

    def test_a_drained_pod_gets_nothing_new_and_stays_in_the_view(self, router):
        router.drain("pod-a")
        assert {router.acquire(key).pod for key in range(200)} == set(PODS[1:])
        status = next(pod for pod in router.status().pods if pod.pod == "pod-a")
        assert status.state == "draining"

    def test_a_pod_keeps_its_health_over_changes_of_others(self, router):
        router.report("pod-a", "lost")
        router.reweight("pod-b", 2.0)
        assert health(router, "pod-a") == "down"

    def test_another_ring_may_be_put_in_force_but_not_an_older_one(self, router):
        ring = router.ring.add("pod-e").add("pod-f")
        router.apply(ring)
        assert router.ring is ring
        with pytest.raises(hashroute.SettingError) as caught:
            router.apply(Ring(PODS))
        assert caught.value.code == "stale_epoch"
        assert router.ring is ring
        with pytest.raises(hashroute.ArgumentTypeError):
            router.apply(PODS)

    def test_changes_from_many_threads_are_all_made(self, router):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(router.add, [f"new-{number}" for number in range(12)]))
        assert len(router.ring.pods) == 16
        assert router.ring.epoch == 13

    def test_a_change_that_cannot_be_changes_nothing(self, router):
        with pytest.raises(hashroute.UnknownPodError):
            router.remove("pod-z")
        assert router.status().epoch == 1


class TestConstruction:
    def test_the_transport_is_what_the_pods_have(self):
        assert Router(["a"]).transport == "any"
        assert Router([Pod("a", zmq="tcp://127.0.0.1:1")]).transport == "zmq"
        both = [Pod("a", zmq="tcp://127.0.0.1:1"), Pod("b", grpc="127.0.0.1:1")]
        assert Router(both, health=None).transport == "grpc"

    def test_a_pod_without_the_address_gets_no_requests(self):
        router = Router(["a", Pod("b", grpc="127.0.0.1:1")], health=None)
        assert {router.acquire(key).address for key in range(100)} == {"127.0.0.1:1"}
        with pytest.raises(hashroute.NoPodError, match="no pod of the view has an address"):
            Router(["a"], transport="grpc").acquire("k")

    def test_a_ring_keeps_its_epoch(self):
        ring = Ring(PODS).add("pod-e")
        router = Router(ring)
        assert router.ring is ring
        assert router.status().epoch == 2

    @pytest.mark.parametrize(
        "options",
        [
            {"c": 0.9},
            {"c": math.nan},
            {"c": "much"},
            {"floor": -1},
            {"floor": 1.5},
            {"transport": "carrier pigeon"},
            {"transport": 5},
            {"retries": Retries(attempts_max=0)},
            {"retries": Retries(attempts_max=9)},
            {"retries": Retries(budget_ratio=1.5)},
            {"retries": Retries(budget_reserve=-1)},
            {"transport": "grpc", "health": HealthOptions(interval_seconds=0)},
            {"transport": "grpc", "health": HealthOptions(timeout_seconds=-1)},
            {"transport": "grpc", "health": HealthOptions(timeout_seconds=math.nan)},
            {"transport": "grpc", "health": HealthOptions(probe="ping")},
        ],
    )
    def test_what_cannot_work_is_refused_at_the_call(self, options):
        with pytest.raises(hashroute.ConfigurationError):
            Router(PODS, **options)

    def test_repr_says_what_it_is(self, router):
        assert repr(router).startswith("<Router over any: <Ring of 4 pods")
