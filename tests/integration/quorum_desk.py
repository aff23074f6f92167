"""A cluster for tests: two sidecars that guard a service each, and a witness, all on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from tests.integration.processes import SECONDS_MAX, UNLIMITED, Program, until

ORDERS = Path(__file__).resolve().parents[2] / "examples/quorum/orders.py"

# The machine of a test may stall for as long as it likes; nothing here is timed.
PATIENT = 'lease = "slow"\nstall_check = "0ms"\nforce = true\n'


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment: a cluster has to know its addresses before."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Host(Program):
    """`hashroute proxy` or `hashroute voter`, with a log and a file that says when it is ready."""

    def __init__(self, command: str, file: Path) -> None:
        self.file = file
        self.log = file.with_suffix(".log")
        ready_file = file.with_suffix(".ready")
        ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "hashroute", command),
                    *("--config", file, "--ready-file", ready_file),
                ],
                stdout=log,
                stderr=log,
            )

        def ready() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.printed()
            return json.loads(ready_file.read_text()) if ready_file.exists() else None

        try:
            self.addresses: dict[str, Any] = until(ready, f"{file.name} is ready")
        except BaseException:
            self.kill()
            raise

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


class Service(Program):
    """The service behind a guard: `examples/quorum/orders.py`."""

    def __init__(self, pod: str, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ORDERS, pod, f"127.0.0.1:{port}"], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        with self.process.stdout as output:
            assert output.readline().startswith(pod.encode())


class Desk:
    """The cluster `desk-7`. Nothing runs until it is started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        names = ("a", "b", "witness", "spare", "guard-a", "guard-b", "service-a", "service-b")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.hosts: dict[str, Host] = {}
        self.services: list[Service] = []

    def voter(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.toml"

    def write_files(self, **changed: str) -> None:
        """Writes the file of each process; `changed` replaces texts, by the name of the process."""
        for name in ("a", "b", "witness", "spare"):
            text = self.text(name)
            self.file(name).write_text(changed.get(name, text), encoding="utf-8")

    def text(self, name: str) -> str:
        """The configuration of `a`, `b`, `witness` or `spare`."""
        voters = [self.voter(it) for it in ("a", "b", "witness")]
        pods = [f'[pods.pod-{it}]\ngrpc = "127.0.0.1:{self.ports[f"guard-{it}"]}"\n' for it in "ab"]
        quorum = (
            f'[quorum]\ncluster = "desk-7"\nvoters = {json.dumps(voters)}\n'
            f'listen = "{self.voter(name)}"\ndata = "state-{name}"\n{PATIENT}'
        )
        if name not in {"a", "b"}:
            return "\n".join(['[listen]\nadmin = "127.0.0.1:0"\n', *pods, quorum])
        listen = "\n".join(f'{it} = "127.0.0.1:0"' for it in ("grpc", "admin", "control"))
        guard, service = (f"127.0.0.1:{self.ports[f'{it}-{name}']}" for it in ("guard", "service"))
        return "\n".join(
            [
                f"[listen]\n{listen}\n",
                *pods,
                f'{quorum}pod = "pod-{name}"\n',
                '[quorum.groups.fix]\ncandidates = ["pod-a", "pod-b"]\n',
                f'[guard]\ngrpc = "{guard}"\ngrpc_service = "{service}"\n',
                '[writes]\npatience = "20s"\n',
                '[[routes]]\nmatch = "/desk.Orders/Place"\nwrite = true\n',
                '[[routes]]\nmatch = "/desk.Gateway/*"\ngroup = "fix"\n',
            ]
        )

    def start(self, *names: str) -> None:
        """Starts what is named: `a`, `b` with the service behind it, `witness`, `spare`."""
        for name in names:
            if name in {"a", "b"} and len(self.services) < 2:
                self.services.append(Service(f"pod-{name}", self.ports[f"service-{name}"]))
            command = "proxy" if name in {"a", "b"} else "voter"
            self.hosts[name] = Host(command, self.file(name))

    def found(self) -> None:
        """Starts all three, founds the cluster, and waits until everything can be written."""
        self.write_files()
        self.start("a", "b", "witness")
        assert self.quorum("init").returncode == 0
        until(lambda: self.quorum("status").returncode == 0, "both pods have joined")

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hashroute", *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=SECONDS_MAX,
            env={**os.environ, "NO_COLOR": "1", **environment},
        )

    def quorum(self, *arguments: str, name: str = "a") -> subprocess.CompletedProcess[str]:
        """Runs `hashroute quorum` with the file of `name`."""
        return self.run("quorum", *arguments, HASHROUTE_CONFIG=str(self.file(name)))

    def control(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `hashroute` against the control API of a sidecar."""
        return self.run(*arguments, HASHROUTE_CONTROL=self.hosts[name].addresses["control"])

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.quorum("status", "--json").stdout)
        return status

    def place(self, name: str, key: str | None = None) -> tuple[str, int]:
        """Writes through a sidecar; returns which pod took it, and under which term."""
        method = "/desk.Gateway/Send" if key is None else "/desk.Orders/Place"
        metadata = () if key is None else (("x-hashroute-key", key),)
        address = self.hosts[name].addresses["grpc"]
        with grpc.insecure_channel(address, options=UNLIMITED) as channel:
            answer: bytes = channel.unary_unary(method)(
                b"buy 1", metadata=metadata, timeout=SECONDS_MAX
            )
        words = answer.decode().split()
        return words[0], int(words[-1])

    def close(self) -> None:
        for one in (*self.hosts.values(), *self.services):
            one.close()
