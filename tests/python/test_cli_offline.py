"""The commands that need no running sidecar: what they print, and how they exit."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hashroute import Pod, Ring
from hashroute.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = str(ROOT / "examples/hashroute.toml")
RING = Ring(
    [
        Pod("pod-a", zone="rack-1"),
        Pod("pod-b", zone="rack-2"),
        Pod("pod-c", weight=2, zone="rack-2"),
    ]
)


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments], input=stdin, prog_name="hashroute")


def printed(*arguments: str, stdin: str | bytes | None = None, exit_code: int = 0):
    result = run(*arguments, "--json", stdin=stdin)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_the_overview_names_every_command_without_importing_one() -> None:
    program = (
        "import sys; from hashroute.cli import main\n"
        "try: main(['--help'], prog_name='hashroute')\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'pydantic', 'rich', 'google.protobuf', 'zmq', 'prometheus_client'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, line in COMMANDS.items():
        assert f"{name} " in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"hashroute {name}" in result.stdout
    command = getattr(importlib.import_module(f"hashroute.cli.{name}"), name)
    assert command.name == name


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"demo", "bench"}])
def test_every_command_says_what_its_exit_codes_mean(name: str) -> None:
    text = run(name, "--help").stdout
    assert "Exit codes:" in text
    assert [line.split()[0] for line in text.splitlines()[-3:]] == ["0", "1", "2"]


def test_an_unknown_command_is_wrong_usage() -> None:
    result = run("rout")
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def test_the_module_is_the_program() -> None:
    command = [sys.executable, "-m", "hashroute", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("hashroute, version ")


def test_check_shows_every_finding_and_counts_them(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text("[listen]\ngrpc = 'localhost'\n[pods.a]\ngrpc = 'a:1'\nwieght = 2\n")
    result = run("check", str(file))
    assert result.exit_code == 1
    assert f"{file}:2:8: error: listen.grpc: no port" in result.stdout
    assert f"{file}:5:1: error: pods.a.wieght: no such key" in result.stdout
    assert result.stdout.endswith("2 errors, 0 warnings\n")
    facts = printed("check", str(file), exit_code=1)
    assert (facts["holds"], facts["errors"], facts["warnings"]) == (False, 2, 0)
    assert facts["findings"][1]["suggestion"] == "weight"
    assert facts["findings"][1]["position"] == {"line": 5, "column": 1}


def test_check_of_a_good_file_holds() -> None:
    assert run("check", EXAMPLE).exit_code == 0
    assert printed("check", EXAMPLE)["holds"] is True


def test_check_counts_warnings_as_errors_when_it_is_strict(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text("[listen]\ngrpc = 'a:1'\n[pods.a]\ngrpc = 'b:1'\n[pods.b]\ngrpc = 'b:1'\n")
    assert run("check", str(file)).exit_code == 0
    assert run("check", "--strict", str(file)).exit_code == 1


def test_check_of_a_file_that_cannot_be_read_could_not_run(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "absent.toml"))
    assert result.exit_code == 2
    assert "cannot read" in result.stderr
    assert run("check").exit_code == 2


def test_check_prints_the_schema_that_ships() -> None:
    shipped = (ROOT / "python/hashroute/config.schema.json").read_text()
    assert run("check", "--schema").stdout == shipped


def test_route_shows_slot_owner_and_preference() -> None:
    rows = printed("route", "--config", EXAMPLE, "EUR/USD", "BTC/USD", "")
    assert [row["key"] for row in rows] == ["EUR/USD", "BTC/USD", ""]
    for row in rows:
        assert row["slot"] == RING.slot(row["key"])
        assert row["owner"] == RING.owner(row["key"])
        assert len(row["preference"]) == 3
    text = run("route", "--config", EXAMPLE, "EUR/USD").stdout.splitlines()
    assert text[0].split() == ["key", "slot", "owner", "preference"]
    assert text[1].split()[:3] == ["EUR/USD", str(rows[0]["slot"]), rows[0]["owner"]]


def test_route_takes_keys_from_standard_input_and_integers() -> None:
    rows = printed("route", "--config", EXAMPLE, "-", stdin=b"a\r\nb\n\xff\n")
    assert [row["key"] for row in rows] == ["a", "b", "\\xff"]
    assert [row["slot"] for row in rows] == [RING.slot(key) for key in (b"a", b"b", b"\xff")]
    rows = printed("route", "--config", EXAMPLE, "--int", "-n", "1", "42")
    assert rows == [
        {
            "key": "42",
            "slot": RING.slot(42),
            "owner": RING.owner(42),
            "preference": [RING.owner(42)],
        }
    ]
    for wrong in ("x", "1.5", str(1 << 64)):
        assert run("route", "--config", EXAMPLE, "--int", wrong).exit_code == 2


def test_route_with_a_bad_configuration_could_not_run(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text("[ring]\nslots = 3\n")
    result = run("route", "--config", str(file), "key")
    assert result.exit_code == 2
    assert "ring.slots" in result.stderr


def test_plan_is_that_of_the_ring() -> None:
    facts = printed("plan", "--config", EXAMPLE, "--add", "pod-d=2", "--slots-per-step", "500")
    after = RING.add("pod-d", weight=2)
    plan = RING.plan(after, slots_per_step=500)
    assert facts["moved_slots"] == plan.moved_slots
    assert facts["least_slots"] == plan.least_slots
    assert facts["steps"] == [len(step.moves) for step in plan.steps]
    assert max(facts["steps"]) <= 500
    assert facts["shares_after"] == after.shares()
    assert facts["digest_before"] == RING.digest
    text = run("plan", "--config", EXAMPLE, "--add", "pod-d=2").stdout
    assert f"{plan.moved_slots:,} of 65,536" in text
    assert "times the least" in text


def test_plan_makes_all_options_one_change() -> None:
    options = ("--remove", "pod-a", "--weight", "pod-b=3", "--drain", "pod-c", "--add", "pod-d")
    facts = printed("plan", "--config", EXAMPLE, *options)
    after = RING.remove("pod-a").reweight("pod-b", 3).with_state("pod-c", "draining").add("pod-d")
    assert facts["shares_after"] == after.shares()


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        ((), 2),
        (("--remove", "pod-x"), 2),
        (("--weight", "pod-a"), 2),
        (("--weight", "pod-a=heavy"), 2),
        (("--weight", "pod-a=0"), 1),
        (("--add", "pod-a"), 1),
        (("--remove", "pod-a", "--remove", "pod-b", "--remove", "pod-c"), 1),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(options: tuple[str, ...], exit_code: int) -> None:
    result = run("plan", "--config", EXAMPLE, *options)
    assert result.exit_code == exit_code, result.output
    assert result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_HASHROUTE_COMPLETE" in result.stdout


def test_completion_of_another_shell_is_wrong_usage() -> None:
    assert run("completion", "csh").exit_code == 2
