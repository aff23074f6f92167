"""The guide to a single writer is true: its commands are run, in order, with real processes.

The addresses of the page are replaced by free ones, so that it can be run beside anything.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hashroute.config import check

from tests.integration.processes import SECONDS_MAX, Program, until
from tests.integration.quorum_desk import PATIENT, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/guide/single-writer.md"
EXAMPLES = ROOT / "examples/quorum"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"127\.0\.0\.1:([0-9]+)")
LOOK_SECONDS_MAX = 120
"""A look is a process of its own; on a busy machine it takes seconds to start."""
READY = re.compile(r" ready |serves on ")


class Job(Program):
    """A command of the page that goes on, as a shell's job does."""

    def __init__(self, command: str, directory: Path, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command.split(), cwd=directory, stdout=output, stderr=output, env=environment()
            )
        until(self._is_ready, f"{command} is ready")

    def _is_ready(self) -> bool:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        assert self.process.poll() is None, text
        return READY.search(text) is not None


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "NO_COLOR": "1", **more}


class Shell:
    """Runs the lines of a console block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports: dict[str, int] = {}
        self.jobs: list[Job] = []
        self.exported: dict[str, str] = {}

    def moved(self, text: str) -> str:
        """The text with each address of the page on a free port."""
        new = set(ADDRESS.findall(text)) - self.ports.keys()
        self.ports |= dict(zip(sorted(new), free_ports(len(new)), strict=True))
        return ADDRESS.sub(lambda match: f"127.0.0.1:{self.ports[match[1]]}", text)

    def run(self, line: str) -> None:
        assert line.startswith("$ "), f"nobody would run {line!r}"
        command = self.moved(line.removeprefix("$ ").partition("  #")[0].strip())
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.exported[name] = value
        elif command.startswith("kill "):
            self._kill(command)
        elif command.endswith("&"):
            log = self.directory / f"job-{len(self.jobs) + 1}.log"
            self.jobs.append(Job(command.removesuffix("&").strip(), self.directory, log))
        elif "quorum status" in command or "place.py" in command:
            self._look_until_it_holds(command)
        else:
            done = self._done(command)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _look_until_it_holds(self, command: str) -> None:
        """A reader looks again until it is so: what was started takes its time."""
        looks: list[str] = []
        latest = time.monotonic() + LOOK_SECONDS_MAX
        while time.monotonic() < latest:
            done = self._done(command)
            if done.returncode == 0:
                return
            looks.append(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
        logs = [f"{job.log.name}: {job.log.read_text()}" for job in self.jobs]
        raise AssertionError("\n".join([command, looks[0], looks[-1], *logs]))

    def _kill(self, command: str) -> None:
        number = int(command.rpartition("%")[2])
        job = self.jobs[number - 1]
        job.process.send_signal(signal.SIGKILL if "-9" in command else signal.SIGTERM)
        job.process.wait(SECONDS_MAX)

    def _done(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            capture_output=True,
            check=False,
            text=True,
            timeout=SECONDS_MAX,
            env=environment(**self.exported),
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    for job in shell.jobs:
        job.close()


def test_the_files_of_the_guide_are_those_of_the_examples() -> None:
    files = [body for kind, body in BLOCK.findall(PAGE.read_text()) if kind == "toml"]
    for body in files:
        name, _, text = body.removeprefix("# ").partition("\n")
        if (EXAMPLES / name).exists():
            example = (EXAMPLES / name).read_text()
            assert example.partition("\n\n")[2] == text, f"{name} differs"
    assert sum(body.startswith("# witness-2") for body in files) == 1


def test_what_the_guide_adds_for_etcd_fits_the_files_of_the_examples(tmp_path: Path) -> None:
    blocks = [body for kind, body in BLOCK.findall(PAGE.read_text()) if kind == "toml"]
    (added,) = (body for body in blocks if body.startswith("# in each file"))
    engine, table = added.split("[quorum]\n")[1].split("\n\n")
    for file in EXAMPLES.glob("*.toml"):
        text = file.read_text().replace("[quorum]\n", f"[quorum]\n{engine}\n")
        merged = tmp_path / file.name
        merged.write_text(f"{text}\n{table}")
        assert [finding.render(file.name) for finding in check(merged)[1]] == []


@pytest.mark.timeout(900)
def test_the_commands_of_the_guide_do_what_it_says(shell: Shell) -> None:
    for file in EXAMPLES.iterdir():
        if file.suffix == ".py":
            shutil.copy(file, shell.directory)
        elif file.suffix == ".toml":
            text = shell.moved(file.read_text()).replace("[quorum]\n", f"[quorum]\n{PATIENT}")
            (shell.directory / file.name).write_text(text)
    for kind, body in BLOCK.findall(PAGE.read_text()):
        if kind == "toml" and body.startswith("# witness-2"):
            text = shell.moved(body).replace("[quorum]\n", f"[quorum]\n{PATIENT}")
            (shell.directory / "witness-2.toml").write_text(text)
        if kind == "console":
            for line in body.splitlines():
                shell.run(line)
