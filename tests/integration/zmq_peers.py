"""Both ends of the ZeroMQ relay under test: pods, clients, and peers played by hand.

Pods answer with their name in front of what they were asked. A request whose body is `HOLD` gets no
answer, so that it is in flight for as long as a test wants.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from hashroute import Ring
from hashroute._hashroute import Sidecar

from tests.integration.processes import SECONDS_MAX, Program, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

HOLD = b"hold"
POD_PROGRAM = Path(__file__).with_name("zmq_pod.py")
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


def answer(name: bytes, content: Sequence[bytes]) -> list[bytes] | None:
    """What a pod answers to the frames after the envelope; None: nothing."""
    return None if content[-1] == HOLD else [name, *content]


def serve(server: zmq.Socket[bytes], name: bytes, seen: list[list[bytes]]) -> None:
    """Answers one request, whatever kind of pod the socket is."""
    frames = server.recv_multipart()
    # A ROUTER socket puts its name of the peer first; REP keeps the envelope to itself.
    start = 1 if server.type == zmq.ROUTER else 0
    end = 0 if server.type == zmq.REP else frames.index(b"", start) + 1
    seen.append(frames[end:])
    reply = answer(name, frames[end:])
    if reply is not None:
        server.send_multipart([*frames[:end], *reply])


class Pod:
    """A pod in a thread of the test, with notes of all that it was asked."""

    def __init__(
        self, name: str, kind: int = zmq.ROUTER, address: str = "tcp://127.0.0.1:*"
    ) -> None:
        self.name = name
        self.seen: list[list[bytes]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._server = self._context.socket(kind)
        self._server.linger = 0
        self._server.bind(address)
        self.address = self._server.last_endpoint.decode()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(zmq.ContextTerminated), self._server:
            while True:
                serve(self._server, self.name.encode(), self.seen)

    def bodies(self) -> list[bytes]:
        return [content[-1] for content in self.seen]

    def close(self) -> None:
        self._context.term()
        self._thread.join(SECONDS_MAX)


class PodProcess(Program):
    """A pod as a process of its own, to be killed or frozen, on a port that stays its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = "tcp://127.0.0.1:*"
        self.start()

    def start(self) -> None:
        """Starts it, for the first time or again, and returns when it serves."""
        self.process = subprocess.Popen(
            [sys.executable, POD_PROGRAM, self.name, self.address], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], SECONDS_MAX)
        assert readable, f"{self.name} did not start within {SECONDS_MAX} s"
        self.address = self.process.stdout.readline().decode().strip()
        self.process.stdout.close()
        assert self.address.startswith("tcp://")


class ByHand:
    """A pod of which the test plays every move."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS_MAX)
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._others: list[socket.socket] = []

    @classmethod
    def unheard(cls, name: str) -> Self:
        """A pod that the network does not lead to: what is said to it is lost without a word."""
        pod = cls(name)
        pod._listener.listen(0)
        address = pod._listener.getsockname()
        # The kernel drops who wants to connect while others wait, and one waits.
        pod._others = [socket.create_connection(address)]
        return pod

    def accept(self) -> Wire:
        """Accepts the relay's connection and carries out the handshake."""
        peer = Wire(self._listener.accept()[0])
        peer.shake_hands(b"REP")
        return peer

    def close(self) -> None:
        for other in self._others:
            other.close()
        self._listener.close()


def settings(
    pods: Sequence[Pod | PodProcess | ByHand], **changes: dict[str, Any]
) -> dict[str, Any]:
    """Settings of a sidecar before these pods; `changes` replaces single values of a section."""
    view = {
        "version": 1,
        "epoch": 1,
        "slots": 65536,
        "epsilon": 0.05,
        "seed": 0,
        "pods": [
            {
                "id": pod.name,
                "weight": 1.0,
                "zone": None,
                "state": "active",
                "addresses": {"grpc": None, "zmq": pod.address},
            }
            for pod in pods
        ],
    }
    sections: dict[str, Any] = {
        "view": view,
        "listen": {"grpc": None, "zmq": "tcp://127.0.0.1:0"},
        "routes": [],
        "zmq": {
            "key_frame": 0,
            "idempotent": True,
            "envelope": "delimited",
            "request_timeout_ms": 30_000,
            "message_bytes_max": 64 << 20,
            "on_missing": "reject",
        },
        # So patient that a busy machine takes no pod for dead; a test of dead pods says otherwise.
        "health": {"interval_ms": 50, "timeout_ms": 10_000, "probe": "connect", "service": ""},
        "load": {"c": 1.25, "floor": 16},
        "retry": {
            "attempts_max": 3,
            "budget_ratio": 0.2,
            "budget_reserve": 256,
            "buffer_bytes": 65536,
        },
        "limits": {
            "connections_max": 4096,
            "requests_max": 16384,
            "header_list_bytes": 65536,
            "handshake_timeout_ms": 10_000,
            "keepalive_ms": 10_000,
            "stream_window_bytes": 65536,
        },
    }
    for section, values in changes.items():
        sections[section] |= values
    return sections


