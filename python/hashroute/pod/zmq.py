"""The guard in front of a ZeroMQ loop.

::

    guard = hashroute.pod.zmq.Guard(member.guard)
    while True:
        with guard.receive(socket) as request:
            key, *body = request.frames
            store.write(key, body, term=request.term)
            request.reply(b"done")

A write is admitted before the loop sees it, and counts as under way until the end of its block; one
that is not is answered here, in words that routers understand. Its bytes are in ``docs/wire.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

from hashroute._hashroute import Tag, refusal_frame
from hashroute.errors import ClosedError, MissingKeyError, WriteRefusedError
from hashroute.pod._current import CURRENT
from hashroute.pod._rules import Admitted, Gate, Untagged

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType
    from typing import Self

    from zmq.asyncio import Socket as AsyncSocket

    from hashroute._hashroute import Admission
    from hashroute._hashroute import Guard as PodGuard

__all__ = ["AsyncGuard", "AsyncRequest", "Guard", "Request", "Untagged"]

CLAIM = b"hashroute/"
"""How the frame of a tag begins, whatever its version."""


class _Request:
    """An admitted write; as a ``with`` block it is under way until the end of the block."""

    def __init__(
        self, socket: Any, envelope: list[bytes], frames: list[bytes], admitted: Admitted
    ) -> None:
        self._socket = socket
        self._envelope = envelope
        self.frames = tuple(frames)
        """The frames of the request, without envelope and tag: the key, then the body."""
        self.tag = admitted.tag
        """What it writes, under the epoch and term of its admission."""
        self.admission: Admission = admitted.admission
        """To be asked right before the effect leaves: ``request.admission.is_valid``."""
        self._is_answered = False
        self._token: Token[Admission] | None = None

    @property
    def term(self) -> int:
        """The fencing token: to be handed to whatever stores the effect."""
        return self.admission.term

    def __enter__(self) -> Self:
        self._token = CURRENT.set(self.admission)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Ends the write without a ``with`` block. Does nothing the second time."""
        if self._token is not None:
            CURRENT.reset(self._token)
            self._token = None
        self.admission.release()

    def _answer(self, frames: tuple[bytes, ...]) -> list[bytes]:
        if self._is_answered:
            raise ClosedError("this request has its reply already; a request has one")
        self._is_answered = True
        return [*self._envelope, *frames]


class Request(_Request):
    """A write that a :class:`Guard` admitted."""

    def reply(self, *frames: bytes) -> None:
        """Sends the reply, in the envelope of the request.

        Raises:
            ClosedError: it was sent already.
        """
        self._socket.send_multipart(self._answer(frames))


class AsyncRequest(_Request):
    """A write that an :class:`AsyncGuard` admitted."""

    async def reply(self, *frames: bytes) -> None:
        """Sends the reply, in the envelope of the request.

        Raises:
            ClosedError: it was sent already.
        """
        await self._socket.send_multipart(self._answer(frames))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class _Guard:
    """What both guards are: the rules for what comes in.

    Args:
        guard: of :attr:`hashroute.pod.Member.guard`.
        key_frame: which frame of a request is its key, counted after envelope and tag: the guard
            computes the slot itself, and refuses a write that is tagged with another. None believes
            the tag.
        group: the group that all requests write, instead of a slot; then no key is looked for.
        untagged: what a write gets that does not say by which record it was routed: ``reject``
            refuses it; ``own`` judges it by this pod's own record.

    Raises:
        ConfigurationError: an argument says nothing.
    """

    def __init__(
        self,
        guard: PodGuard,
        *,
        key_frame: int | None = 0,
        group: str | None = None,
        untagged: Untagged = "reject",
    ) -> None:
        self._gate = Gate(guard, untagged)
        self._key_frame = None if group is not None else key_frame
        self._group = group

    def _look_at(self, kind: int, message: list[bytes]) -> _Seen:
        """Returns what of a message is the request, and whether it may be carried out."""
        envelope, content = _split(kind, message)
        frames = content[1:] if content and content[0].startswith(CLAIM) else content
        try:
            tag = Tag.from_frame(content[0]) if len(frames) < len(content) else None
            key = None if self._key_frame is None else self._key(frames, self._key_frame)
            admitted = self._gate.admit(tag, key=key, group=self._group)
        except WriteRefusedError as error:
            epoch = self._gate.guard.epoch if error.epoch is None else error.epoch
            reply = refusal_frame(error.code.replace("_", "-"), epoch, str(error))
            return _Seen(envelope, frames, None, reply)
        except MissingKeyError as error:
            reply = f"HASHROUTE-ERROR MISSING_KEY outcome=not-applied {error}".encode()
            return _Seen(envelope, frames, None, reply)
        return _Seen(envelope, frames, admitted, b"")

    @staticmethod
    def _key(frames: list[bytes], place: int) -> bytes:
        if not 0 <= place < len(frames):
            raise MissingKeyError(
                f"the request has no key: it has {len(frames)} frames, and its key is frame {place}"
            )
        return frames[place]


class Guard(_Guard):
    """Admits the writes of a REP, ROUTER or DEALER loop."""

    def receive(self, socket: zmq.Socket[bytes]) -> Request:
        """Waits for the next write that may be carried out, and returns it.

        What may not is answered meanwhile. Use the result as a ``with`` block around everything
        that the write does.

        Raises:
            zmq.Again: ``socket`` has a timeout for receiving, and it is over.
            zmq.ZMQError: as ``socket.recv_multipart``.
        """
        while True:
            seen = self._look_at(int(socket.type), socket.recv_multipart())
            if seen.admitted is not None:
                return Request(socket, seen.envelope, seen.frames, seen.admitted)
            socket.send_multipart([*seen.envelope, seen.reply])


class AsyncGuard(_Guard):
    """The form of :class:`Guard` for sockets of ``zmq.asyncio``, with the same arguments."""

    async def receive(self, socket: AsyncSocket) -> AsyncRequest:
        """Waits for the next write that may be carried out, as :meth:`Guard.receive`.

        May be cancelled while it waits: no message is lost by that.
        """
        while True:
            seen = self._look_at(int(socket.type), await socket.recv_multipart())
            if seen.admitted is not None:
                return AsyncRequest(socket, seen.envelope, seen.frames, seen.admitted)
            await socket.send_multipart([*seen.envelope, seen.reply])


class _Seen:
    """A message, and what is to become of it."""

    def __init__(
        self, envelope: list[bytes], frames: list[bytes], admitted: Admitted | None, reply: bytes
    ) -> None:
        self.envelope = envelope
        self.frames = frames
        self.admitted = admitted
        self.reply = reply


def _split(kind: int, message: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The envelope of a message, the empty frame included, and what follows it."""
    if kind == zmq.REP:
        return [], message
    # A ROUTER puts its name of the peer first, which may not be taken for the end of an envelope.
    start = 1 if kind == zmq.ROUTER else 0
    if b"" not in message[start:]:
        return message[:start], message[start:]
    end = message.index(b"", start) + 1
    return message[:end], message[end:]
