"""The commands for a running sidecar: what they change, print, and how they exit."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hashroute import Ring
from hashroute.cli import main
from hashroute.control_service import ControlServer

from tests.python.sidecar_double import CONFIGURATION, SidecarDouble, controller_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hashroute.control import Controller

SECONDS_MAX = 30


# Tests that run in the background have Ctrl-C ignored, and so would what they start.
PROGRAM = """
import signal
from hashroute.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main(prog_name="hashroute")
"""


class Running:
    """A stand-in for a sidecar behind a real control API, and the commands against it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.controller: Controller
        self.sidecar: SidecarDouble
        self.controller, self.sidecar = controller_of(file)
        self.server = ControlServer(self.controller, "127.0.0.1:0")

    def run(self, *arguments: str) -> Result:
        environment = {"HASHROUTE_CONTROL": self.server.address}
        return CliRunner().invoke(main, [*arguments], env=environment, prog_name="hashroute")

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "hashroute.toml")
    yield running
    running.server.stop()


def test_status_shows_every_pod(running: Running) -> None:
    running.sidecar.health[("pod-b", "grpc")] = "down"
    running.controller.drain("pod-c")
    lines = running.run("status").stdout.splitlines()
    assert lines[0].startswith(f"epoch 2  digest {running.controller.ring.digest}  65,536 slots")
    rows = {line.split()[0]: line.split() for line in lines[-3:]}
    assert rows["pod-a"][1:3] == ["active", "up"]
    assert rows["pod-b"][1:3] == ["active", "down"]
    assert rows["pod-b"][-3:] == ["1.5", "s", "refused"]
    assert rows["pod-c"][1:3] == ["draining", "up"]


def test_status_for_scripts_is_the_status_with_numbers_as_numbers(running: Running) -> None:
    status = running.json("status")
    wanted = running.controller.status()
    assert status["digest"] == wanted["digest"]
    assert status["totals"] == wanted["totals"]
    assert status["pods"] == wanted["pods"]
    assert status["loop_age_ms"] == wanted["loop_age_ms"]
    assert status["latency"][0]["buckets"][0] == {"upper_bound": 0.001, "count": 3}


def test_status_ready_holds_only_with_a_pod_up_on_each_transport(running: Running) -> None:
    assert running.run("status", "--ready").exit_code == 0
    running.sidecar.health = {(f"pod-{name}", "zmq"): "down" for name in "abc"}
    assert running.run("status").exit_code == 0
    assert running.run("status", "--ready").exit_code == 1
    running.sidecar.health = {("pod-a", "grpc"): "down"}
    assert running.run("status", "--ready").exit_code == 0
    running.controller.drain("pod-b")
    running.controller.drain("pod-c")
    assert running.run("status", "--ready").exit_code == 1


def watch(
    running: Running, *options: str, terminal_kind: str = "xterm", **more: Any
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, "status", "--watch", "--interval-ms", "50"]
    control = running.server.address
    environment = {**os.environ, "HASHROUTE_CONTROL": control, "TERM": terminal_kind}
    return subprocess.Popen([*command, *options], env=environment, text=True, **more)


