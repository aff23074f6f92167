"""The cluster under trial: two pods with a sidecar each, a witness, a router, and the store.

``pod-a`` and ``pod-b`` each run a service and ``hashroute proxy`` in front of it, which votes and
holds the pod's lease (the guard ``sidecar``), or a service that does so itself (the guard ``pod``);
``witness`` runs ``hashroute voter``; ``client`` runs a router and the writers; ``store`` runs the
store. With the engine on etcd, the three hosts of the voters run a member of etcd each, with its
data in memory; with ``etcd`` alone nobody of ours votes, and with ``etcd-voters`` the three grant
the leases.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.soak.hosts import Hosts

PODS = ("pod-a", "pod-b")
VOTERS = (*PODS, "witness")
HOSTS = (*VOTERS, "client", "store")
ON_CLIENT = ("writers", "recorder", "moves")
"""Programs of the trial itself that run beside the router."""
TOLD = ("moves", "leaders")
"""Programs that are told what to do, a line at a time."""

SECONDS_MAX = 60.0
"""Longer than anything takes; it only bounds a trial that has failed."""

POLL_SECONDS = 0.005

IN_MEMORY = ("sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"')
"""Before a directory and a program: there is memory under the directory, as that program alone sees
it (``ip netns exec`` gives it mounts of its own), and gone with it.

All hosts of a trial share the machine's one disk, and a sync that has to wait stops all members of
etcd at once, which on three hosts does not happen: beside two busy processes on two processors they
have been seen to wait 3.35 s, all three, with nothing under way at the disk.
"""

Engine = Literal["embedded", "etcd", "etcd-voters"]
Guard = Literal["sidecar", "pod"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried."""

    engine: Engine = "embedded"
    lease: str = "default"
    priority: str = "realtime"
    guard: Guard = "sidecar"
    keys: int = 16
    kinds: tuple[str, ...] = ()
    """The kinds of clients that write, if not all that can: :attr:`writers`."""

    @property
    def is_on_etcd(self) -> bool:
        """Whether the record lies in etcd."""
        return self.engine != "embedded"

    @property
    def has_voters(self) -> bool:
        """Whether voters of ours grant the leases."""
        return self.engine != "etcd"

    @property
    def writers(self) -> tuple[str, ...]:
        """The kinds of clients that write, of :data:`tests.soak.clients.KINDS`.

        A sidecar cannot tell a ZeroMQ service the term of a write, so what it guards is written
        over gRPC alone. Clients without a router follow voters of ours, if there are any.
        """
        if self.kinds:
            return self.kinds
        transports = ("grpc",) if self.guard == "sidecar" else ("grpc", "zmq")
        direct = tuple(f"direct-{it}" for it in transports)
        return transports + direct if self.has_voters else transports


