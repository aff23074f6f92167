"""The thread that owns the sockets of a ZeroMQ client: sends, receives, fails over, gives up."""

from __future__ import annotations

import heapq
import itertools
import math
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zmq

from hashroute._hashroute import Route, Wait, raise_error_reply, refusal_of
from hashroute.clients._waiting import Waiting
from hashroute.clients._zmq_pods import PodSocket
from hashroute.clients._zmq_writes import Pauses
from hashroute.errors import (
    ClosedError,
    DeadlineExceededError,
    HashrouteError,
    InternalError,
    MalformedRequestError,
    NoPodError,
    RequestError,
    ResourceExhaustedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from typing import Literal

    from hashroute._hashroute import Request, Write
    from hashroute.errors import Outcome
    from hashroute.router import HealthOptions, Router

# Bounds the memory of a client whose pods have stopped answering.
IN_FLIGHT_MAX = 16_384
# How often connections that stand are reported, and changes of the view are looked for.
TICK_SECONDS = 0.1


@dataclass(eq=False, slots=True)
class Pending:
    """A request that has no answer yet."""

    request: Request | None
    """Where it goes, if any pod of its preference list may answer."""
    write: Write | None
    """Where it goes, if it has one writer."""
    frames: list[bytes]
    deadline: float
    future: Future[list[bytes]]
    id: bytes = b""
    route: Route | None = None
    is_sent: bool = False
    failure: HashrouteError | None = None
    pause: tuple[float, int, int | None] | None = None
    is_over: bool = False


@dataclass(eq=False, slots=True)
class Pod:
    """A pod, its connection, and the requests it has or is to have."""

    id: str
    address: str
    socket: PodSocket
    unsent: deque[Pending] = field(default_factory=deque)
    sent: dict[bytes, Pending] = field(default_factory=dict)


class Engine:
    """Carries requests to pods and answers back. Its thread runs until :meth:`stop`."""

    def __init__(self, router: Router, health: HealthOptions) -> None:
        self._router = router
        self._health = health
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._pods: dict[tuple[str, str], Pod] = {}
        self._ids = itertools.count(1)
        self._deadlines: list[tuple[float, int, Pending]] = []
        self._in_flight = 0
        # Wakes this thread when a record comes that a write may wait for.
        self._records = Waiting(router)
        self._is_told_of_records = False
        self._record: int | None = None
        self._pauses: Pauses[Pending] = Pauses(router)
        self._writes: set[Pending] = set()
        # What other threads want: they add to the queue and write a byte to wake this one.
        self._wanted: deque[Pending | None] = deque()
        self._given_up: deque[Pending] = deque()
        self._wake_end, self._wakeup = socket.socketpair()
        self._wake_end.setblocking(False)
        self._wakeup.setblocking(False)
        self._poller.register(self._wake_end, zmq.POLLIN)
        self._is_stopped = False
        self._is_closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="hashroute-zmq", daemon=True)
        self._thread.start()

    def submit(self, pending: Pending) -> None:
        """Takes a request; its future will have the answer or a :class:`RequestError`.

        Raises:
            ClosedError: the client was closed.
            ResourceExhaustedError: too many requests have no answer yet.
        """
        with self._lock:
            if self._is_stopped:
                raise ClosedError("the client was closed; make another one")
            if self._in_flight >= IN_FLIGHT_MAX:
                raise ResourceExhaustedError(
                    f"{IN_FLIGHT_MAX} requests have no answer yet, the most a client may have: "
                    "wait for some of them before sending more"
                )
            self._in_flight += 1
            self._wanted.append(pending)
        if pending.write is not None and not self._is_told_of_records:
            self._is_told_of_records = True
            self._records.add_listener(self._wake)
        pending.future.add_done_callback(
            lambda future: self._give_up(pending) if future.cancelled() else None
        )
        self._wake()

    def stop(self) -> None:
        """Ends the thread; requests without an answer fail with :class:`ClosedError`."""
        self._records.close()
        with self._lock:
            self._is_stopped = True
            self._wanted.append(None)
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _give_up(self, pending: Pending) -> None:
        self._given_up.append(pending)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            # A full pipe wakes the thread as well as another byte would.
            if not self._is_closed:
                with suppress(BlockingIOError):
                    self._wakeup.send(b"!")

    def _run(self) -> None:
        reason: HashrouteError = ClosedError("the client was closed before the answer came")
        try:
            self._loop()
        except Exception as error:
            # Whoever waits must hear of it; a thread that just ended would leave them waiting.
            reason = InternalError(f"the thread of the client failed ({error!r}): please report it")
            raise
        finally:
            self._close(reason)

    def _loop(self) -> None:
        self._follow_view()
        next_tick = time.monotonic() + TICK_SECONDS
        while True:
            events = dict(self._poller.poll(self._patience_ms(next_tick)))
            if self._wake_end.fileno() in events and not self._take_wanted():
                return
            for pod in list(self._pods.values()):
                if pod.socket.socket in events:
                    self._receive(pod)
                if pod.socket.monitor in events:
                    self._follow_connection(pod)
            now = time.monotonic()
            self._give_up_late(now)
            self._follow_writes(now)
            if now >= next_tick:
                next_tick = now + TICK_SECONDS
                self._tick()

    def _patience_ms(self, next_tick: float) -> int:
        first = self._deadlines[0][0] if self._deadlines else next_tick
        paused = self._pauses.first_due()
        first = min(first, next_tick, next_tick if paused is None else paused)
        # Rounded up, or the last fraction of a millisecond is spent in a busy loop.
        return math.ceil(max(0.0, first - time.monotonic()) * 1000)

    def _take_wanted(self) -> bool:
        """Begins what other threads want; returns whether to go on."""
        with suppress(BlockingIOError):
            self._wake_end.recv(4096)
        while self._wanted:
            pending = self._wanted.popleft()
            if pending is None:
                return False
            number = next(self._ids)
            pending.id = number.to_bytes(8, "big")
            heapq.heappush(self._deadlines, (pending.deadline, number, pending))
            self._attempt(pending)
        while self._given_up:
            self._forget(self._given_up.popleft())
        if len(self._deadlines) > 2 * IN_FLIGHT_MAX:
            # Most of these have their answer; so many are not worth waiting for their time.
            self._deadlines = [entry for entry in self._deadlines if not entry[2].is_over]
            heapq.heapify(self._deadlines)
        return True

    def _attempt(self, pending: Pending) -> None:
        """Gives the request to the next pod of its preference list, or to its one writer."""
        if pending.write is not None:
            self._writes.add(pending)
            self._act(pending, pending.write.begin())
        elif pending.request is not None:
            try:
                route = pending.request.attempt()
            except NoPodError as error:
                self._fail(pending, pending.failure or error)
            else:
                self._deliver(pending, route)

    def _deliver(self, pending: Pending, route: Route) -> None:
        pending.route = route
        # A ZeroMQ router chooses no pod without an address.
        key = (route.pod, route.address or "")
        pod = self._pods.get(key) or self._connect(key)
        if pod is None:
            self._router.report(key[0], "refused")
            self._retry(pending, "not_sent", f"pod {key[0]!r} has no usable address: {key[1]!r}")
            return
        if pod.socket.is_ready and pod.socket.send(_message(pending)):
            pending.is_sent = True
            pod.sent[pending.id] = pending
        else:
            pod.unsent.append(pending)

    def _act(self, pending: Pending, turn: Route | Wait | HashrouteError) -> None:
        """Does with a write what was decided."""
        if isinstance(turn, Wait):
            self._pauses.add(pending, turn)
        elif isinstance(turn, HashrouteError):
            self._take_back(pending)
            self._fail(pending, turn)
        else:
            self._take_back(pending)
            self._end(pending, "error", is_over=False)
            self._deliver(pending, turn)

    def _follow_writes(self, now: float) -> None:
        """Goes on with writes that have waited, and leaves pods that own them no more."""
        for pending in self._pauses.ended(now):
            if pending.write is not None and not pending.is_over:
                self._act(pending, pending.write.resumed())
        record = self._router.record_epoch
        if record == self._record:
            return
        self._record = record
        for pending in tuple(self._writes):
            at_pod = pending.route is not None and pending.pause is None
            if pending.write is not None and at_pod and pending.write.has_moved:
                turn = pending.write.moved(response_started=False, replayable=True)
                self._act(pending, turn)

    def _connect(self, key: tuple[str, str]) -> Pod | None:
        """Begins to connect to a pod; returns None if its address is none."""
        try:
            connection = PodSocket(self._context, key[1], self._health)
        except zmq.ZMQError:
            return None
        pod = self._pods[key] = Pod(*key, connection)
        self._poller.register(pod.socket.socket, zmq.POLLIN)
        self._poller.register(pod.socket.monitor, zmq.POLLIN)
        return pod

    def _disconnect(self, pod: Pod) -> None:
        self._poller.unregister(pod.socket.socket)
        self._poller.unregister(pod.socket.monitor)
        pod.socket.close()

    def _follow_view(self) -> None:
        """Connects to the pods of the view, and lets go of those that left it and have nothing."""
        known = {(pod.id, pod.zmq) for pod in self._router.ring.pods if pod.zmq is not None}
        for key, pod in list(self._pods.items()):
            if key not in known and not pod.sent and not pod.unsent:
                self._disconnect(pod)
                del self._pods[key]
        for pod_id, address in known:
            if (pod_id, address) not in self._pods:
                self._connect((pod_id, address))

    def _tick(self) -> None:
        self._follow_view()
        for pod in self._pods.values():
            if pod.socket.is_ready:
                # Its connection stands, so it answers heartbeats.
                self._router.report(pod.id, "alive")

    def _receive(self, pod: Pod) -> None:
        while (message := pod.socket.receive()) is not None:
            if not message:
                continue
            # An answer nobody waits for any more: its request was late, or was cancelled.
            pending = pod.sent.pop(message[0], None)
            if pending is not None:
                self._answer(pending, message)

    def _answer(self, pending: Pending, message: list[bytes]) -> None:
        delimiter = message.index(b"", 1) if b"" in message[1:] else 0
        body = message[delimiter + 1 :]
        if pending.write is not None and len(body) == 1:
            refusal = refusal_of(body[0])
            if refusal is not None:
                self._end(pending, "error", is_over=False)
                pending.is_sent = False
                word, epoch = refusal
                turn = pending.write.refused(word, epoch, response_started=False, replayable=True)
                self._act(pending, turn)
                return
        try:
            if len(body) == 1:
                raise_error_reply(body[0])
        except RequestError as error:
            self._end(pending, "error")
            _settle(pending.future, error)
            return
        self._end(pending, None)
        _settle(pending.future, body)

    def _follow_connection(self, pod: Pod) -> None:
        for change in pod.socket.changes():
            if change == "ready":
                self._router.report(pod.id, "alive")
                self._flush(pod)
            else:
                self._router.report(pod.id, change)
                self._move_on(pod)

    def _flush(self, pod: Pod) -> None:
        while pod.unsent and pod.socket.send(_message(pod.unsent[0])):
            pending = pod.unsent.popleft()
            pending.is_sent = True
            pod.sent[pending.id] = pending

    def _move_on(self, pod: Pod) -> None:
        """Takes what the pod had, and what it was to have, to other pods if that may be."""
        lost, pod.sent = list(pod.sent.values()), {}
        unsent, pod.unsent = list(pod.unsent), deque()
        if lost:
            # A fresh connection cannot bring answers or requests of before.
            self._disconnect(pod)
            pod.socket = PodSocket(self._context, pod.address, self._health)
            self._poller.register(pod.socket.socket, zmq.POLLIN)
            self._poller.register(pod.socket.monitor, zmq.POLLIN)
        for pending in lost:
            self._retry(pending, "lost", f"the connection to pod {pod.id!r} was lost")
        for pending in unsent:
            self._retry(pending, "not_sent", f"pod {pod.id!r} cannot be reached at {pod.address}")

    def _retry(self, pending: Pending, kind: Literal["lost", "not_sent"], text: str) -> None:
        self._end(pending, "error", is_over=False)
        pending.is_sent = False
        if pending.write is not None:
            turn = pending.write.failed(kind, response_started=False, replayable=True)
            self._act(pending, turn)
            return
        if pending.request is None:
            return
        outcome = pending.request.outcome(kind == "lost")
        pending.failure = UnavailableError(_advice(text, outcome), outcome=outcome)
        verdict = pending.request.failed(kind, response_started=False, replayable=True)
        if verdict == "retry" and not pending.future.cancelled():
            self._attempt(pending)
        else:
            self._fail(pending, pending.failure)

    def _give_up_late(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            pending = heapq.heappop(self._deadlines)[2]
            if pending.is_over:
                continue
            self._take_back(pending)
            at = pending.write or pending.request
            outcome = at.outcome(pending.is_sent) if at is not None else "unknown"
            pod_id = None if pending.route is None else pending.route.pod
            self._end(pending, "deadline" if pending.is_sent else "error")
            text = (
                "no pod accepted the write before the deadline"
                if pod_id is None
                else f"no answer from pod {pod_id!r} before the deadline"
            )
            _settle(
                pending.future,
                DeadlineExceededError(_advice(text, outcome), outcome=outcome, pod=pod_id),
            )

    def _forget(self, pending: Pending) -> None:
        """Drops a request that nobody waits for any more."""
        self._take_back(pending)
        if pending.route is not None:
            # Neither an answer nor an error, so it counts as neither.
            pending.route.release()
            pending.route = None
        self._is_over(pending)

    def _take_back(self, pending: Pending) -> None:
        for pod in self._pods.values():
            pod.sent.pop(pending.id, None)
            if pending in pod.unsent:
                pod.unsent.remove(pending)

    def _fail(self, pending: Pending, error: HashrouteError) -> None:
        self._end(pending, "error")
        _settle(pending.future, error)

    def _end(
        self,
        pending: Pending,
        failing: Literal["deadline", "error"] | None,
        *,
        is_over: bool = True,
    ) -> None:
        """Ends the present attempt, and with ``is_over`` the request."""
        if pending.route is not None:
            if failing is None:
                pending.route.succeeded()
            else:
                pending.route.failed(failing)
            pending.route.release()
            pending.route = None
        if is_over:
            self._is_over(pending)

    def _is_over(self, pending: Pending) -> None:
        if not pending.is_over:
            pending.is_over = True
            pending.pause = None
            self._writes.discard(pending)
            with self._lock:
                self._in_flight -= 1

    def _close(self, reason: HashrouteError) -> None:
        with self._lock:
            self._is_stopped = True
            waiting = [pending for pending in self._wanted if pending is not None]
            self._wanted.clear()
        for pod in self._pods.values():
            waiting += [*pod.sent.values(), *pod.unsent]
            self._disconnect(pod)
        waiting += [pending for pending in self._writes if pending not in waiting]
        for pending in waiting:
            self._fail(pending, reason)
        with self._lock:
            self._is_closed = True
            self._wake_end.close()
            self._wakeup.close()
        self._context.term()


def check_frame(frame: object) -> bytes:
    """Returns a frame of a request as bytes.

    Raises:
        MalformedRequestError: it is not bytes-like.
    """
    if isinstance(frame, bytes | bytearray | memoryview):
        return bytes(frame)
    raise MalformedRequestError(
        f"a frame is bytes, not {type(frame).__name__}; encode it first, for instance with "
        "text.encode()"
    )


def _message(pending: Pending) -> list[bytes]:
    """The frames of a request as its pod gets them; a write carries its tag for the guard."""
    if pending.write is None or pending.route is None:
        return [pending.id, b"", *pending.frames]
    return [pending.id, b"", pending.route.tag.to_frame(), *pending.frames]


def _settle(future: Future[list[bytes]], result: list[bytes] | HashrouteError) -> None:
    # A future that was cancelled has nobody who waits for it.
    with suppress(InvalidStateError):
        if isinstance(result, list):
            future.set_result(result)
        else:
            future.set_exception(result)


def _advice(text: str, outcome: Outcome) -> str:
    if outcome == "not_applied":
        return f"{text}; the request was not sent, so it is safe to send it again"
    return (
        f"{text}; the request may have been carried out: send it again only if that does no harm, "
        "or declare it idempotent"
    )
