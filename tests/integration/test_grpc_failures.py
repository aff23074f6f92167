"""What callers see while pods die, freeze and leave: nothing, or the truth (promises P5 and P6)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import grpc
import pytest
from hashroute import Ring

from tests.integration.conftest import POD_NAMES
from tests.integration.load import KEY, KEYS, Load
from tests.integration.processes import (
    SECONDS_MAX,
    UNLIMITED,
    Pod,
    configuration,
    until,
    until_true,
)

RING = Ring(POD_NAMES)


@pytest.fixture
def sidecar(pods, start_sidecar):
    return start_sidecar(configuration(pods))


def pod_named(pods: list[Pod], name: str) -> Pod:
    return next(pod for pod in pods if pod.name == name)


def health_of(sidecar, pod: Pod) -> str:
    return next(entry["health"] for entry in sidecar.status()["pods"] if entry["id"] == pod.name)


def call_of(channel: grpc.aio.Channel, method: str, pod: Pod):
    """Makes one call whose key this pod owns."""
    key = next(key for key in KEYS if RING.owner(key) == pod.name)
    return channel.unary_unary(method)(key.encode(), metadata=((KEY, key),), timeout=SECONDS_MAX)


async def read_to_end(call) -> None:
    while await call.read():
        pass


async def outcome_of(call) -> tuple[grpc.StatusCode, str | None]:
    """What a call ended in, with what the sidecar says of its effect."""
    code = await call.code()
    trailers = dict(await call.trailing_metadata() or ())
    return code, trailers.get("x-hashroute-outcome")


async def test_killing_a_pod_fails_no_idempotent_call(pods, sidecar):
    async with Load(sidecar.address, "/safe.Pod/Echo") as load:
        await load.more_answers(300)
        pods[0].kill()
        await load.more_answers(600)
        pods[0].start()
        await load.more_answers_of(pods[0].name, 50)
    assert load.failures == []


async def test_freezing_a_pod_fails_no_idempotent_call(pods, sidecar):
    async with Load(sidecar.address, "/safe.Pod/Echo") as load:
        await load.more_answers(300)
        pods[1].freeze()
        await load.more_answers(600)
        pods[1].thaw()
        await load.more_answers_of(pods[1].name, 50)
    assert load.failures == []


async def test_only_the_keys_of_a_dead_pod_move_and_all_come_back(pods, sidecar):
    def owners_now() -> dict[str, str]:
        with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
            describe = channel.unary_unary("/safe.Pod/Describe")
            return {
                key: json.loads(describe(b"", metadata=((KEY, key),), timeout=SECONDS_MAX))["pod"]
                for key in KEYS[:64]
            }

    dead = pods[2]
    dead.kill()
    without = await asyncio.to_thread(owners_now)
    for key, pod in without.items():
        # The heir is the next in the key's preference list, so that callers agree on it.
        owner, heir = RING.preference(key, 2)
        assert pod == (heir if owner == dead.name else owner)
    dead.start()
    await until_true(lambda: health_of(sidecar, dead) == "up", "the pod is found again")
    assert await asyncio.to_thread(owners_now) == {key: RING.owner(key) for key in without}


async def test_a_killed_pods_calls_in_flight_move_if_idempotent(pods, sidecar):
    dead = pods[0]
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = call_of(channel, "/safe.Pod/Wait", dead)
        await until_true(dead.notes, "the call waits in the pod that will die")
        for pod in pods[1:]:
            await asyncio.to_thread(pod.call, "Release")
        dead.kill()
        assert (await call).startswith(b"key-")


async def test_a_frozen_pods_calls_in_flight_move_if_idempotent(pods, sidecar):
    frozen = pods[0]
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = call_of(channel, "/safe.Pod/Wait", frozen)
        await until_true(frozen.notes, "the call waits in the pod that will freeze")
        for pod in pods[1:]:
            await asyncio.to_thread(pod.call, "Release")
        frozen.freeze()
        assert (await call).startswith(b"key-")


async def test_a_killed_pods_calls_in_flight_are_unknown_if_not_idempotent(pods, sidecar):
    dead = pods[0]
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = call_of(channel, "/once.Pod/Wait", dead)
        await until_true(dead.notes, "the call waits in the pod that will die")
        dead.kill()
        assert await outcome_of(call) == (grpc.StatusCode.UNAVAILABLE, "unknown")
    for pod in pods[1:]:
        assert pod.notes() == [], "the call was made twice"


async def test_a_frozen_pods_calls_in_flight_wait_if_not_idempotent(pods, sidecar):
    frozen = pods[0]
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = call_of(channel, "/once.Pod/Wait", frozen)
        await until_true(frozen.notes, "the call waits in the pod that will freeze")
        frozen.freeze()
        await until_true(lambda: health_of(sidecar, frozen) == "down", "the pod is found frozen")
        assert not call.done()
        frozen.thaw()
        await asyncio.to_thread(frozen.call, "Release")
        assert (await call).startswith(b"key-")
    for pod in pods[1:]:
        assert pod.notes() == [], "the call was made twice"


async def test_a_call_whose_answer_began_is_never_made_again(pods, sidecar):
    """Idempotent or not: the caller already holds a part of the first answer."""
    dead = pods[0]
    key = next(key for key in KEYS if RING.owner(key) == dead.name)
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = channel.unary_stream("/safe.Pod/Flood")(
            b"1000000", metadata=((KEY, key),), timeout=SECONDS_MAX
        )
        assert await call.read()
        dead.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await read_to_end(call)
        assert await outcome_of(call) == (grpc.StatusCode.UNAVAILABLE, "unknown")


async def test_killing_a_pod_under_load_says_the_outcome_of_every_lost_call(pods, sidecar):
    async with Load(sidecar.address, "/once.Pod/Echo", callers=32) as load:
        await load.more_answers(300)
        pods[0].kill()
        await load.more_answers(600)
        pods[0].start()
        await load.more_answers_of(pods[0].name, 50)
    for failure in load.failures:
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.outcome in {"unknown", "not-applied"}
        assert failure.details


async def test_a_pod_that_stops_loses_only_what_it_cancels_itself(pods, sidecar):
    """A gRPC server that stops answers CANCELLED to calls that come to it meanwhile; that is its
    answer, and passes. What it did not take was certainly not applied, and goes elsewhere."""
    async with Load(sidecar.address, "/once.Pod/Echo", callers=32) as load:
        await load.more_answers(300)
        pods[0].terminate()
        assert await asyncio.to_thread(pods[0].exit_code) == 0
        await load.more_answers(600)
        pods[0].start()
        await load.more_answers_of(pods[0].name, 50)
    assert {(failure.code, failure.outcome) for failure in load.failures} <= {
        (grpc.StatusCode.CANCELLED, None)
    }


async def test_without_any_pod_calls_fail_at_once_and_were_not_applied(pods, sidecar):
    for pod in pods:
        pod.kill()
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        for method in ("/safe.Pod/Echo", "/once.Pod/Echo"):
            call = channel.unary_unary(method)(b"", timeout=SECONDS_MAX)
            assert await outcome_of(call) == (grpc.StatusCode.UNAVAILABLE, "not-applied")
        pods[0].start()
        echo = channel.unary_unary("/once.Pod/Echo")
        await until_true(lambda: health_of(sidecar, pods[0]) == "up", "the pod is found again")
        assert await echo(b"back", timeout=SECONDS_MAX) == b"back"


async def test_a_pod_that_cannot_be_reached_at_start_costs_nothing(pods, start_sidecar):
    pods[1].kill()
    sidecar = start_sidecar(configuration(pods))
    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers(300)
        pods[1].start()
        await load.more_answers_of(pods[1].name, 50)
    assert load.failures == []


async def test_a_pod_that_says_it_does_not_serve_gets_nothing_until_it_does(pods, sidecar):
    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers_of(pods[0].name, 50)
        await asyncio.to_thread(pods[0].call, "Serve", b"no")
        await until_true(lambda: health_of(sidecar, pods[0]) == "down", "the pod is passed over")
        before = load.answers_by_pod[pods[0].name]
        await load.more_answers(300)
        # Calls that were on their way when the pod turned down may still have ended there.
        assert load.answers_by_pod[pods[0].name] <= before + 8
        await asyncio.to_thread(pods[0].call, "Serve", b"yes")
        await load.more_answers_of(pods[0].name, 50)
    assert load.failures == []


def test_a_pod_that_accepts_and_never_answers_is_down(pods, start_sidecar):
    """Its port is open, nobody is behind it."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        pods[0].kill()
        pods[0].address = f"127.0.0.1:{silent.getsockname()[1]}"
        sidecar = start_sidecar(configuration(pods))
        until(lambda: health_of(sidecar, pods[0]) == "down", "the silent pod is found")
        with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
            echo = channel.unary_unary("/safe.Pod/Echo")
            for key in KEYS[:32]:
                assert echo(key.encode(), metadata=((KEY, key),), timeout=SECONDS_MAX)
