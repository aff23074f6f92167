"""`hashroute proxy` as a process: it starts or says why not, reloads, stops, and tells of it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS_MAX = 30

LISTEN = """\
[listen]
grpc = "127.0.0.1:0"
zmq = "tcp://127.0.0.1:0"
admin = "127.0.0.1:0"
control = "127.0.0.1:0"
"""
POD = '[pods.pod-a]\ngrpc = "{address}"\nzmq = "tcp://127.0.0.1:9"\n'
MORE = '[pods.pod-b]\ngrpc = "127.0.0.1:9"\nzmq = "tcp://127.0.0.1:9"\n'


class Proxy:
    """A `hashroute proxy` of which the log is read line by line."""

    def __init__(self, file: Path, *options: str, **environment: str) -> None:
        self.file = file
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hashroute", "proxy", "--config", str(file)),
                *("--ready-fd", str(writer), *options),
            ],
            stderr=subprocess.PIPE,
            pass_fds=[writer],
            env={**os.environ, **environment},
            text=True,
        )
        os.close(writer)
        with os.fdopen(reader) as ready:
            text = ready.read()  # ends when it is ready, or when the process ends
        self.addresses: dict[str, Any] = json.loads(text) if text else {}
        self.seen: list[str] = []

    def log_until(self, wanted: str) -> str:
        """Reads the log up to the first line with `wanted`, and returns that line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.seen.append(line)
            if wanted in line:
                return line
        raise AssertionError(f"no {wanted!r} in {''.join(self.seen)}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Waits for the end and returns the exit code; the rest of the log is in `seen`."""
        _, rest = self.process.communicate(timeout=SECONDS_MAX)
        self.seen.append(rest)
        return self.process.returncode

    @property
    def log(self) -> str:
        return "".join(self.seen)

    def get(self, path: str) -> str:
        address = self.addresses["admin"]
        with urllib.request.urlopen(f"http://{address}{path}", timeout=SECONDS_MAX) as answer:
            return answer.read().decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    started: list[Proxy] = []

    def run(text: str, *options: str, **environment: str) -> Proxy:
        file = tmp_path / "hashroute.toml"
        file.write_text(text)
        started.append(Proxy(file, *options, **environment))
        return started[-1]

    yield run
    for proxy in started:
        if proxy.process.poll() is None:
            proxy.process.kill()
            proxy.process.communicate()
        elif proxy.process.stderr is not None:
            proxy.process.stderr.close()


class SlowPod:
    """A gRPC server whose one method answers when it is released."""

    def __init__(self) -> None:
        self.called, self.release = threading.Event(), threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method != "/slow.Pod/Wait":
            return None
        return grpc.unary_unary_rpc_method_handler(self._wait)

    def _wait(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.called.set()
        assert self.release.wait(SECONDS_MAX)
        return request

    def stop(self) -> None:
        self.release.set()
        self._server.stop(None).wait()


@pytest.fixture
def pod() -> Iterator[SlowPod]:
    pod = SlowPod()
    yield pod
    pod.stop()


def test_it_tells_where_it_listens_and_stops_when_told(start, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    proxy = start(LISTEN + POD.format(address="127.0.0.1:9"), "--ready-file", str(ready_file))
    assert proxy.addresses == json.loads(ready_file.read_text())
    assert proxy.addresses["pid"] == proxy.process.pid
    assert proxy.addresses["zmq"].startswith("tcp://127.0.0.1:")
    line = proxy.log_until(" ready ")
    for name in ("grpc", "zmq", "admin", "control"):
        address = proxy.addresses[name].removeprefix("tcp://")
        assert not address.endswith(":0")
        assert address in line
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=SECONDS_MAX).close()
    proxy.signal(signal.SIGTERM)
    assert proxy.ended() == 0
    assert 'stopped in flight="all finished"' in proxy.log


def test_only_what_is_configured_listens(start) -> None:
    proxy = start('[listen]\ngrpc = "127.0.0.1:0"\ncontrol = ""\n' + POD.format(address="h:9"))
    assert proxy.addresses.keys() == {"grpc", "pid"}
    proxy.signal(signal.SIGINT)
    assert proxy.ended() == 0


@pytest.mark.parametrize("name", ["grpc", "zmq", "admin", "control"])
def test_a_port_in_use_is_named_with_its_key(start, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        scheme = "tcp://" if name == "zmq" else ""
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        free = f'{name} = "{scheme}127.0.0.1:0"'
        text = LISTEN.replace(free, f'{name} = "{address}"') + POD.format(address="127.0.0.1:9")
        proxy = start(text)
        assert proxy.ended() == 2
    assert proxy.addresses == {}
    assert f"listen.{name}" in proxy.log
    assert address.removeprefix("tcp://") in proxy.log


def test_a_bad_configuration_is_refused_with_every_error(start) -> None:
    proxy = start("[ring]\nslots = 3\n[pods.pod-a]\nwieght = 1\n")
    assert proxy.ended() == 2
    assert "ring.slots: not a power of two" in proxy.log
    assert "pods.pod-a.wieght: no such key" in proxy.log


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path / "absent.toml")
    assert proxy.ended() == 2
    assert "cannot read it" in proxy.log
    assert proxy.addresses == {}


def test_hanging_up_reloads_and_a_bad_file_changes_nothing(start) -> None:
    proxy = start(LISTEN + POD.format(address="127.0.0.1:9"))
    proxy.log_until(" ready ")
    proxy.file.write_text(LISTEN + POD.format(address="127.0.0.1:9") + MORE)
    proxy.signal(signal.SIGHUP)
    assert "epoch=2" in proxy.log_until(" reloaded ")
    assert [pod["id"] for pod in json.loads(proxy.get("/ring"))["view"]["pods"]] == [
        "pod-a",
        "pod-b",
    ]
    proxy.file.write_text("[ring]\nslots = 3\n")
    proxy.signal(signal.SIGHUP)
    proxy.log_until("reload refused")
    assert "ring.slots" in proxy.log
    assert json.loads(proxy.get("/ring"))["view"]["epoch"] == 2
    proxy.file.write_text(LISTEN + POD.format(address="127.0.0.1:8"))
    proxy.signal(signal.SIGHUP)
    assert "epoch=3" in proxy.log_until(" reloaded ")


def test_what_is_in_flight_finishes_before_it_ends(start, pod: SlowPod) -> None:
    proxy = start(LISTEN + POD.format(address=pod.address))
    with grpc.insecure_channel(proxy.addresses["grpc"]) as channel:
        call = channel.unary_unary("/slow.Pod/Wait").future(b"x", timeout=SECONDS_MAX)
        assert pod.called.wait(SECONDS_MAX)
        proxy.signal(signal.SIGTERM)
        proxy.log_until(" stopping ")
        pod.release.set()
        assert call.result() == b"x"
    assert proxy.ended() == 0
    assert "all finished" in proxy.log


def test_the_grace_is_bounded(start, pod: SlowPod) -> None:
    text = LISTEN + POD.format(address=pod.address) + '[limits]\nshutdown_grace = "50ms"\n'
    proxy = start(text)
    with grpc.insecure_channel(proxy.addresses["grpc"]) as channel:
        call = channel.unary_unary("/slow.Pod/Wait").future(b"x", timeout=SECONDS_MAX)
        assert pod.called.wait(SECONDS_MAX)
        proxy.signal(signal.SIGTERM)
        assert proxy.ended() == 0
        assert call.exception() is not None
    assert "cut off after the grace" in proxy.log


def test_a_second_signal_ends_it_at_once(start, pod: SlowPod) -> None:
    text = LISTEN + POD.format(address=pod.address) + '[limits]\nshutdown_grace = "1h"\n'
    proxy = start(text)
    with grpc.insecure_channel(proxy.addresses["grpc"]) as channel:
        call = channel.unary_unary("/slow.Pod/Wait").future(b"x", timeout=SECONDS_MAX)
        assert pod.called.wait(SECONDS_MAX)
        proxy.signal(signal.SIGTERM)
        proxy.log_until(" stopping ")
        proxy.signal(signal.SIGINT)
        assert proxy.ended() == 1
        assert call.exception() is not None
    assert "cut short" in proxy.log


def test_pods_that_go_down_and_come_back_are_events(start, pod: SlowPod) -> None:
    proxy = start(LISTEN + POD.format(address="127.0.0.1:9"))
    line = proxy.log_until("pod down pod=pod-a transport=grpc")
    assert "reason=refused" in line
    proxy.file.write_text(LISTEN + POD.format(address=pod.address))
    proxy.signal(signal.SIGHUP)
    proxy.log_until("pod up pod=pod-a transport=grpc")


def test_the_admin_pages_show_the_native_sidecar(start) -> None:
    proxy = start(LISTEN + POD.format(address="127.0.0.1:9"))
    assert json.loads(proxy.get("/livez"))["live"] is True
    names = {family.name for family in text_string_to_metric_families(proxy.get("/metrics"))}
    assert {"hashroute_requests", "hashroute_request_duration_seconds", "hashroute_pod_up"} <= names
    status = json.loads(proxy.get("/status"))
    assert status["listen"]["grpc"] == proxy.addresses["grpc"]
    assert {"grpc", "zmq", "probe"} >= status["loop_age_ms"].keys()


def test_the_log_can_be_json(start) -> None:
    proxy = start(LISTEN + POD.format(address="127.0.0.1:9"), "--log-json")
    event = json.loads(proxy.log_until("ready"))
    assert (event["event"], event["level"]) == ("ready", "info")
    assert event["grpc"] == proxy.addresses["grpc"]
    proxy.signal(signal.SIGTERM)
    assert proxy.ended() == 0
    assert all(json.loads(line)["time"] for line in proxy.log.splitlines())


def test_systemd_is_told_if_it_asked(start, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        proxy = start(LISTEN + POD.format(address="127.0.0.1:9"), NOTIFY_SOCKET=str(address))
        readable, _, _ = select.select([manager], [], [], SECONDS_MAX)
        assert readable
        assert manager.recv(64) == b"READY=1"
        proxy.signal(signal.SIGTERM)
        assert proxy.ended() == 0
        assert manager.recv(64) == b"STOPPING=1"
