"""A request-reply client over ZeroMQ that sends each request to the pod of its key.

Pods are unmodified REP or ROUTER sockets. A request reaches them as
``[id][empty][key][frames of the request...]``, the shape that a sidecar gives it too; what follows
the empty frame of the answer is what the caller gets::

    with Client({"pod-a": "tcp://10.0.0.1:5551", "pod-b": "tcp://10.0.0.2:5551"}) as client:
        [price] = client.request("EURUSD", b"bid")

A sidecar may stand in place of the pods; its error replies are raised as what they name.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING

from hashroute._hashroute import key_bytes
from hashroute.clients._targets import Target, router_of
from hashroute.clients._zmq_engine import Engine, Pending, check_frame
from hashroute.errors import ConfigurationError, MissingKeyError, ParameterError
from hashroute.router import HealthOptions

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from hashroute import Key
    from hashroute._hashroute import Write
    from hashroute.router import Router

__all__ = ["AsyncClient", "Client", "Target"]

TIMEOUT_SECONDS_DEFAULT = 30.0
PATIENCE_SECONDS_DEFAULT = 2.0


class _Client:
    """What both clients are: an engine, and the rules for what goes into it."""

    def __init__(
        self,
        pods: Target,
        *,
        idempotent: bool = False,
        write: bool = False,
        group: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS_DEFAULT,
        timeout_seconds: float = TIMEOUT_SECONDS_DEFAULT,
        health: HealthOptions | None = None,
    ) -> None:
        health = health or HealthOptions()
        self._idempotent = idempotent
        self._write = write
        self._group = group
        self._patience_seconds = patience_seconds
        self._timeout_seconds = _checked_timeout(timeout_seconds)
        self._router, self._is_router_ours = router_of(pods, transport="zmq", health=health)
        _check_addresses(self._router)
        if write or group is not None:
            self._check_follows()
        self._engine = Engine(self._router, health)
        # A client that is forgotten must not leave a thread and sockets behind.
        self._finalizer = weakref.finalize(self, self._engine.stop)

    def submit(
        self,
        key: Key,
        *frames: bytes,
        idempotent: bool | None = None,
        write: bool | None = None,
        timeout_seconds: float | None = None,
    ) -> Future[list[bytes]]:
        """Begins a request; returns the future of its answer. Arguments and errors as ``request``.

        Cancelling the future gives the answer up; the pod is not told.
        """
        if key is None:
            raise MissingKeyError(
                "a request needs a key: what decides which pod answers, such as the symbol"
            )
        message = [key_bytes(key), *map(check_frame, frames)]
        may_repeat = self._idempotent if idempotent is None else idempotent
        timeout = (
            self._timeout_seconds if timeout_seconds is None else _checked_timeout(timeout_seconds)
        )
        is_write = self._group is not None or (self._write if write is None else write)
        future: Future[list[bytes]] = Future()
        self._engine.submit(
            Pending(
                request=None if is_write else self._router.request(key, may_repeat),
                write=self._begin_write(key, may_repeat=may_repeat) if is_write else None,
                frames=message,
                deadline=time.monotonic() + timeout,
                future=future,
            )
        )
        return future

    def _begin_write(self, key: Key, *, may_repeat: bool) -> Write:
        self._check_follows()
        return self._router.write(
            key,
            group=self._group,
            idempotent=may_repeat,
            patience_seconds=self._patience_seconds,
        )

    def _check_follows(self) -> None:
        if self._router.record_epoch is None:
            raise ParameterError(
                "writes need a router that follows a quorum, which says who may write: make it "
                "with Router.connect(voters, cluster=…)",
                parameter="write",
            )

    def _close(self) -> None:
        self._finalizer()
        if self._is_router_ours:
            self._router.close()


class Client(_Client):
    """A synchronous client; safe to share between threads.

    Args:
        pods: a :class:`hashroute.Router` with ``transport="zmq"`` (which stays the caller's to
            close), a ring, pods, addresses, or a mapping from pod id to address.
        idempotent: whether a request may be carried out twice without harm; one that may have
            reached a pod that is lost is then sent to another, within the router's retry budget.
        write: whether what requests change has one writer. They then go to the owner of their key
            by the newest record of the quorum, with a tag for its guard, which may refuse them;
            what was refused is sent again to where a newer record says. Needs a router that follows
            a quorum (:meth:`hashroute.Router.connect`), and pods with a guard.
        group: the group whose leader is the one writer of all requests.
        patience_seconds: how long a pod that accepts a write is looked for, at most until the
            request's timeout.
        timeout_seconds: how long a request may take, all attempts together.
        health: how often a pod must show that it lives, and within what time.

    Raises:
        ConfigurationError: no router can be made of ``pods``, or a number is out of range.
    """

    def request(
        self,
        key: Key,
        *frames: bytes,
        idempotent: bool | None = None,
        write: bool | None = None,
        timeout_seconds: float | None = None,
    ) -> list[bytes]:
        """Sends a request to the pod of ``key``, and returns the frames of its answer.

        Args:
            key: what decides the pod; travels as the first frame.
            frames: the request.
            idempotent: as for the client; None for what that has.
            write: as for the client; None for what that has.
            timeout_seconds: as for the client; None for what that has.

        Raises:
            DeadlineExceededError: no answer in time; ``outcome`` says what is known of it.
            WriteRefusedError: no pod accepted the write in time; its class says why.
            UnavailableError: no pod could be reached (``outcome`` is ``not_applied``), or the pod
                was lost before its answer (``unknown``).
            ResourceExhaustedError: too many requests have no answer yet; nothing was sent.
            InvalidKeyError, MissingKeyError, MalformedRequestError: key or frames are none.
            ClosedError: the client was closed.
        """
        return self.submit(
            key, *frames, idempotent=idempotent, write=write, timeout_seconds=timeout_seconds
        ).result()

    def close(self) -> None:
        """Ends the connections; requests without an answer fail with :class:`ClosedError`."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(_Client):
    """The asyncio form of :class:`Client`, with the same arguments; for any event loop."""

    async def request(
        self,
        key: Key,
        *frames: bytes,
        idempotent: bool | None = None,
        write: bool | None = None,
        timeout_seconds: float | None = None,
    ) -> list[bytes]:
        """Sends a request to the pod of ``key``; arguments and errors as :meth:`Client.request`.

        May be cancelled: the answer is given up, and the pod is not told.
        """
        future = self.submit(
            key, *frames, idempotent=idempotent, write=write, timeout_seconds=timeout_seconds
        )
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Ends the connections; requests without an answer fail with :class:`ClosedError`."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _check_addresses(router: Router) -> None:
    for pod in router.ring.pods:
        if pod.zmq is not None and "://" not in pod.zmq:
            raise ConfigurationError(
                f"pod {pod.id!r} has the ZeroMQ address {pod.zmq!r}; write tcp://{pod.zmq}"
            )


def _checked_timeout(seconds: float) -> float:
    if not 0 < seconds < float("inf"):
        raise ParameterError(
            f"timeout_seconds must be a positive, finite number, not {seconds}",
            parameter="timeout_seconds",
        )
    return seconds