def until(condition: Callable[[], object], what: str, seconds: float = SECONDS_MAX) -> None:
    """Waits until it is so.

    Raises:
        TimeoutError: it never was.

    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)  # poll


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes beside the trial that do nothing but take processor time."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


@dataclass
class Cluster:
    """All processes of a trial, by name."""

    trial: Trial
    hosts: Hosts
    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def start(cls, trial: Trial, hosts: Hosts, directory: Path) -> Self:
        """Starts everything, founds the cluster, and returns when both pods write."""
        cluster = cls(trial, hosts, directory)
        try:
            cluster._start()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def _start(self) -> None:
        self._python("store", "tests.soak.store", self._store_address, str(self.effects))
        if self.trial.guard == "sidecar":
            for pod in PODS:
                self.start_service(pod)
        if self.trial.is_on_etcd:
            for name in VOTERS:
                self._start_etcd(name)
            members = [f"{it}={self.hosts[it].address}" for it in VOTERS]
            self._python("leaders", "tests.soak.etcd", str(self.leaders), *members, host="store")
        for name in (*VOTERS, "client"):
            self._configure(name)
            self.start_node(name)
        self.hashroute("quorum", "init", timeout=SECONDS_MAX)
        self.await_writers()
        client = str(self._file("client"))
        own = self._timeline("recorder")
        self._python("recorder", "tests.soak.recorder", client, str(self.owners), *own)
        self._python("moves", "tests.soak.moves", client)
        keys = str(self.trial.keys)
        self._python("writers", "tests.soak.writers", str(self.writes), keys, *self.trial.writers)

    @property
    def effects(self) -> Path:
        """The store's log."""
        return self.directory / "effects.jsonl"

    @property
    def writes(self) -> Path:
        """The clients' log."""
        return self.directory / "writes.jsonl"

    @property
    def owners(self) -> Path:
        """The log of who owned what."""
        return self.directory / "owners.jsonl"

    @property
    def leaders(self) -> Path:
        """The log of who led etcd."""
        return self.directory / "leaders.jsonl"

    def await_writers(self) -> None:
        """Returns when every slot has a writer that holds its lease."""
        until(self._is_written, "every slot has a writer")

    def _is_written(self) -> bool:
        members = self.status().get("members", [])
        return len(members) == len(PODS) and all(
            member["slots"] > 0 and member["holds_lease"] is not False for member in members
        )

    def status(self) -> dict[str, Any]:
        """What ``hashroute quorum status --json`` says; empty if it could not be found out."""
        done = self.hashroute("quorum", "status", "--json", check=False)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except json.JSONDecodeError:
            return {}
        return found

    def hashroute(
        self, *words: str, check: bool = True, timeout: float = SECONDS_MAX
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``hashroute`` on the client's host, with the client's configuration."""
        command = [sys.executable, "-m", "hashroute", *words]
        environment = {**os.environ, "HASHROUTE_CONFIG": str(self._file("client"))}
        deadline = time.monotonic() + timeout
        while True:
            done = subprocess.run(
                self.hosts["client"].command(command),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 or not check:
                return done
            if time.monotonic() > deadline:
                raise RuntimeError(f"hashroute {' '.join(words)}: {done.stderr or done.stdout}")
            time.sleep(POLL_SECONDS)  # poll

    @property
    def _store_address(self) -> str:
        return f"{self.hosts['store'].address}:7000"

    def start_service(self, pod: str) -> None:
        """Starts the service of a pod, which its sidecar stands in front of."""
        arguments = (pod, "127.0.0.1:50051", self._store_address)
        self._python(f"service-{pod}", "tests.soak.service", *arguments, host=pod)

    def start_node(self, name: str) -> None:
        """Starts what a host has of the cluster; returns when it listens.

        That is the sidecar of a pod or the service that stands in its place, the witness, or the
        router.
        """
        if name == "witness" and not self.trial.has_voters:
            return
        if name in PODS and self.trial.guard == "pod":
            address = self.hosts[name].address
            listen = (f"{address}:9100", f"tcp://{address}:9101")
            own = self._timeline(name)
            arguments = (str(self._file(name)), name, *listen, self._store_address, *own)
            self._python(name, "tests.soak.member", *arguments)
            return
        verb = "voter" if name == "witness" else "proxy"
        ready = self.directory / f"{name}.ready"
        ready.unlink(missing_ok=True)
        words = ["-m", "hashroute", verb, "--config", str(self._file(name))]
        self._run(name, [sys.executable, *words, "--ready-file", str(ready)], host=name)
        until(lambda: ready.exists() or self._has_ended(name), f"{name} is ready")
        if self._has_ended(name):
            raise RuntimeError(f"{name} ended: see {self._log(name)}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to one of our processes; one that was killed is reaped."""
        process = self.processes[name]
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(SECONDS_MAX)

    def drain(self, pod: str) -> float:
        """Lets a pod hand over all that it writes, and returns when that was asked for first."""
        return float(json.loads(self._tell("moves", pod))["asked_at"])

    def lead_etcd_from(self, host: str) -> None:
        """Makes the member of etcd on a host the leader; returns when all its members know."""
        self._tell("leaders", host)

    def _tell(self, name: str, line: str) -> str:
        """Tells one of our programs to do something, and returns what it says of it."""
        process = self.processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        said = process.stdout.readline().decode()
        if not said:
            raise RuntimeError(f"{name} could not do it for {line}: see {self._log(name)}")
        return said

    def end_writers(self) -> None:
        """Lets the clients finish."""
        self.signal("writers", signal.SIGTERM)
        self.processes["writers"].wait(SECONDS_MAX)

    def close(self) -> None:
        """Ends every process that this cluster started."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait(SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_ended(self, name: str) -> bool:
        return self.processes[name].poll() is not None

    def _python(self, name: str, module: str, *arguments: str, host: str | None = None) -> None:
        place = host or ("client" if name in ON_CLIENT else name)
        process = self._run(name, [sys.executable, "-m", module, *arguments], host=place)
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{name} did not start: see {self._log(name)}")

    def _run(self, name: str, words: Sequence[str], *, host: str) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                self.hosts[host].command(words),
                stdin=subprocess.PIPE if name in TOLD else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.processes[name] = process
        return process

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.toml"

    def _timeline(self, name: str) -> list[str]:
        """Where one of our processes writes down what it does, on etcd."""
        path = self.directory / f"timeline-{name}.jsonl"
        return [str(path)] if self.trial.is_on_etcd else []

    def _start_etcd(self, name: str) -> None:
        """Starts a member of etcd.

        It asks before it stands for election, as etcd does by default since 3.5: else a member that
        was cut off for a moment ends the leader's term when it is back.
        """
        address = self.hosts[name].address
        client, peer = f"http://{address}:2379", f"http://{address}:2380"
        members = ",".join(f"{it}=http://{self.hosts[it].address}:2380" for it in VOTERS)
        data = self.directory / f"etcd-{name}"
        data.mkdir()
        self._run(
            f"etcd-{name}",
            [*IN_MEMORY, str(data), "etcd", "--name", name, "--data-dir", str(data),
             "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", members, "--initial-cluster-state", "new",
             "--heartbeat-interval", "20", "--election-timeout", "200", "--pre-vote"],
            host=name,
        )  # fmt: skip

    def _configure(self, name: str) -> None:
        at = {host: self.hosts[host].address for host in HOSTS}
        has_guards = self.trial.guard == "sidecar"
        tables = ['[listen]\ncontrol = "127.0.0.1:9003"']
        if name == "client":
            tables[0] += '\ngrpc = "127.0.0.1:9000"'
            tables[0] += "" if has_guards else '\nzmq = "tcp://127.0.0.1:9001"'
        if name == "witness" or (name in PODS and not has_guards):
            tables = []
        for pod in PODS:
            zmq = "" if has_guards else f'\nzmq = "tcp://{at[pod]}:9101"'
            tables.append(f'[pods.{pod}]\ngrpc = "{at[pod]}:9100"{zmq}')
        tables.append(self._quorum(name))
        if name in PODS and has_guards:
            tables.append(f'[guard]\ngrpc = "{at[name]}:9100"\ngrpc_service = "127.0.0.1:50051"')
        if name == "client" and not has_guards:
            tables.append("[zmq]\nwrite = true")
        if name != "witness":
            tables.append(
                '[[routes]]\nmatch = "/soak.Service/*"\n'
                'key = ["metadata:x-hashroute-key"]\non_missing = "reject"\nwrite = true'
            )
            tables.append('[writes]\npatience = "4s"')
        self._file(name).write_text("\n\n".join(tables) + "\n", encoding="utf-8")

    def _quorum(self, name: str) -> str:
        trial, lines = self.trial, ["[quorum]", 'cluster = "soak"']
        voters = ", ".join(f'"{self.hosts[it].address}:9010"' for it in VOTERS)
        if trial.has_voters:
            lines.append(f"voters = [{voters}]")
            if name in VOTERS:
                lines.append(f'listen = "{self.hosts[name].address}:9010"')
                lines.append(f'data = "{self.directory / f"data-{name}"}"')
        if trial.is_on_etcd:
            lines.append('engine = "etcd"')
        if name in PODS:
            lines.append(f'pod = "{name}"')
        lines.append(f'lease = "{trial.lease}"')
        lines += [f'priority = "{trial.priority}"', 'stall_check = "200ms"', "force = true"]
        if trial.is_on_etcd:
            endpoints = ", ".join(f'"{self.hosts[it].address}:2379"' for it in VOTERS)
            lines += ["", "[quorum.etcd]", f"endpoints = [{endpoints}]"]
        return "\n".join(lines)