class Relay:
    """A sidecar that relays ZeroMQ, in this process, and the settings in force."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self._sidecar = Sidecar(json.dumps(settings))
        self.address: str = self._sidecar.addresses()["zmq"]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def apply(self, settings: dict[str, Any]) -> None:
        settings["view"]["epoch"] = self.settings["view"]["epoch"] + 1
        self._sidecar.apply(json.dumps(settings))
        self.settings = settings

    def snapshot(self) -> dict[str, Any]:
        snapshot: dict[str, Any] = json.loads(self._sidecar.snapshot())
        return snapshot

    def pod(self, name: str) -> dict[str, Any]:
        return next(pod for pod in self.snapshot()["pods"] if pod["id"] == name)

    def count(self, code: str) -> int:
        """How many requests ended with this status."""
        statuses = self.snapshot()["totals"]["by_status"]
        return sum(status["count"] for status in statuses if status["code"] == code)

    def in_flight(self) -> int:
        return int(self.snapshot()["totals"]["requests_in_flight"]["zmq"])

    def until_in_flight(self, count: int) -> None:
        until(lambda: self.in_flight() == count, f"{count} requests are in flight")

    def until_health(self, name: str, health: str) -> None:
        until(lambda: self.pod(name)["health"] == health, f"{name} is {health}")

    def stop(self, grace_seconds: float) -> bool:
        return bool(self._sidecar.stop(grace_seconds))


@contextlib.contextmanager
def relay(pods: Sequence[Pod | PodProcess | ByHand], **changes: dict[str, Any]) -> Iterator[Relay]:
    """A relay before these pods, all of which end with the block."""
    with contextlib.ExitStack() as stack:
        for pod in pods:
            stack.callback(pod.close)
        running = Relay(settings(pods, **changes))
        stack.callback(running.stop, 0.0)
        yield running


@contextlib.contextmanager
def client(relay: Relay, kind: int = zmq.REQ, **options: int) -> Iterator[zmq.Socket[bytes]]:
    """An unmodified libzmq socket, connected to the relay."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    peer = context.socket(kind)
    try:
        peer.linger = 0
        peer.rcvtimeo = int(SECONDS_MAX * 1000)
        for name, value in options.items():
            peer.setsockopt(getattr(zmq, name), value)
        peer.connect(relay.address)
        yield peer
    finally:
        peer.close()
        context.term()


def ask(peer: zmq.Socket[bytes], *frames: bytes) -> list[bytes]:
    """Sends a request over a REQ socket and returns its reply."""
    peer.send_multipart(frames)
    return peer.recv_multipart()


def key_of(name: str, pods: Sequence[Pod | PodProcess | ByHand]) -> bytes:
    """A key that this pod owns."""
    ring = Ring([pod.name for pod in pods])
    return next(
        key for key in (b"key-%d" % number for number in range(10_000)) if ring.owner(key) == name
    )


def error_of(reply: Sequence[bytes]) -> tuple[str, str]:
    """The code and the outcome in an error reply without its envelope, which must be one frame."""
    (frame,) = reply
    mark, code, outcome, text = frame.decode().split(" ", 3)
    assert mark == "HASHROUTE-ERROR"
    assert text
    return code, outcome.removeprefix("outcome=")


def frame(body: bytes, *, more: bool = False) -> bytes:
    """A message frame on the wire."""
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return struct.pack(">BQ", more | 2, len(body)) + body


def message(*bodies: bytes) -> bytes:
    """A whole message on the wire."""
    last = len(bodies) - 1
    return b"".join(frame(body, more=index < last) for index, body in enumerate(bodies))


def command(name: bytes, data: bytes) -> bytes:
    """A command frame on the wire."""
    body = bytes([len(name)]) + name + data
    return bytes([4, len(body)]) + body


def ready(socket_type: bytes) -> bytes:
    """The command that ends a handshake."""
    name = b"Socket-Type"
    return command(
        b"READY",
        struct.pack(">B", len(name)) + name + struct.pack(">I", len(socket_type)) + socket_type,
    )


class Wire:
    """A peer that sends the bytes it is told to."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(SECONDS_MAX)
        self._unread = b""

    @classmethod
    def connect(cls, relay: Relay, *opening: bytes) -> Wire:
        """A peer that has connected to the relay and sent this."""
        peer = cls(socket.create_connection(("127.0.0.1", relay.port), SECONDS_MAX))
        peer.send(*opening)
        return peer

    @classmethod
    def dealer(cls, relay: Relay) -> Wire:
        """A DEALER client past its handshake."""
        peer = cls.connect(relay)
        peer.shake_hands(b"DEALER")
        return peer

    def shake_hands(self, socket_type: bytes) -> None:
        self.send(GREETING, ready(socket_type))
        assert self.read(64)[0] == 0xFF
        self.frame()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def send(self, *pieces: bytes) -> None:
        self._socket.sendall(b"".join(pieces))

    def read(self, count: int) -> bytes:
        while len(self._unread) < count:
            came = self._socket.recv(65536)
            assert came, "the other side hung up"
            self._unread += came
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """The next frame's flags and body."""
        flags = self.read(1)[0]
        length = struct.unpack(">Q", self.read(8))[0] if flags & 2 else self.read(1)[0]
        return flags, self.read(length)

    def message(self) -> list[bytes]:
        """The next message; commands are passed over."""
        bodies = []
        while True:
            flags, body = self.frame()
            if flags & 4:
                continue
            bodies.append(body)
            if not flags & 1:
                return bodies

    def until_closed(self) -> bytes:
        """Everything up to the end of the connection."""
        came = self._unread
        with contextlib.suppress(ConnectionResetError):
            while piece := self._socket.recv(65536):
                came += piece
        return came

    def until_blocked(self, piece: bytes, bytes_max: int, blocked_for_seconds: float) -> int:
        """Sends `piece` again and again until it is no longer taken; returns the bytes sent."""
        sent = 0
        while sent < bytes_max:
            _, writable, _ = select.select([], [self._socket], [], blocked_for_seconds)
            if not writable:
                break
            sent += self._socket.send(piece[sent % len(piece) :])
        return sent

    def close(self) -> None:
        self._socket.close()
