"""How calls of a routed asyncio channel end, where no pod made the end; and how attempts end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from hashroute.clients._grpc_exchange import Answered, Attempt, refusal_in, status_of
from hashroute.clients._grpc_verdicts import failing
from hashroute.errors import RequestError

if TYPE_CHECKING:
    from hashroute.errors import HashrouteError

    AioAttempt = Attempt[aio.Channel]


class RefusedCall:
    """The end of a call that reached no pod, or that no pod is left for."""

    def __init__(self, cause: HashrouteError) -> None:
        self.cause = cause
        self._code, trailing = status_of(cause)
        self._trailing = aio.Metadata(*trailing)

    def error(self) -> BaseException:
        """Returns what the caller gets, to be raised from :attr:`cause`, which is our own error."""
        text = str(self.cause)
        return aio.AioRpcError(self._code, aio.Metadata(), self._trailing, text, text)

    async def read(self) -> Any:
        """Raises the error."""
        raise self.error() from self.cause

    async def code(self) -> grpc.StatusCode:
        """Returns the status that a sidecar would answer with."""
        return self._code

    async def details(self) -> str:
        """Returns what our own error says."""
        return str(self.cause)

    async def initial_metadata(self) -> aio.Metadata:
        """Returns nothing: no pod sent any."""
        return aio.Metadata()

    async def trailing_metadata(self) -> aio.Metadata:
        """Returns the outcome, as a sidecar would; and why a write was refused."""
        return self._trailing

    async def wait_for_connection(self) -> None:
        """Raises the error."""
        raise self.error() from self.cause

    def cancel(self) -> bool:
        """Does nothing: it has ended."""
        return False

    def cancelled(self) -> bool:
        """Returns False: it ended by itself."""
        return False

    def done(self) -> bool:
        """Returns True: it has ended."""
        return True


class CancelledCall(RefusedCall):
    """A call that its caller cancelled while it was at no pod."""

    def __init__(self) -> None:
        super().__init__(RequestError("the call was cancelled; nothing was under way"))
        self._code = grpc.StatusCode.CANCELLED

    def error(self) -> BaseException:
        """Returns what whoever awaits a cancelled call gets."""
        return asyncio.CancelledError()

    def cancelled(self) -> bool:
        """Returns True."""
        return True


async def end_of(attempt: AioAttempt, inner: Any) -> Answered | None:
    """Waits for the end of the call of an attempt; returns how it failed, None if it did not."""
    code, details = await inner.code(), await inner.details()
    if code is grpc.StatusCode.OK:
        return None
    if attempt.exchange.is_write:
        refusal = refusal_in(await inner.initial_metadata(), await inner.trailing_metadata())
        if refusal is not None:
            return Answered("error", refusal)
    connected = attempt.leased.channel.get_state() is grpc.ChannelConnectivity.READY
    return Answered(failing(code, details, is_connected=connected), None)
