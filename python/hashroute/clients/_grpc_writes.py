"""A gRPC write over its attempts: at the owner by the newest record, or at nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from hashroute._hashroute import Route, Wait
from hashroute.clients._grpc_exchange import Answered, Attempt, C, Client, Exchange, Later, Sending
from hashroute.clients._waiting import Pause
from hashroute.errors import DeadlineExceededError

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
        # What was decided about an attempt while it was at its pod.
        self._decided: Turn | None = None
        self._timer: Pause | None = None

    def begin(self) -> Attempt[C] | Later:
        """Goes to the owner, or waits for there to be one."""
        return self._next(self._write.begin())

    def after(self, attempt: Attempt[C], answered: Answered) -> Attempt[C] | Later | None:
        """Does what the refusal or the failure asks for."""
        self._stop_timer()
        decided, self._decided = self._decided, None
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
        if self._timer is not None or not self._write.has_moved:
            return False
        return self._decide(attempt, self._write.moved(**self.progress))

    def close(self) -> None:
        """Gives up what was decided for an attempt that was answered after all."""
        self._stop_timer()
        decided, self._decided = self._decided, None
        if isinstance(decided, Route):
            decided.release()

    def _decide(self, attempt: Attempt[C], turn: Turn) -> bool:
        if isinstance(turn, Wait):
            if turn.seconds is not None:
                # Its answer may be on the way, and is waited for no longer than this.
                due = time.monotonic() + turn.seconds
                self._timer = Pause(due, None, lambda: self._time_is_over(attempt))
                self.client.waiting.pause(self._timer)
            return turn.seconds is not None
        self._decided = turn
        attempt.is_superseded = True
        return True

    def _time_is_over(self, attempt: Attempt[C]) -> None:
        self._timer = None
        self._decide(attempt, self._write.resumed())
        if attempt.is_superseded:
            attempt.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.end()
            self._timer = None

    def _next(self, turn: Turn) -> Attempt[C] | Later:
        if isinstance(turn, Route):
            self._pod = turn.pod
            attempt = Attempt(self, turn)
            self.client.waiting.add(attempt)
            return attempt
        if isinstance(turn, Wait):
            left = self.seconds_left()
            if left == 0.0:
                raise self._late()
            seconds = 0.0 if turn.seconds is None else turn.seconds
            until = seconds if left is None else min(seconds, left)
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
