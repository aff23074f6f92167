"""The control API answers over gRPC as its contract says."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from hashroute._proto.v1 import control_pb2 as pb
from hashroute._proto.v1.control_pb2_grpc import ControlStub
from hashroute.control_service import WATCHERS_MAX, ControlServer
from hashroute.errors import StartError

from tests.python.sidecar_double import CONFIGURATION, controller_of

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hashroute.toml"


@pytest.fixture
def stub(file: Path):
    controller, _ = controller_of(file)
    server = ControlServer(controller, "127.0.0.1:0")
    with grpc.insecure_channel(server.address) as channel:
        yield ControlStub(channel)
    server.stop()


def refusal(call, request) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=SECONDS_MAX)
    return raised.value.code(), dict(raised.value.trailing_metadata() or ())["hashroute-error"]


def test_generated_modules_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools/protos.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_view_has_every_pod_with_its_state_and_addresses(stub: ControlStub) -> None:
    view = stub.GetView(pb.GetViewRequest(), timeout=SECONDS_MAX).view
    assert (view.epoch, view.slots, view.epsilon, view.seed) == (1, 65536, 0.05, 0)
    assert [pod.id for pod in view.pods] == ["pod-a", "pod-b", "pod-c"]
    assert view.pods[0].state == pb.POD_STATE_ACTIVE
    assert view.pods[0].addresses.grpc == "127.0.0.1:1001"
    assert not view.pods[0].HasField("zone")
    assert view.pods[2].zone == "rack-2"


def test_the_status_carries_every_figure_of_the_snapshot(stub: ControlStub) -> None:
    status = stub.GetStatus(pb.GetStatusRequest(), timeout=SECONDS_MAX).status
    assert status.totals.by_status[1].code == "UNAVAILABLE"
    assert status.latency[0].buckets[1] == pb.Latency.Bucket(upper_bound=0.01, count=5)
    assert dict(status.loop_age_ms) == {"grpc": 1, "zmq": 2, "probe": 3}
    pod = status.pods[0]
    assert (pod.spills, pod.failovers, pod.retries) == (2, 3, 1)
    assert pod.requests["grpc"] == pb.Ended(ok=5, error=1)
    assert dict(pod.health_by_transport) == {"grpc": "up", "zmq": "up"}
    assert not pod.HasField("down_since_ms")
    assert status.listen["grpc"] == "127.0.0.1:9000"


def test_changes_answer_with_what_they_did(stub: ControlStub) -> None:
    added = pb.Pod(id="pod-d", weight=2, addresses=pb.Addresses(grpc="127.0.0.1:9"))
    changes = [
        stub.DrainPod(pb.DrainPodRequest(id="pod-a"), timeout=SECONDS_MAX).change,
        stub.DrainPod(pb.DrainPodRequest(id="pod-a", undo=True), timeout=SECONDS_MAX).change,
        stub.AddPod(pb.AddPodRequest(pod=added), timeout=SECONDS_MAX).change,
        stub.ReweightPod(pb.ReweightPodRequest(id="pod-b", weight=3), timeout=SECONDS_MAX).change,
        stub.RemovePod(pb.RemovePodRequest(id="pod-c"), timeout=SECONDS_MAX).change,
    ]
    assert [change.epoch for change in changes] == [2, 3, 4, 5, 6]
    assert all(change.moved_slots >= change.least_slots > 0 for change in changes)
    assert set(changes[-1].shares) == {"pod-a", "pod-b", "pod-d"}


def test_a_pod_added_as_draining_owns_nothing(stub: ControlStub) -> None:
    pod = pb.Pod(
        id="pod-d", state=pb.POD_STATE_DRAINING, addresses=pb.Addresses(zmq="tcp://127.0.0.1:9")
    )
    change = stub.AddPod(pb.AddPodRequest(pod=pod), timeout=SECONDS_MAX).change
    assert change.moved_slots == 0
    assert change.shares["pod-d"] == 0


def test_each_refusal_has_its_status_and_its_code(stub: ControlStub) -> None:
    unknown = (grpc.StatusCode.NOT_FOUND, "unknown_pod")
    assert refusal(stub.DrainPod, pb.DrainPodRequest(id="x")) == unknown
    assert refusal(stub.RemovePod, pb.RemovePodRequest(id="x")) == unknown
    twice = pb.Pod(id="pod-a", addresses=pb.Addresses(grpc="127.0.0.1:9"))
    assert refusal(stub.AddPod, pb.AddPodRequest(pod=twice)) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "duplicate_pod",
    )
    assert refusal(stub.AddPod, pb.AddPodRequest(pod=pb.Pod(id="pod-d"))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "configuration",
    )
    stub.RemovePod(pb.RemovePodRequest(id="pod-a"), timeout=SECONDS_MAX)
    stub.RemovePod(pb.RemovePodRequest(id="pod-b"), timeout=SECONDS_MAX)
    assert refusal(stub.DrainPod, pb.DrainPodRequest(id="pod-c")) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "no_eligible_pod",
    )


def test_concurrent_changes_are_made_one_after_another(stub: ControlStub) -> None:
    def add(index: int) -> int:
        pod = pb.Pod(id=f"more-{index}", addresses=pb.Addresses(grpc=f"127.0.0.1:{3000 + index}"))
        return stub.AddPod(pb.AddPodRequest(pod=pod), timeout=SECONDS_MAX).change.epoch

    with ThreadPoolExecutor(8) as threads:
        epochs = list(threads.map(add, range(16)))
    assert sorted(epochs) == list(range(2, 18))
    assert len(stub.GetView(pb.GetViewRequest(), timeout=SECONDS_MAX).view.pods) == 19


def test_a_reload_answers_with_findings_and_what_it_undid(stub: ControlStub, file: Path) -> None:
    stub.DrainPod(pb.DrainPodRequest(id="pod-a"), timeout=SECONDS_MAX)
    file.write_text(CONFIGURATION.replace("weight", "x") + "wieght = 2\n")
    refused = stub.Reload(pb.ReloadRequest(), timeout=SECONDS_MAX)
    assert not refused.applied
    assert not refused.HasField("change")
    (finding,) = refused.findings
    assert (finding.key, finding.suggestion) == ("pods.pod-c.wieght", "weight")
    assert finding.position.line == len(CONFIGURATION.splitlines()) + 1

    file.write_text(CONFIGURATION)
    reloaded = stub.Reload(pb.ReloadRequest(), timeout=SECONDS_MAX)
    assert reloaded.applied
    assert reloaded.change.epoch == 3
    assert list(reloaded.undone) == ["pod-a: state draining at runtime, active again"]


def test_a_watch_goes_on_until_it_is_cancelled(stub: ControlStub) -> None:
    watch = stub.WatchStatus(pb.WatchStatusRequest(interval_ms=50), timeout=SECONDS_MAX)
    first = next(watch).status
    stub.DrainPod(pb.DrainPodRequest(id="pod-a"), timeout=SECONDS_MAX)
    while (later := next(watch).status).epoch == first.epoch:
        pass
    assert later.epoch == 2
    watch.cancel()
    with pytest.raises(grpc.RpcError) as raised:
        list(watch)
    assert raised.value.code() == grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("interval_ms", [1, 49, 60_001])
def test_a_watch_of_another_interval_is_refused(stub: ControlStub, interval_ms: int) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        next(stub.WatchStatus(pb.WatchStatusRequest(interval_ms=interval_ms), timeout=SECONDS_MAX))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_watches_are_bounded_and_never_keep_others_from_being_answered(stub: ControlStub) -> None:
    watches = [stub.WatchStatus(pb.WatchStatusRequest()) for _ in range(WATCHERS_MAX)]
    for watch in watches:
        next(watch)
    with pytest.raises(grpc.RpcError) as raised:
        next(stub.WatchStatus(pb.WatchStatusRequest()))
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    stub.GetStatus(pb.GetStatusRequest(), timeout=SECONDS_MAX)
    for watch in watches:
        watch.cancel()


def test_stopping_ends_the_watches_however_long_their_interval(file: Path) -> None:
    controller, _ = controller_of(file)
    server = ControlServer(controller, "127.0.0.1:0")
    with grpc.insecure_channel(server.address) as channel:
        watch = ControlStub(channel).WatchStatus(pb.WatchStatusRequest(interval_ms=60_000))
        next(watch)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert list(watch) == []
        assert watch.code() == grpc.StatusCode.OK
        stopper.join(SECONDS_MAX)
        assert not stopper.is_alive()


def test_a_port_in_use_is_a_clear_error(file: Path) -> None:
    controller, _ = controller_of(file)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=r"listen\.control") as raised:
            ControlServer(controller, address)
    assert raised.value.address == address


def test_two_sidecars_never_share_a_control_port(file: Path) -> None:
    controller, _ = controller_of(file)
    server = ControlServer(controller, "127.0.0.1:0")
    with pytest.raises(StartError):
        ControlServer(controller, server.address)
    server.stop()