def test_status_watch_goes_on_until_it_is_interrupted(running: Running) -> None:
    with watch(running, "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(SECONDS_MAX) == 0
    assert looks[0]["epoch"] == 1
    assert looks[0]["uptime_seconds"] < looks[2]["uptime_seconds"]


def test_status_watch_writes_one_table_after_another_to_a_file(running: Running) -> None:
    with watch(running, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(2):
            while not process.stdout.readline().startswith("pod-c"):
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(SECONDS_MAX) == 0


@pytest.mark.parametrize(("kind", "redraws"), [("xterm", True), ("dumb", False)])
def test_status_watch_redraws_on_a_terminal_that_can(
    running: Running, kind: str, *, redraws: bool
) -> None:
    controlling, terminal = pty.openpty()
    with watch(running, stdin=terminal, stdout=terminal, terminal_kind=kind) as process:
        os.close(terminal)
        seen = b""
        while b"pod-c" not in seen:
            seen += os.read(controlling, 4096)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the terminal is gone with its last program
            while os.read(controlling, 4096):
                pass
        assert process.wait(SECONDS_MAX) == 0
    os.close(controlling)
    assert (b"\x1b[" in seen) == redraws


def test_view_for_scripts_is_what_a_ring_is_built_of(running: Running) -> None:
    running.controller.drain("pod-c")
    ring = Ring.from_json(json.dumps(running.json("view")))
    assert ring == running.controller.ring
    assert ring.epoch == 2
    assert running.run("view").stdout.splitlines()[2].split() == [
        *("pod-a", "active", "1", "127.0.0.1:1001", "tcp://127.0.0.1:2001")
    ]


def test_route_and_plan_ask_the_running_sidecar(running: Running) -> None:
    ring = running.controller.ring
    assert running.json("route", "EUR/USD")[0]["owner"] == ring.owner("EUR/USD")
    facts = running.json("plan", "--remove", "pod-b")
    assert facts["digest_before"] == ring.digest
    assert facts["digest_after"] == ring.remove("pod-b").digest
    assert running.controller.ring is ring


def test_drain_gives_the_slots_away_and_undo_takes_them_back(running: Running) -> None:
    digest = running.controller.ring.digest
    change = running.json("drain", "pod-b")
    assert (change["epoch"], change["shares"]["pod-b"]) == (2, 0.0)
    text = running.run("drain", "pod-b").stdout
    assert "it was so already" in text
    assert "pod-b is active again" in running.run("drain", "--undo", "pod-b").stdout
    assert running.controller.ring.digest == digest


def test_drain_waits_until_nothing_is_in_flight(running: Running) -> None:
    running.sidecar.in_flight["pod-b"] = 2
    late = running.run("drain", "--wait-seconds", "0.3", "pod-b")
    assert late.exit_code == 1
    assert "pod-b has not finished in 0.3 s" in late.stderr
    running.sidecar.in_flight["pod-b"] = 0
    assert running.run("drain", "--wait-seconds", str(SECONDS_MAX), "pod-b").exit_code == 0


def test_add_reweight_and_remove_change_the_view(running: Running) -> None:
    added = ("--grpc", "127.0.0.1:9", "--zmq", "tcp://127.0.0.1:8", "--zone", "r", "--weight", "2")
    assert running.json("add", "pod-d", *added)["epoch"] == 2
    pod = running.controller.ring.pod("pod-d")
    assert (pod.grpc, pod.zmq, pod.zone, pod.weight) == (
        *("127.0.0.1:9", "tcp://127.0.0.1:8", "r", 2.0),
    )
    assert running.json("reweight", "pod-d", "0.5")["epoch"] == 3
    assert running.controller.ring.pod("pod-d").weight == 0.5
    text = running.run("remove", "pod-d").stdout
    assert text.startswith("pod-d removed: ")
    assert "of 65,536 slots moved" in text
    assert [pod.id for pod in running.controller.ring.pods] == ["pod-a", "pod-b", "pod-c"]


@pytest.mark.parametrize(
    ("command", "because"),
    [
        (("drain", "pod-x"), "pod-x"),
        (("remove", "pod-x"), "pod-x"),
        (("reweight", "--", "pod-a", "-1"), "weight"),
        (("add", "pod-a", "--grpc", "127.0.0.1:9"), "pod-a"),
        (("add", "pod-d"), "no address"),
        (("add", "pod-d", "--grpc", "host"), "no port"),
    ],
)
def test_a_refused_change_does_not_hold(running: Running, command, because: str) -> None:
    result = running.run(*command)
    assert result.exit_code == 1, result.output
    assert because in result.stderr
    assert running.controller.ring.epoch == 1


def test_reload_shows_what_it_undid(running: Running) -> None:
    running.controller.drain("pod-b")
    result = running.run("reload")
    assert result.exit_code == 0
    assert "undone: pod-b: state draining at runtime, active again" in result.stdout
    assert "reloaded: epoch 3" in result.stdout
    assert "the view is as before" in running.run("reload").stdout


def test_a_refused_reload_shows_every_error(running: Running) -> None:
    running.file.write_text(CONFIGURATION + "wieght = 2\n[health]\ntimeout = 5\n")
    result = running.run("reload")
    assert result.exit_code == 1
    assert "error: pods.pod-c.wieght: no such key" in result.stdout
    assert "    write     weight" in result.stdout
    assert "health.timeout" in result.stdout
    assert "refused: the configuration before stays in force" in result.stdout
    facts = json.loads(running.run("reload", "--json").stdout)
    assert facts["applied"] is False
    assert [finding["code"] for finding in facts["findings"]] == ["unknown_key", "duration"]


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--watch"),
        ("view",),
        ("drain", "pod-a"),
        ("add", "pod-d", "--grpc", "127.0.0.1:9"),
        ("remove", "pod-a"),
        ("reweight", "pod-a", "2"),
        ("reload",),
        ("route", "key"),
        ("plan", "--remove", "pod-a"),
    ],
)
def test_without_a_sidecar_a_command_could_not_run(command: tuple[str, ...]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, nobody answers
        address = f"127.0.0.1:{free.getsockname()[1]}"
        result = CliRunner().invoke(main, [*command, "--control", address], prog_name="hashroute")
    assert result.exit_code == 2
    assert f"no sidecar answers at {address}" in result.stderr
