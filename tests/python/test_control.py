"""A running sidecar can be changed and reloaded; the file is the truth, and says what it undid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hashroute import Ring
from hashroute.errors import (
    ConfigurationError,
    DuplicatePodError,
    EmptyViewError,
    UnknownPodError,
    WeightError,
)
from hashroute.views import movement

from tests.python.sidecar_double import CONFIGURATION, SidecarDouble, controller_of

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.control import Controller


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hashroute.toml"


@pytest.fixture
def controller(file: Path) -> Controller:
    return controller_of(file)[0]


@pytest.fixture
def both(file: Path) -> tuple[Controller, SidecarDouble]:
    return controller_of(file)


def test_the_view_begins_with_epoch_1_and_the_pods_of_the_file(both) -> None:
    controller, sidecar = both
    assert sidecar.told[0]["view"]["epoch"] == 1
    assert controller.ring.epoch == 1
    assert [pod.id for pod in controller.ring.pods] == ["pod-a", "pod-b", "pod-c"]
    assert controller.listening == {"grpc": "127.0.0.1:9000", "zmq": "tcp://127.0.0.1:9001"}


def test_each_change_raises_the_epoch_and_reaches_the_sidecar(both) -> None:
    controller, sidecar = both
    added = {"grpc": "127.0.0.1:1004", "weight": 2.0, "zone": "rack-2"}
    changes = [
        controller.drain("pod-b"),
        controller.drain("pod-b", undo=True),
        controller.add("pod-d", added),
        controller.reweight("pod-a", 0.5),
        controller.remove("pod-c"),
    ]
    assert [change.epoch for change in changes] == [2, 3, 4, 5, 6]
    assert [change.epoch_before for change in changes] == [1, 2, 3, 4, 5]
    assert [told["view"]["epoch"] for told in sidecar.told] == [1, 2, 3, 4, 5, 6]
    assert {pod["id"]: pod["weight"] for pod in sidecar.told[-1]["view"]["pods"]} == {
        "pod-a": 0.5,
        "pod-b": 1.0,
        "pod-d": 2.0,
    }
    assert controller.ring.pod("pod-d").zone == "rack-2"


def test_a_change_says_what_moved_and_who_owns_what(controller: Controller) -> None:
    before = controller.ring
    change = controller.drain("pod-b")
    assert change.shares["pod-b"] == 0.0
    assert sum(change.shares.values()) == pytest.approx(1.0)
    plan = before.plan(controller.ring)
    assert (change.moved_slots, change.least_slots) == (plan.moved_slots, plan.least_slots)
    assert change.moved_slots >= change.least_slots > 0


@pytest.mark.parametrize(
    "again",
    [
        lambda controller: controller.drain("pod-a"),
        lambda controller: controller.reweight("pod-b", 3.0),
        lambda controller: controller.drain("pod-c", undo=True),
    ],
)
def test_what_is_so_already_changes_nothing(both, again) -> None:
    controller, sidecar = both
    again(controller)
    epoch, told = controller.ring.epoch, len(sidecar.told)
    change = again(controller)
    assert (change.epoch, change.moved_slots) == (epoch, 0)
    assert len(sidecar.told) == told


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda c: c.drain("pod-x"), UnknownPodError),
        (lambda c: c.remove("pod-x"), UnknownPodError),
        (lambda c: c.reweight("pod-x", 1.0), UnknownPodError),
        (lambda c: c.reweight("pod-a", 0.0), WeightError),
        (lambda c: c.add("pod-a", {"grpc": "127.0.0.1:1"}), DuplicatePodError),
        (lambda c: c.add("pod-d", {}), ConfigurationError),
        (lambda c: c.add("pod-d", {"grpc": "nowhere"}), ConfigurationError),
        (lambda c: c.add("pod d", {"grpc": "127.0.0.1:1"}), ConfigurationError),
        (lambda c: c.add("pod-d", {"grpc": "127.0.0.1:1", "weight": -1.0}), ConfigurationError),
    ],
)
def test_a_refused_change_changes_nothing(both, change, error) -> None:
    controller, sidecar = both
    with pytest.raises(error):
        change(controller)
    assert controller.ring.epoch == 1
    assert len(sidecar.told) == 1


def test_the_last_pod_that_owns_slots_stays(controller: Controller) -> None:
    controller.remove("pod-a")
    controller.drain("pod-b")
    for change in (controller.drain, controller.remove):
        with pytest.raises(EmptyViewError):
            change("pod-c")
    assert controller.ring.epoch == 3


def test_an_error_of_adding_names_the_value_and_the_remedy(controller: Controller) -> None:
    with pytest.raises(ConfigurationError, match=r'pods\.pod-d\.grpc: no port.*write "host:9000"'):
        controller.add("pod-d", {"grpc": "host"})
    with pytest.raises(ConfigurationError, match="no address for grpc or zmq"):
        controller.add("pod-d", {"zone": "rack-1"})


def test_a_reload_puts_the_file_in_force(both, file: Path) -> None:
    controller, sidecar = both
    file.write_text(CONFIGURATION.replace('zone = "rack-2"', "weight = 2") + "[load]\nc = 2\n")
    reload = controller.reload()
    assert reload.applied
    assert reload.undone == ()
    assert reload.change is not None
    assert (reload.change.epoch_before, reload.change.epoch) == (1, 2)
    assert sidecar.told[-1]["load"]["c"] == 2
    assert controller.ring.pod("pod-c").weight == 2.0


def test_a_reload_of_the_same_pods_keeps_the_view(both, file: Path) -> None:
    controller, sidecar = both
    file.write_text(CONFIGURATION + "[load]\nc = 2\n")
    reload = controller.reload()
    assert (reload.applied, reload.change) == (True, None)
    assert controller.ring.epoch == 1
    assert sidecar.told[-1]["load"]["c"] == 2


def test_a_reload_undoes_what_was_changed_at_runtime_and_says_so(both) -> None:
    controller, _ = both
    digest = controller.ring.digest
    controller.drain("pod-a")
    controller.remove("pod-b")
    controller.reweight("pod-c", 4)
    controller.add("pod-d", {"grpc": "127.0.0.1:1004"})
    reload = controller.reload()
    assert reload.undone == (
        "pod-a: state draining at runtime, active again",
        "pod-b: removed at runtime, back again",
        "pod-c: weight 4.0 at runtime, 1.0 again",
        "pod-d: added at runtime, gone again",
    )
    assert controller.ring.digest == digest
    assert controller.ring.epoch == 6
    assert controller.reload().undone == ()


def test_a_reload_keeps_what_the_file_has_taken_over(both, file: Path) -> None:
    controller, _ = both
    controller.reweight("pod-c", 4)
    file.write_text(CONFIGURATION + "weight = 4\n")
    reload = controller.reload()
    assert (reload.undone, reload.change) == ((), None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[pods.pod-a]\nwieght = 1", "unknown_key"),
        ("not toml", "syntax"),
        (CONFIGURATION.replace("127.0.0.1:0", "127.0.0.1:8080", 1), "fixed_setting"),
        (
            CONFIGURATION.replace("[pods.pod-a]", 'admin = "127.0.0.1:0"\n[pods.pod-a]'),
            "fixed_setting",
        ),
    ],
)
def test_a_file_that_cannot_be_applied_changes_nothing(both, file: Path, text, code) -> None:
    controller, sidecar = both
    controller.drain("pod-a")
    in_force = (controller.loaded, controller.ring, len(sidecar.told))
    file.write_text(text)
    reload = controller.reload()
    assert not reload.applied
    assert code in [finding.code for finding in reload.findings]
    assert (controller.loaded, controller.ring, len(sidecar.told)) == in_force


@pytest.mark.parametrize(
    ("key", "value"), [("connections_max", 1), ("keepalive", '"1s"'), ("header_list_bytes", 4096)]
)
def test_limits_on_callers_are_fixed_while_it_runs(
    both, file: Path, key: str, value: object
) -> None:
    controller, sidecar = both
    file.write_text(f"{CONFIGURATION}[limits]\n{key} = {value}\n")
    reload = controller.reload()
    assert not reload.applied
    assert [finding.key for finding in reload.findings] == [("limits", key)]
    assert len(sidecar.told) == 1


def test_the_grace_of_a_stop_can_change(both, file: Path) -> None:
    controller, _ = both
    file.write_text(f'{CONFIGURATION}[limits]\nshutdown_grace = "1s"\n')
    assert controller.reload().applied
    assert controller.loaded.configuration.limits.shutdown_grace.total_seconds() == 1


def test_a_file_that_is_gone_changes_nothing(controller: Controller, file: Path) -> None:
    file.unlink()
    reload = controller.reload()
    assert not reload.applied
    assert [finding.code for finding in reload.findings] == ["unreadable"]


def test_settings_that_the_sidecar_refuses_change_nothing(both, file: Path) -> None:
    controller, sidecar = both
    sidecar.refuses = "health.interval_ms is 0"
    file.write_text(CONFIGURATION + "weight = 2\n")
    reload = controller.reload()
    assert not reload.applied
    assert [finding.message for finding in reload.findings] == ["health.interval_ms is 0"]
    assert controller.ring.epoch == 1
    sidecar.refuses = None
    assert controller.reload().applied


def test_the_status_is_the_snapshot_with_what_the_host_knows(controller: Controller) -> None:
    controller.listens("admin", "127.0.0.1:9002")
    status = controller.status()
    assert status["epoch"] == 1
    assert status["listen"]["admin"] == "127.0.0.1:9002"
    assert status["uptime_seconds"] >= 0
    assert status.keys() > {"pods", "totals", "latency", "loop_age_ms", "version"}


def test_stopping_hands_the_grace_to_the_sidecar_once(both) -> None:
    controller, sidecar = both
    assert controller.stop(2.5) is True
    assert controller.is_stopping
    controller.close()
    assert sidecar.stopped_with == 2.5


def test_movement_between_rings_of_different_slots_is_counted_in_the_finer() -> None:
    pods = ["a", "b", "c"]
    coarse, fine = Ring(pods, slots=1024), Ring(pods, slots=4096)
    moved, least = movement(coarse, fine)
    owners = [Ring.owner(ring, key) for ring in (coarse, fine) for key in range(2000)]
    differing = sum(a != b for a, b in zip(owners[:2000], owners[2000:], strict=True)) / 2000
    assert moved / 4096 == pytest.approx(differing, abs=0.05)
    assert least <= moved
    assert movement(fine, fine) == (0, 0)
