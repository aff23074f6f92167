"""The ways from a caller to a pod, each as a context that yields where to call."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hashroute._release import release

from benches.grpc.processes import BenchError, free_address, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = Path(__file__).parent / "peers"
SYSTEM_PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


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
    """No hop: the caller calls a pod."""
    yield Way(setting.pods[0], None)


@contextlib.contextmanager
def hashroute(setting: Setting) -> Iterator[Way]:
    """The sidecar as users run it: `hashroute proxy --config`."""
    address = free_address()
    configuration = setting.directory / "hashroute.toml"
    pods = "".join(
        f'[pods.pod-{name}]\ngrpc = "{pod}"\n' for name, pod in zip("ab", setting.pods, strict=True)
    )
    configuration.write_text(
        f'[listen]\ngrpc = "{address}"\ncontrol = ""\n{pods}'
        '[[routes]]\nmatch = "/*"\nkey = ["metadata:x-hashroute-key"]\non_missing = "reject"\n'
        '[health]\nprobe = "connect"\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "hashroute", "proxy", "--config", configuration]
    with _serving(command, setting, address) as way:
        yield way


@contextlib.contextmanager
def haproxy(setting: Setting) -> Iterator[Way]:
    """HAProxy on HTTP/2: consistent hashing on the key's header, load bounded."""
    with _haproxy(setting, "LISTEN") as way:
        yield way


@contextlib.contextmanager
def haproxy_tcp(setting: Setting) -> Iterator[Way]:
    """HAProxy carrying bytes it does not read: the floor of one more hop in user space."""
    with _haproxy(setting, "LISTEN_TCP") as way:
        yield way


@contextlib.contextmanager
def nginx(setting: Setting) -> Iterator[Way]:
    """The gRPC proxying of nginx, with consistent hashing on the key's header."""
    listen = {"LISTEN": free_address()}
    configuration = _filled("nginx.conf", listen, setting)
    command = [_program("nginx"), "-p", setting.directory, "-c", configuration]
    with _serving(command, setting, listen["LISTEN"]) as way:
        yield way


WAYS: dict[str, Callable[[Setting], contextlib.AbstractContextManager[Way]]] = {
    "direct": direct,
    "hashroute": hashroute,
    "HAProxy": haproxy,
    "nginx": nginx,
    "HAProxy, TCP mode": haproxy_tcp,
}
"""In the order of the table."""


def versions() -> dict[str, str]:
    """Returns the version of everything on the ways.

    Raises BenchError if a peer is not installed.
    """
    return {
        "hashroute": release(),
        "HAProxy": _version(_program("haproxy"), "-v"),
        "nginx": _version(_program("nginx"), "-v"),
    }


def _haproxy(setting: Setting, frontend: str) -> contextlib.AbstractContextManager[Way]:
    listen = {"LISTEN": free_address(), "LISTEN_TCP": free_address()}
    configuration = _filled("haproxy.cfg", listen, setting)
    return _serving([_program("haproxy"), "-f", configuration], setting, listen[frontend])


@contextlib.contextmanager
def _serving(command: list[str | Path], setting: Setting, address: str) -> Iterator[Way]:
    with running(command, core=setting.core, listens=address, directory=setting.directory) as pid:
        yield Way(address, pid)


def _filled(template: str, listen: dict[str, str], setting: Setting) -> Path:
    text = (PEERS / template).read_text(encoding="utf-8")
    for name, address in {**listen, "POD_A": setting.pods[0], "POD_B": setting.pods[1]}.items():
        text = text.replace(f"@{name}@", address)
    filled = setting.directory / template
    filled.write_text(text, encoding="utf-8")
    return filled


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_PROGRAMS)
    if found is None:
        raise BenchError(f"{name} is not installed; on Debian: apt-get install haproxy nginx-light")
    return found


def _version(program: str, flag: str) -> str:
    printed = subprocess.run([program, flag], capture_output=True, check=True, text=True)
    # nginx prints its version on the error stream.
    found = re.search(r"\d+\.\d+\.\d+", printed.stdout + printed.stderr)
    return found.group() if found else "?"
