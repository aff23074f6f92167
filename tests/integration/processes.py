"""The processes that tests talk to: pods and sidecars, each a program of its own on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Value = TypeVar("Value")

POD_PROGRAM = Path(__file__).with_name("pod.py")
SECONDS_MAX = 30.0
"""Longer than anything takes on a busy machine; it only bounds a test that has failed."""

UNLIMITED = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    # Channels to one address would share a connection otherwise, and so its fate.
    ("grpc.use_local_subchannel_pool", 1),
)


def until(condition: Callable[[], Value], what: str, poll_seconds: float = 0.02) -> Value:
    """Returns what `condition` returns as soon as it is true; fails if it never becomes true."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(poll_seconds)
    raise AssertionError(f"not within {SECONDS_MAX} s: {what}")


async def until_true(
    condition: Callable[[], Value], what: str, poll_seconds: float = 0.02
) -> Value:
    """`until` for tests that have calls of their own in flight meanwhile."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        if value := condition():
            return value
        await asyncio.sleep(poll_seconds)
    raise AssertionError(f"not within {SECONDS_MAX} s: {what}")


class Program:
    """A process that a test started; `close` ends it, whatever state it is in."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Ends it at once, as `kill -9` does, and reaps it."""
        self.process.kill()
        self.process.wait(SECONDS_MAX)

    def freeze(self) -> None:
        """Stops it as it is: its connections stay open and silent."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Asks it to finish; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Waits until it ends by itself."""
        return self.process.wait(SECONDS_MAX)

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def close(self) -> None:
        self.kill()


class Pod(Program):
    """A server program, `pod.py` if no other, on a port that stays its own over restarts."""

    def __init__(self, name: str, program: Path = POD_PROGRAM) -> None:
        self.name = name
        self._program = program
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Starts it, for the first time or again, and returns when it serves."""
        self.process = subprocess.Popen(
            [sys.executable, self._program, self.name, self.address], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], SECONDS_MAX)
        assert readable, f"{self.name} did not start within {SECONDS_MAX} s"
        with self.process.stdout as output:
            ready, port = output.readline().split()
        assert ready == b"ready"
        self.address = f"127.0.0.1:{int(port)}"

    def call(self, method: str, request: bytes = b"") -> bytes:
        """Makes a call past the sidecar: to look into the pod, or to release what waits there."""
        with grpc.insecure_channel(self.address, options=UNLIMITED) as channel:
            answer: bytes = channel.unary_unary(f"/direct.Pod/{method}")(
                request, timeout=SECONDS_MAX, wait_for_ready=True
            )
        return answer

    def notes(self) -> list[str]:
        """What the pod wrote down of the calls it got."""
        notes: list[str] = json.loads(self.call("Notes"))["notes"]
        return notes

    def flooded(self) -> int:
        """How many messages of the flood were taken from the pod."""
        return int(json.loads(self.call("Notes"))["flooded"])


class Sidecar(Program):
    """`hashroute proxy` on ports that the system chose."""

    def __init__(self, directory: Path, configuration: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.file = directory / "hashroute.toml"
        self.log = directory / "proxy.log"
        self._ready_file = directory / "ready.json"
        self.write(configuration)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "hashroute", "proxy"),
                    *("--config", self.file, "--ready-file", self._ready_file),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "NO_COLOR": "1"},
            )
        try:
            self.addresses: dict[str, str] = until(self._ready, "the sidecar is ready")
        except BaseException:
            self.kill()
            raise

    @property
    def address(self) -> str:
        """Where it takes gRPC calls."""
        return self.addresses["grpc"]

    def write(self, configuration: str) -> None:
        """Rewrites the configuration file, at once and whole; the sidecar is not told."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(configuration, encoding="utf-8")
        draft.replace(self.file)

    def hang_up(self) -> None:
        """Asks it to read its configuration again."""
        self.process.send_signal(signal.SIGHUP)

    def printed(self) -> str:
        """What it has written to its output and error streams."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `hashroute` with these arguments against this sidecar."""
        return subprocess.run(
            [sys.executable, "-m", "hashroute", *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=SECONDS_MAX,
            env={**os.environ, "HASHROUTE_CONTROL": self.addresses["control"], "NO_COLOR": "1"},
        )

    def status(self) -> dict[str, Any]:
        """What `hashroute status --json` says."""
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def _ready(self) -> dict[str, str] | None:
        assert self.process.poll() is None, f"the sidecar ended: {self.printed()}"
        try:
            text = self._ready_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        addresses: dict[str, str] = json.loads(text)
        return addresses


ROUTES = """
[[routes]]
match = "/safe.Pod/*"
key = ["metadata:x-hashroute-key"]
on_missing = "any"
idempotent = true

[[routes]]
match = "/once.Pod/*"
key = ["metadata:x-hashroute-key"]
on_missing = "any"
"""
"""Methods of `safe.Pod` may be repeated, those of `once.Pod` may not."""


def configuration(pods: Iterable[Pod], *sections: str, routes: str = ROUTES) -> str:
    """Returns a configuration of these pods, which listens for gRPC and control on free ports."""
    listen = '[listen]\ngrpc = "127.0.0.1:0"\ncontrol = "127.0.0.1:0"\n'
    tables = [f'[pods.{pod.name}]\ngrpc = "{pod.address}"\n' for pod in pods]
    return "\n".join([listen, *tables, routes, *sections])
