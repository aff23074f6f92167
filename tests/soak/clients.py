"""What writes: unmodified clients of a router, and the clients of hashroute without one.

Each kind sends writes without waiting for the answers of earlier ones, and tells the log how each
ended: *acknowledged*, *refused* (certainly not applied, says the error), or *unknown*.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Protocol

import grpc
import hashroute.clients.grpc
import hashroute.clients.zmq
import zmq
from hashroute import RequestError, Router

from tests.soak.service import METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_SECONDS = 5.0
PATIENCE_SECONDS = 4.0
INTERVAL_SECONDS = 0.040
"""Between two writes of a key. Whether the one before was answered does not matter: who waits for
an answer that a dead pod owes him learns nothing of the next writer."""
OUTSTANDING_MAX = 1_000
CONTROL = "127.0.0.1:9003"
"""Where the router beside says whom it follows."""

ERROR_MARK = b"HASHROUTE-ERROR "
WRITTEN = b"written"


class Noted:
    """One write on its way: what is to be written, and how to say how it ended."""

    def __init__(self, log: Log, key: str, number: int, kind: str) -> None:
        self._log = log
        self.key = key
        self.value = f"{key}/{number}"
        self.began_at = time.monotonic()
        self._kind = kind

    def acknowledge(self, writer: str) -> None:
        """The pod ``writer`` said that it was written."""
        self._end(ending="acknowledged", writer=writer)

    def fail(self, outcome: str | None, text: str) -> None:
        """It ended in an error, which says ``not-applied``, or leaves it open."""
        ending = "refused" if outcome == "not-applied" else "unknown"
        self._end(ending=ending, writer=None, error=text)

    def _end(self, **ended: object) -> None:
        about = {"value": self.value, "key": self.key, "kind": self._kind}
        times = {"began_at": self.began_at, "ended_at": time.monotonic()}
        self._log.note({**about, **times, **ended})


class Log:
    """The endings of writes, one a line; and a bound on how many have not ended."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._outstanding = threading.BoundedSemaphore(OUTSTANDING_MAX)

    def begin(self, key: str, number: int, kind: str) -> Noted:
        """Begins a write; waits only if far too many have not ended."""
        self._outstanding.acquire()
        return Noted(self, key, number, kind)

    def note(self, ended: dict[str, object]) -> None:
        """Writes down how a write ended."""
        self._stream.write(json.dumps(ended) + "\n")
        self._outstanding.release()

    def finish(self) -> None:
        """Returns when every write has ended."""
        for _ in range(OUTSTANDING_MAX):
            self._outstanding.acquire()


class Client(Protocol):
    """One kind of client."""

    def send(self, write: Noted) -> None:
        """Sends a write, and returns at once."""

    def wait(self, until: float) -> None:
        """Lets time pass until then; what comes in meanwhile is taken in."""

    def finish(self) -> None:
        """Sees to it that what was sent comes to an end."""


class Pausing:
    """Waits for the time alone: answers come in on other threads."""

    def finish(self) -> None:
        """Nothing to do."""

    def wait(self, until: float) -> None:
        """Sleeps."""
        time.sleep(max(0.0, until - time.monotonic()))  # the pace of the load, no poll


class GrpcClient(Pausing):
    """grpcio as it is, or the channel of hashroute in its place."""

    def __init__(self, channel: grpc.Channel) -> None:
        # grpcio's stubs know neither lists of metadata nor what a call's error carries.
        self._call: Any = channel.unary_unary(METHOD)

    def send(self, write: Noted) -> None:
        """Sends a write, and returns at once."""
        metadata = [("x-hashroute-key", write.key)]
        future = self._call.future(
            write.value.encode(), timeout=DEADLINE_SECONDS, metadata=metadata
        )
        future.add_done_callback(lambda done: self._ended(done, write))

    @staticmethod
    def _ended(done: Any, write: Noted) -> None:
        error = done.exception()
        if error is None:
            write.acknowledge(done.result().decode())
            return
        said = {**dict(error.trailing_metadata() or ()), **dict(error.initial_metadata() or ())}
        write.fail(said.get("x-hashroute-outcome"), f"{error.code().name}: {error.details()}")


