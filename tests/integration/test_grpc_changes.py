"""Changes of view and configuration under load: no call fails, and only what must moves."""

from __future__ import annotations

import asyncio
import json
import signal
from functools import partial
from typing import TYPE_CHECKING

import grpc
import pytest
from hashroute import Ring
from hashroute._proto.v1 import control_pb2, control_pb2_grpc

from tests.integration.conftest import POD_NAMES
from tests.integration.load import KEY, KEYS, Load
from tests.integration.processes import (
    SECONDS_MAX,
    UNLIMITED,
    Pod,
    Sidecar,
    configuration,
    until,
    until_true,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

RING = Ring(POD_NAMES)
PATIENT = '[health]\ntimeout = "10s"\n'
"""So patient that a busy machine takes no pod for dead: a call that leaves its home for that would
be a change that no test has asked for."""


def patient(pods: Iterable[Pod], *sections: str, **options: str) -> str:
    """A configuration of these pods by which none is dead because it is slow."""
    return configuration(pods, PATIENT, *sections, **options)


@pytest.fixture
def sidecar(shared_pods, start_sidecar):
    """A sidecar of the test's own before the shared pods, which all changes leave running."""
    return start_sidecar(patient(shared_pods))


@pytest.fixture
def control(sidecar):
    with grpc.insecure_channel(sidecar.addresses["control"], options=UNLIMITED) as channel:
        yield control_pb2_grpc.ControlStub(channel)


@pytest.fixture
def fourth_pod():
    pod = Pod("pod-d")
    yield pod
    pod.close()


def owners_seen(sidecar: Sidecar) -> dict[str, str]:
    """Who answers for each key."""
    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        describe = channel.unary_unary("/once.Pod/Describe")
        return {
            key: json.loads(describe(b"", metadata=((KEY, key),), timeout=SECONDS_MAX))["pod"]
            for key in KEYS
        }


def owners_by(ring: Ring) -> dict[str, str]:
    return {key: ring.owner(key) for key in KEYS}


def epoch_of(sidecar: Sidecar) -> int:
    return int(sidecar.status()["epoch"])


def has_digest(sidecar: Sidecar, digest: str) -> bool:
    return bool(sidecar.status()["digest"] == digest)


async def test_draining_by_the_command_line_fails_no_call(sidecar):
    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers(200)
        drained = await asyncio.to_thread(sidecar.command, "drain", "pod-b", "--json")
        assert drained.returncode == 0, drained.stderr
        before = load.answers_by_pod["pod-b"]
        await load.more_answers(400)
        # One call of each caller may have been on its way.
        assert load.answers_by_pod["pod-b"] <= before + 8
        undone = await asyncio.to_thread(sidecar.command, "drain", "pod-b", "--undo", "--json")
        assert undone.returncode == 0, undone.stderr
        await load.more_answers_of("pod-b", 20)
    assert load.failures == []


async def test_a_draining_pod_finishes_what_it_has(pods, start_sidecar):
    sidecar = start_sidecar(patient(pods))
    key = next(key for key in KEYS if RING.owner(key) == pods[0].name)
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = channel.unary_unary("/once.Pod/Wait")(
            b"drain", metadata=((KEY, key),), timeout=SECONDS_MAX
        )
        await until_true(pods[0].notes, "the call waits in the pod")
        drained = await asyncio.to_thread(sidecar.command, "drain", pods[0].name)
        assert drained.returncode == 0, drained.stderr
        assert not call.done()
        await asyncio.to_thread(pods[0].call, "Release")
        assert await call == b"drain"


async def test_a_drained_pod_is_restarted_without_a_failed_call(pods, start_sidecar):
    """What an operator does to upgrade a pod."""
    sidecar = start_sidecar(patient(pods))

    def is_idle() -> bool:
        pod = next(entry for entry in sidecar.status()["pods"] if entry["id"] == pods[0].name)
        return int(pod["in_flight"]["grpc"]) == 0

    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers_of(pods[0].name, 50)
        await asyncio.to_thread(sidecar.command, "drain", pods[0].name)
        await until_true(is_idle, "the pod has finished what it had")
        pods[0].terminate()
        assert await asyncio.to_thread(pods[0].exit_code) == 0
        pods[0].start()
        await asyncio.to_thread(sidecar.command, "drain", pods[0].name, "--undo")
        await load.more_answers_of(pods[0].name, 50)
    assert load.failures == []


async def test_adding_and_removing_a_pod_fails_no_call(sidecar, control, fourth_pod):
    grown = RING.add("pod-d")
    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers(200)
        addresses = control_pb2.Addresses(grpc=fourth_pod.address)
        added = await asyncio.to_thread(
            control.AddPod,
            control_pb2.AddPodRequest(pod=control_pb2.Pod(id="pod-d", addresses=addresses)),
        )
        await load.more_answers_of("pod-d", 50)
        assert await asyncio.to_thread(owners_seen, sidecar) == owners_by(grown)
        await asyncio.to_thread(control.RemovePod, control_pb2.RemovePodRequest(id="pod-d"))
        assert await asyncio.to_thread(owners_seen, sidecar) == owners_by(RING)
        await load.more_answers(200)
    assert load.failures == []
    assert added.change.moved_slots == RING.plan(grown).moved_slots


async def test_reweighting_a_pod_fails_no_call(sidecar, control):
    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers(200)
        await asyncio.to_thread(
            control.ReweightPod, control_pb2.ReweightPodRequest(id="pod-a", weight=3.0)
        )
        assert await asyncio.to_thread(owners_seen, sidecar) == owners_by(
            RING.reweight("pod-a", 3.0)
        )
        await load.more_answers(200)
    assert load.failures == []


def test_a_slot_keeps_its_term_until_it_moves(sidecar, control, fourth_pod):
    """The term is the epoch at which the present owner got the slot."""
    control.AddPod(
        control_pb2.AddPodRequest(
            pod=control_pb2.Pod(
                id="pod-d", addresses=control_pb2.Addresses(grpc=fourth_pod.address)
            )
        )
    )
    grown = RING.add("pod-d")
    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        describe = channel.unary_unary("/once.Pod/Describe")
        for key in KEYS:
            answer = describe(b"", metadata=((KEY, key),), timeout=SECONDS_MAX)
            told = dict(json.loads(answer)["metadata"])
            assert told["x-hashroute-epoch"] == "2"
            moved = RING.owner(key) != grown.owner(key)
            assert told["x-hashroute-term"] == ("2" if moved else "1")


@pytest.mark.parametrize(
    ("method", "request_message", "code"),
    [
        ("DrainPod", control_pb2.DrainPodRequest(id="pod-z"), grpc.StatusCode.NOT_FOUND),
        ("RemovePod", control_pb2.RemovePodRequest(id="pod-z"), grpc.StatusCode.NOT_FOUND),
        (
            "AddPod",
            control_pb2.AddPodRequest(
                pod=control_pb2.Pod(id="pod-a", addresses=control_pb2.Addresses(grpc="127.0.0.1:1"))
            ),
            grpc.StatusCode.ALREADY_EXISTS,
        ),
        (
            "ReweightPod",
            control_pb2.ReweightPodRequest(id="pod-a", weight=float("nan")),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_changes_nothing(
    sidecar, control, method, request_message, code
):
    with pytest.raises(grpc.RpcError) as raised:
        getattr(control, method)(request_message, timeout=SECONDS_MAX)
    assert raised.value.code() is code
    assert raised.value.details()
    status = sidecar.status()
    assert (status["epoch"], status["digest"]) == (1, RING.digest)


def test_draining_an_unknown_pod_by_the_command_line_names_the_pods(sidecar):
    done = sidecar.command("drain", "pod-aa")
    assert done.returncode == 1
    assert "pod-aa" in done.stderr
    assert "pod-a" in done.stderr.replace("pod-aa", "")


async def test_a_reload_under_load_fails_no_call(sidecar, shared_pods, fourth_pod):
    everyone = [*shared_pods, fourth_pod]
    async with Load(sidecar.address, "/once.Pod/Echo") as load:
        await load.more_answers(200)
        for members in (everyone, shared_pods, everyone[1:], everyone):
            sidecar.write(patient(members))
            sidecar.hang_up()
            ring = Ring([pod.name for pod in members])
            await until_true(partial(has_digest, sidecar, ring.digest), "the file is in force")
            assert await asyncio.to_thread(owners_seen, sidecar) == owners_by(ring)
            await load.more_answers(100)
    assert load.failures == []


async def test_a_reload_through_the_control_api_puts_new_routes_in_force(
    sidecar, control, shared_pods
):
    strict = '[[routes]]\nmatch = "/once.Pod/*"\nkey = ["metadata:x-client"]\n'
    sidecar.write(patient(shared_pods, routes=strict))
    answer = control.Reload(control_pb2.ReloadRequest(), timeout=SECONDS_MAX)
    assert answer.applied
    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        echo = channel.unary_unary("/once.Pod/Echo")
        with pytest.raises(grpc.RpcError) as raised:
            echo(b"", metadata=((KEY, "old name"),), timeout=SECONDS_MAX)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "x-client" in raised.value.details()
        assert echo(b"ok", metadata=(("x-client", "me"),), timeout=SECONDS_MAX) == b"ok"


@pytest.mark.parametrize(
    ("broken", "because"),
    [
        ("[listen\n", "line"),
        ("[lissten]\n", "lissten"),
        ("", "pods"),
        ('[pods.pod-a]\ngrpc = "127.0.0.1:1"\nweight = -1\n', "weight"),
        ("\udcff", "UTF-8"),
    ],
    ids=["syntax", "unknown-table", "no-pods", "weight", "not-utf-8"],
)
def test_a_bad_file_is_refused_with_its_reason_and_changes_nothing(
    sidecar, control, broken, because
):
    sidecar.file.write_bytes(broken.encode("utf-8", "surrogateescape"))
    answer = control.Reload(control_pb2.ReloadRequest(), timeout=SECONDS_MAX)
    assert not answer.applied
    assert any(finding.severity == "error" for finding in answer.findings)
    sidecar.hang_up()
    until(lambda: "reload refused" in sidecar.printed(), "the log says that nothing changed")
    assert because in sidecar.printed()
    assert owners_seen(sidecar) == owners_by(RING)
    assert epoch_of(sidecar) == 1


def test_the_address_to_listen_on_cannot_change(sidecar, control, shared_pods):
    text = patient(shared_pods).replace('grpc = "127.0.0.1:0"', 'grpc = "127.0.0.1:1"', 1)
    sidecar.write(text)
    answer = control.Reload(control_pb2.ReloadRequest(), timeout=SECONDS_MAX)
    assert not answer.applied
    assert any("listen" in finding.key + finding.message for finding in answer.findings)
    assert owners_seen(sidecar) == owners_by(RING)


async def test_terminating_finishes_what_is_in_flight_and_exits_0(pods, start_sidecar):
    sidecar = start_sidecar(patient(pods))
    async with grpc.aio.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = channel.unary_unary("/once.Pod/Wait")(b"finish", timeout=SECONDS_MAX)
        stream = channel.stream_stream("/once.Pod/Chat")(timeout=SECONDS_MAX)
        await stream.write(b"one")
        assert await stream.read() == b"heard one"
        await until_true(lambda: any(pod.notes() for pod in pods), "the call waits in a pod")
        sidecar.terminate()
        await until_true(lambda: "stopping" in sidecar.printed(), "it has begun to stop")
        await stream.write(b"two")
        assert await stream.read() == b"heard two"
        await stream.done_writing()
        for pod in pods:
            await asyncio.to_thread(pod.call, "Release")
        assert await call == b"finish"
        assert await stream.code() is grpc.StatusCode.OK
    assert await asyncio.to_thread(sidecar.exit_code) == 0


def test_terminating_ends_within_its_limit_whatever_is_in_flight(shared_pods, start_sidecar):
    sidecar = start_sidecar(patient(shared_pods, '[limits]\nshutdown_grace = "200ms"\n'))
    with grpc.insecure_channel(sidecar.address, options=UNLIMITED) as channel:
        call = channel.unary_unary("/once.Pod/Hang").future(b"for ever")
        until(
            lambda: any("hang for ever" in pod.notes() for pod in shared_pods),
            "the call reaches a pod",
        )
        sidecar.terminate()
        assert sidecar.exit_code() == 0
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_signals_that_come_faster_than_they_are_served_do_no_harm(sidecar):
    for _ in range(100):
        sidecar.hang_up()
    until(lambda: "reloaded" in sidecar.printed(), "the first of them is served")
    sidecar.terminate()
    assert sidecar.exit_code() == 0


def test_an_interrupt_ends_it_like_a_termination(sidecar):
    sidecar.process.send_signal(signal.SIGINT)
    assert sidecar.exit_code() == 0
