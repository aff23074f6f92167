"""The ways from a ZeroMQ caller to a pod, each as a context that yields where to call."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benches.grpc.processes import BenchError, free_address, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "peers" / "peers.c"
PROGRAM = ROOT / "target" / "benches" / "zmq-peers"


@dataclass(frozen=True)
class Setting:
    """What every way is set up from: the pods' addresses, a core, a directory for its files."""

    pods: tuple[str, str]
    core: int
    directory: Path


@dataclass(frozen=True)
class Way:
    """A way that stands: where to call, and the process on it, if there is one."""

    address: str
    pid: int | None


@contextlib.contextmanager
def direct(setting: Setting) -> Iterator[Way]:
    """No hop: the caller connects to a pod."""
    yield Way(setting.pods[0], None)


@contextlib.contextmanager
def hashroute(setting: Setting) -> Iterator[Way]:
    """The sidecar as users run it: `hashroute proxy --config`."""
    address = free_address()
    configuration = setting.directory / "hashroute.toml"
    pods = "".join(
        f'[pods.pod-{name}]\nzmq = "tcp://{pod}"\n'
        for name, pod in zip("ab", setting.pods, strict=True)
    )
    configuration.write_text(
        f'[listen]\nzmq = "tcp://{address}"\ncontrol = ""\n{pods}', encoding="utf-8"
    )
    command = [sys.executable, "-m", "hashroute", "proxy", "--config", configuration]
    with _serving(command, setting, address) as way:
        yield way


@contextlib.contextmanager
def zmq_proxy(setting: Setting) -> Iterator[Way]:
    """The proxy of libzmq between a ROUTER and a DEALER socket: no keys, pods in turn."""
    address = free_address()
    pods = (f"tcp://{pod}" for pod in setting.pods)
    with _serving([PROGRAM, "proxy", f"tcp://{address}", *pods], setting, address) as way:
        yield way


WAYS: dict[str, Callable[[Setting], contextlib.AbstractContextManager[Way]]] = {
    "direct": direct,
    "hashroute": hashroute,
    "zmq_proxy": zmq_proxy,
}
"""In the order of the table."""


@contextlib.contextmanager
def pod(core: int, directory: Path) -> Iterator[str]:
    """A REP socket in C that sends every request back."""
    address = free_address()
    command = [PROGRAM, "pod", f"tcp://{address}"]
    with running(command, core=core, listens=address, directory=directory):
        yield address


def build() -> None:
    """Builds the peers. Raises BenchError if there is no compiler or no libzmq to build with."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("no C compiler (cc) is installed; on Debian: apt-get install gcc")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", PROGRAM, SOURCE, "-lzmq"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode != 0:
        raise BenchError(f"on Debian: apt-get install libzmq3-dev\n{done.stderr.strip()}")


def versions() -> dict[str, str]:
    """Returns the version of everything on the ways."""
    printed = subprocess.run(
        [PROGRAM, "version"], capture_output=True, check=True, text=True
    ).stdout.strip()
    return {
        "hashroute": importlib.metadata.version("hashroute"),
        "libzmq": printed,
    }


@contextlib.contextmanager
def _serving(command: list[str | Path], setting: Setting, address: str) -> Iterator[Way]:
    with running(command, core=setting.core, listens=address, directory=setting.directory) as pid:
        yield Way(address, pid)
