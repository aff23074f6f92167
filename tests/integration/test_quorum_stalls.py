"""A lease shorter than the stalls of the machine allow: refused unless forced, then promised."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import SECONDS_MAX, until
from tests.integration.quorum_desk import PATIENT, Desk, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

STALL_SECONDS = 0.4
"""Longer than a quarter of the lease below, and shorter than a conversation bears."""
LEASE = 'lease = "slow"\nstall_check = "10s"\n'


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def stalled(desk: Desk, name: str) -> subprocess.Popen[str]:
    """Starts a sidecar, and stops it for a moment while it measures the stalls of the machine."""
    ready_file = desk.directory / f"{name}.forced"
    process = subprocess.Popen(
        [sys.executable, "-m", "hashroute", "proxy", "--config", desk.file(name),
         "--ready-file", ready_file],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    until(lambda: process.poll() is not None or measures(process.pid), "it measures")
    stall(process.pid)
    return process


def measures(pid: int) -> bool:
    names = Path(f"/proc/{pid}/task").glob("*/comm")
    return any(name.read_text() == "hr-quorum\n" for name in names)


def stall(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    threading.Event().wait(STALL_SECONDS)  # the stall itself
    os.kill(pid, signal.SIGCONT)


def asked(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=SECONDS_MAX) as answer:
        text: str = answer.read().decode()
    return text


@pytest.mark.timeout(600)
def test_a_lease_that_the_stalls_would_end_is_refused_unless_forced(desk: Desk) -> None:
    text = {name: desk.text(name) for name in ("a", "b")}
    unforced = {name: it.replace(PATIENT, LEASE) for name, it in text.items()}
    desk.write_files(a=unforced["a"])
    checked = desk.run("check", str(desk.file("a")))
    assert checked.returncode == 0, "nothing can be told before it was measured"
    desk.services = [Service(f"pod-{name}", desk.ports[f"service-{name}"]) for name in "ab"]
    refused = stalled(desk, "a")
    _, error = refused.communicate(timeout=SECONDS_MAX)
    assert refused.returncode == 2, error
    measured = re.search(r"longest stall measured here was (\d+) ms", error)
    assert measured, error
    assert int(measured[1]) > 1_000 * STALL_SECONDS / 2
    assert "a lease of 1000 ms is safe from false ends only above" in error
    assert "quorum.force" in error

    # A founding is refused for the same reason, and done if it is forced.
    desk.write_files(a=text["a"].replace("force = true\n", ""))
    desk.start("witness", "b")
    stall(desk.hosts["witness"].process.pid)
    desk.start("a")
    done = desk.quorum("init")
    assert done.returncode == 1, done.stdout
    assert f"{desk.voter('witness')}: the longest stall of the last ten minutes" in done.stderr
    assert desk.quorum("status").returncode == 1, "not founded"
    desk.write_files()
    desk.hosts["a"].kill()
    desk.start("a")
    assert desk.quorum("init").returncode == 0

    # Forced, it runs, and what it can promise has the stall in it, twice.
    until(lambda: desk.quorum("status").returncode == 0, "both have joined")
    desk.hosts["a"].freeze()
    threading.Event().wait(STALL_SECONDS)  # the stall itself
    desk.hosts["a"].thaw()
    addresses = desk.hosts["a"].addresses
    least_ms = 1_000 * (1 + 2 * STALL_SECONDS)
    promise = until(lambda: promised(addresses["admin"], least_ms), "readyz has the promise")
    status = desk.status()
    assert status["recovery_promise_ms"] >= least_ms
    assert any("a quarter of the lease" in it["text"] for it in status["warnings"]), status
    headline = desk.quorum("status").stdout.splitlines()[0]
    shown = re.search(r"a new writer within (\d+) ms", headline)
    assert shown
    assert int(shown[1]) >= least_ms
    metrics = asked(addresses["admin"], "/metrics")
    metric = re.search(r"^hashroute_recovery_promise_seconds (\S+)$", metrics, re.MULTILINE)
    assert metric
    assert float(metric[1]) >= least_ms / 1_000
    assert promise >= least_ms
    witness = json.loads(asked(desk.hosts["witness"].addresses["admin"], "/readyz"))
    assert witness["recovery_promise_ms"] >= least_ms, "it was stalled too"


def promised(admin: str, least_ms: float) -> float | None:
    try:
        promise = float(json.loads(asked(admin, "/readyz"))["recovery_promise_ms"])
    except OSError:  # not ready: the lease has ended meanwhile
        return None
    return promise if promise >= least_ms else None
