"""A gRPC write over its attempts: at the owner by the newest record, or at nobody."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from hashroute._hashroute import Route, Wait
from hashroute.clients._grpc_exchange import Answered, Attempt, C, Client, Exchange, Later, Sending
from hashroute.clients._waiting import Pause
from hashroute.errors import ClosedError, DeadlineExceededError, InternalError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from hashroute._hashroute import Write
    from hashroute.errors import RequestError

    Turn = Route | Wait | RequestError


class WriteExchange(Exchange[C]):
    """A request that has one writer. What is done about it is decided by the extension."""

    is_write = True

    def __init__(self, client: Client[C], write: Write, sending: Sending) -> None:
        super().__init__(client, sending)
        self._write = write
        self._pod: str | None = None
        # An attempt is left by the thread that follows the record, and ends on another one.
        self._lock = threading.Lock()
        self._present: Attempt[C] | None = None
        # What was decided about the present attempt while it was at its pod.
        self._decided: Turn | None = None
        self._timer: Pause | None = None

    def begin(self) -> Attempt[C] | Later:
        """Goes to the owner, or waits for there to be one."""
        return self._next(self._write.begin())

    def after(self, attempt: Attempt[C], answered: Answered) -> Attempt[C] | Later | None:
        """Does what the refusal or the failure asks for."""
        decided = self._end_present()
        if attempt.is_superseded and decided is not None:
            return self._next(decided)
        if answered.refusal is not None:
            word, epoch = answered.refusal
            return self._next(self._write.refused(word, epoch, **self.progress))
        if answered.failing in {"refused", "lost"}:
            kind: Literal["refused", "lost"] = (
                "refused" if answered.failing == "refused" else "lost"
            )
            return self._next(self._write.failed(kind, **self.progress))
        return None

    def again(self) -> Attempt[C] | Later:
        """Goes on after a pause."""
        if self.seconds_left() == 0.0:
            raise self._late()
        return self._next(self._write.resumed())

    def looked(self, attempt: Attempt[C], down: AbstractSet[str]) -> bool:  # noqa: ARG002
        """Leaves a pod that does not own any more what is written, if that may be."""
        with self._lock:
            if attempt is not self._present or self._timer is not None:
                return True
            if not self._write.has_moved:
                return False
            self._decide(attempt, self._write.moved(**self.progress))
        return True

    def close(self) -> None:
        """Gives up what was decided for an attempt that was answered after all."""
        decided = self._end_present()
        if isinstance(decided, Route):
            decided.release()

    def _decide(self, attempt: Attempt[C], turn: Turn) -> None:
        """Keeps what is to follow the present attempt, or waits for its answer; with the lock."""
        if not isinstance(turn, Wait):
            self._decided = turn
            attempt.is_superseded = True
        elif turn.seconds is not None:
            due = time.monotonic() + turn.seconds
            self._timer = Pause(due, None, lambda: self._time_is_over(attempt))
            # With its client ends the call itself.
            with suppress(ClosedError):
                self.client.waiting.pause(self._timer)

    def _time_is_over(self, attempt: Attempt[C]) -> None:
        with self._lock:
            if attempt is not self._present:
                return
            self._timer = None
            self._decide(attempt, self._write.resumed())
        if attempt.is_superseded:
            attempt.cancel()

    def _end_present(self) -> Turn | None:
        """Ends what is watched of the present attempt; returns what was decided about it."""
        with self._lock:
            decided, self._decided = self._decided, None
            self._present = None
            if self._timer is not None:
                self._timer.end()
                self._timer = None
        return decided

    def _next(self, turn: Turn) -> Attempt[C] | Later:
        if isinstance(turn, Route):
            self._pod = turn.pod
            attempt = Attempt(self, turn)
            with self._lock:
                self._present = attempt
            self.client.waiting.add(attempt)
            return attempt
        if isinstance(turn, Wait):
            left = self.seconds_left()
            if left == 0.0:
                raise self._late()
            if turn.seconds is None:
                raise InternalError("a write that is at no pod waits for its answer")
            until = turn.seconds if left is None else min(turn.seconds, left)
            return Later(time.monotonic() + until, turn.record)
        turn.pod = self._pod
        raise turn

    def _late(self) -> DeadlineExceededError:
        outcome = self._write.outcome(sent=False)
        text = (
            "no pod accepted the write before the deadline; nothing was applied, so it is safe to "
            "send it again"
            if outcome == "not_applied"
            else "the deadline came before an answer; the write may have been carried out"
        )
        return DeadlineExceededError(text, outcome=outcome, pod=self._pod)