class ZmqClient:
    """pyzmq as it is: a DEALER socket, so that a write need not wait for the one before."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._numbers = itertools.count()
        self._sent: dict[bytes, Noted] = {}

    def send(self, write: Noted) -> None:
        """Sends a write, and returns at once."""
        number = next(self._numbers).to_bytes(8, "big")
        try:
            frames = [number, b"", write.key.encode(), write.value.encode()]
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            write.fail("not-applied", "the socket takes no more")
        else:
            self._sent[number] = write

    def wait(self, until: float) -> None:
        """Takes in answers until then, and gives up those that are overdue."""
        while (left := until - time.monotonic()) > 0:
            if self._socket.poll(max(1, round(left * 1e3))):
                number, _empty, *answer = self._socket.recv_multipart()
                write = self._sent.pop(number, None)
                if write is not None:
                    self._ended(answer, write)
        overdue = time.monotonic() - DEADLINE_SECONDS
        # The oldest stand first.
        for number in list(itertools.takewhile(lambda n: self._is_before(n, overdue), self._sent)):
            self._sent.pop(number).fail(None, "no answer in time")

    def finish(self) -> None:
        """Takes in answers until there is none to come, or they are overdue."""
        while self._sent:
            self.wait(time.monotonic() + INTERVAL_SECONDS)

    def _is_before(self, number: bytes, time: float) -> bool:
        return self._sent[number].began_at < time

    @staticmethod
    def _ended(answer: list[bytes], write: Noted) -> None:
        if answer[0] == WRITTEN:
            write.acknowledge(answer[1].decode())
            return
        text = answer[0].decode()
        words = text.split(" ", 3) if answer[0].startswith(ERROR_MARK) else []
        write.fail(words[2].removeprefix("outcome=") if words else None, text)


class DirectZmqClient(Pausing):
    """The ZeroMQ client of hashroute, which finds the pods itself."""

    def __init__(self, client: hashroute.clients.zmq.Client) -> None:
        self._client = client

    def send(self, write: Noted) -> None:
        """Sends a write, and returns at once."""
        try:
            future = self._client.submit(
                write.key, write.value.encode(), timeout_seconds=DEADLINE_SECONDS
            )
        except RequestError as error:
            self._failed(error, write)
        else:
            future.add_done_callback(lambda done: self._ended(done, write))

    def _ended(self, done: Any, write: Noted) -> None:
        error = done.exception()
        if error is not None:
            self._failed(error, write)
        elif done.result()[0] == WRITTEN:
            write.acknowledge(done.result()[1].decode())
        else:
            write.fail(None, done.result()[0].decode())

    @staticmethod
    def _failed(error: BaseException, write: Noted) -> None:
        outcome = (getattr(error, "outcome", None) or "unknown").replace("_", "-")
        write.fail(outcome, f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def over_grpc() -> Iterator[Client]:
    """A plain grpcio client of the router."""
    with grpc.insecure_channel("127.0.0.1:9000") as channel:
        yield GrpcClient(channel)


@contextlib.contextmanager
def over_zmq() -> Iterator[Client]:
    """A plain pyzmq client of the router."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect("tcp://127.0.0.1:9001")
        yield ZmqClient(socket)


@contextlib.contextmanager
def over_direct_grpc() -> Iterator[Client]:
    """The gRPC channel of hashroute, which follows the quorum itself."""
    with (
        Router.connect(CONTROL, transport="grpc") as router,
        hashroute.clients.grpc.channel(
            router, writes=[METHOD], patience_seconds=PATIENCE_SECONDS
        ) as channel,
    ):
        yield GrpcClient(channel)


@contextlib.contextmanager
def over_direct_zmq() -> Iterator[Client]:
    """The ZeroMQ client of hashroute, which follows the quorum itself."""
    with (
        Router.connect(CONTROL, transport="zmq") as router,
        hashroute.clients.zmq.Client(
            router, write=True, patience_seconds=PATIENCE_SECONDS
        ) as client,
    ):
        yield DirectZmqClient(client)


KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[Client]]] = {
    "grpc": over_grpc,
    "zmq": over_zmq,
    "direct-grpc": over_direct_grpc,
    "direct-zmq": over_direct_zmq,
}
