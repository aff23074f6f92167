"""Under a quorum the record is the truth: changes are of it, and a reload says where it differs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hashroute import Ring
from hashroute.cli import main
from hashroute.config import dotted
from hashroute.control_service import ControlServer
from hashroute.errors import (
    ChangeRefusedError,
    ConfigurationError,
    DeadlineExceededError,
    EmptyViewError,
    UnavailableError,
    UnknownPodError,
    WeightError,
)

from tests.python.quorum_double import ClusterDouble, view_of
from tests.python.sidecar_double import CONFIGURATION, QUORUM, SidecarDouble, controller_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hashroute.control import Controller

TEXT = CONFIGURATION + QUORUM


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hashroute.toml"


@pytest.fixture
def both(file: Path) -> tuple[Controller, SidecarDouble]:
    return controller_of(file, TEXT)


def cluster_of(sidecar: SidecarDouble) -> ClusterDouble:
    assert sidecar.cluster is not None
    return sidecar.cluster


def test_the_view_in_force_is_that_of_the_record(both) -> None:
    controller, sidecar = both
    record = cluster_of(sidecar).record
    assert controller.view().document == record["view"]
    assert controller.ring.digest == record["digest"]
    cluster_of(sidecar).change({"reweight": {"pod": "pod-c", "weight": 3.0}})
    assert controller.view().epoch == 2
    assert controller.ring.pod("pod-c").weight == 3.0


def test_before_a_record_is_known_the_files_view_counts(both) -> None:
    controller, sidecar = both
    cluster_of(sidecar).record = None
    assert [pod.id for pod in controller.ring.pods] == ["pod-a", "pod-b", "pod-c"]
    assert controller.view().epoch == 1


def test_a_cluster_that_nobody_has_joined_has_a_view_and_no_ring(both) -> None:
    controller, sidecar = both
    pods = ("pod-a", "pod-b", "pod-c")
    cluster_of(sidecar).record |= {"view": view_of(*pods, down=pods), "digest": None}
    view = controller.view()
    assert (view.digest, view.shares()) == ("", dict.fromkeys(pods, 0.0))
    with pytest.raises(EmptyViewError, match="no process of one has joined"):
        _ = controller.ring


def test_changes_go_through_the_quorum_and_not_to_the_sidecar_alone(both) -> None:
    controller, sidecar = both
    change = controller.drain("pod-b")
    assert (change.epoch_before, change.epoch) == (1, 2)
    assert change.shares["pod-b"] == 0.0
    assert change.moved_slots >= change.least_slots > 0
    undone = controller.drain("pod-b", undo=True)
    assert (undone.epoch, undone.moved_slots) == (3, change.moved_slots)
    assert undone.shares["pod-b"] > 0.3
    assert controller.reweight("pod-a", 2.0).epoch == 4
    assert controller.remove("pod-c").epoch == 5
    assert cluster_of(sidecar).changes == [
        {"drain": {"pod": "pod-b"}},
        {"activate": {"pod": "pod-b"}},
        {"reweight": {"pod": "pod-a", "weight": 2.0}},
        {"remove": {"pod": "pod-c"}},
    ]
    assert len(sidecar.told) == 1, "the sidecar learns it from the record"


def test_what_is_so_already_asks_nobody(both) -> None:
    controller, sidecar = both
    controller.drain("pod-b")
    for again in (
        lambda: controller.drain("pod-b"),
        lambda: controller.drain("pod-a", undo=True),
        lambda: controller.reweight("pod-a", 1.0),
    ):
        change = again()
        assert (change.epoch_before, change.epoch, change.moved_slots) == (2, 2, 0)
    assert len(cluster_of(sidecar).changes) == 1


@pytest.mark.parametrize(
    ("change", "error", "because"),
    [
        (lambda c: c.drain("pod-x"), UnknownPodError, "pod-a, pod-b, pod-c"),
        (lambda c: c.remove("pod-x"), UnknownPodError, "pod-x"),
        (lambda c: c.reweight("pod-x", 1.0), UnknownPodError, "pod-x"),
        (lambda c: c.reweight("pod-a", 0.0), WeightError, "weight"),
        (lambda c: c.add("pod-d", {"grpc": "h:1"}), ConfigurationError, "when its process joins"),
        (lambda c: c.drain("pod-x", undo=True), UnknownPodError, "pod-x"),
    ],
)
def test_a_change_that_no_record_can_have_is_refused(both, change, error, because: str) -> None:
    controller, sidecar = both
    with pytest.raises(error, match=because):
        change(controller)
    assert cluster_of(sidecar).changes == []


def test_a_reload_says_where_the_record_counts_instead_of_the_file(both, file: Path) -> None:
    controller, sidecar = both
    cluster_of(sidecar).change({"remove": {"pod": "pod-b"}})
    file.write_text(
        TEXT.replace('zone = "rack-2"', "weight = 2")
        .replace("[listen]", "[ring]\nslots = 1024\n[listen]")
        .replace(
            "[quorum.groups.fix]",
            '[quorum.groups.risk]\ncandidates = ["pod-a"]\n[quorum.groups.fix]',
        )
        + "[load]\nc = 2\n"
    )
    reload = controller.reload()
    assert reload.applied
    assert (reload.change, reload.undone) == (None, ())
    assert sidecar.told[-1]["load"]["c"] == 2
    assert sidecar.told[-1]["view"] == cluster_of(sidecar).record["view"]
    found = {dotted(finding.key): finding for finding in reload.findings}
    assert {finding.severity for finding in reload.findings} == {"warning"}
    assert [*found] == [
        "ring.slots",
        "pods.pod-b",
        "pods.pod-c.weight",
        "quorum.groups.risk",
    ]
    weight = found["pods.pod-c.weight"]
    assert (weight.code, weight.expected, weight.got) == ("record_counts", "1.0", "2.0")
    assert weight.suggestion == "`hashroute reweight pod-c 2`"
    assert found["pods.pod-b"].message == "the record has no such pod"
    assert found["quorum.groups.risk"].suggestion == "`hashroute quorum add-group risk pod-a`"


def test_a_reload_does_not_tell_the_node_another_thing_than_at_its_start(both, file: Path) -> None:
    controller, sidecar = both
    file.write_text(TEXT.replace('zone = "rack-2"', "weight = 2"))
    assert controller.reload().applied
    assert sidecar.told[-1]["quorum"] == sidecar.told[0]["quorum"]


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (lambda text: text.replace('pod = "pod-a"', 'pod = "pod-b"'), ["quorum.pod"]),
        (
            lambda text: text.replace('pod = "pod-a"', 'lease = "tight"'),
            ["quorum.pod", "quorum.lease"],
        ),
        (lambda _: CONFIGURATION, ["quorum"]),
        (
            lambda text: text + '[guard]\ngrpc = "0.0.0.0:9100"\ngrpc_service = "127.0.0.1:1"\n',
            ["guard.grpc", "guard.grpc_service"],
        ),
    ],
)
def test_its_part_in_the_quorum_is_fixed_while_it_runs(both, file: Path, change, keys) -> None:
    controller, sidecar = both
    file.write_text(change(TEXT))
    reload = controller.reload()
    assert not reload.applied
    fixed = [finding for finding in reload.findings if finding.code == "fixed_setting"]
    assert [dotted(finding.key) for finding in fixed] == keys
    assert len(sidecar.told) == 1


def test_a_sidecar_without_a_quorum_cannot_take_part_by_a_reload(file: Path) -> None:
    controller, _ = controller_of(file)
    file.write_text(TEXT)
    reload = controller.reload()
    assert [dotted(finding.key) for finding in reload.findings] == ["quorum"]


class Running:
    """The commands for a running sidecar against a double with a quorum."""

    def __init__(self, controller: Controller, sidecar: SidecarDouble) -> None:
        self.controller, self.sidecar = controller, sidecar
        self.cluster = cluster_of(sidecar)
        self.server = ControlServer(controller, "127.0.0.1:0")

    def run(self, *arguments: str) -> Result:
        environment = {"HASHROUTE_CONTROL": self.server.address}
        return CliRunner().invoke(main, [*arguments], env=environment, prog_name="hashroute")


@pytest.fixture
def running(both) -> Iterator[Running]:
    running = Running(*both)
    yield running
    running.server.stop()


def test_the_commands_change_the_record(running: Running) -> None:
    assert "of 65,536 slots moved" in running.run("drain", "pod-b").stdout
    assert "pod-b is active again" in running.run("drain", "--undo", "pod-b").stdout
    assert running.run("reweight", "pod-a", "2").exit_code == 0
    assert running.run("remove", "pod-c").exit_code == 0
    assert [next(iter(change)) for change in running.cluster.changes] == [
        *("drain", "activate", "reweight", "remove"),
    ]
    view = json.loads(running.run("view", "--json").stdout)
    assert Ring.from_json(json.dumps(view)).digest == running.cluster.record["digest"]


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ChangeRefusedError("not agreed in 3 tries"), 1),
        (DeadlineExceededError("no answer within 5000 ms"), 2),
        (UnavailableError("no process that can change the record can be reached"), 2),
    ],
)
def test_what_became_of_a_change_is_in_the_exit_code(
    running: Running, error: Exception, exit_code: int
) -> None:
    running.cluster.refuses = error
    result = running.run("drain", "pod-b")
    assert result.exit_code == exit_code
    assert str(error) in result.stderr
    assert "no sidecar answers" not in result.stderr


def test_what_only_a_process_can_do_does_not_hold(running: Running) -> None:
    assert running.run("add", "pod-d", "--grpc", "127.0.0.1:1").exit_code == 1


def test_status_shows_writers_terms_lease_and_trouble(running: Running) -> None:
    running.cluster.warnings[""] = ["the disk took 80 ms: move quorum.data"]
    text = running.run("status").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("quorum")]
    assert line.split("  ") == [
        *(
            "quorum desk-7",
            "epoch 1",
            "3 of 3 voters connected",
            "pod-a holds its lease, 240 ms left",
        ),
        *("40 writes admitted", "3 refused", "a new writer within 480 ms"),
    ]
    assert "slots are written by pod-a (term 1), pod-b (term 1), pod-c (term 1)" in text
    assert "fix is led by pod-a (term 1)" in text
    assert "warning: the disk took 80 ms: move quorum.data" in text
    running.cluster.without_lease.add("pod-a")
    running.cluster.is_stale = True
    text = running.run("status").stdout
    assert "pod-a holds no lease: it writes nothing" in text
    assert "stale: no majority of voters is heard" in text


def test_status_for_scripts_has_the_figures_of_the_node(running: Running) -> None:
    facts: dict[str, Any] = json.loads(running.run("status", "--json").stdout)
    assert facts["quorum"] == running.cluster.snapshot("pod-a")


def test_a_cluster_that_nobody_has_joined_can_be_looked_at(running: Running) -> None:
    pods = ("pod-a", "pod-b", "pod-c")
    record = running.cluster.record
    record |= {"view": view_of(*pods, down=pods), "digest": None, "writers": {}, "terms": {}}
    assert running.run("view").exit_code == 0
    assert running.run("status").exit_code == 0
    result = running.run("route", "EUR/USD")
    assert result.exit_code == 2
    running.cluster.record = None
    assert "not founded yet" in running.run("status").stdout
