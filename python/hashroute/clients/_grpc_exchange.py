"""One gRPC request over its attempts: what the sync and the asyncio channel have in common."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import grpc

from hashroute.errors import (
    ClosedError,
    DeadlineExceededError,
    HashrouteError,
    InvalidKeyError,
    MissingKeyError,
    UnavailableError,
    UntaggedError,
    WriteRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from hashroute._hashroute import Request, Route
    from hashroute.clients._grpc_pods import PodChannel, PodChannels
    from hashroute.clients._grpc_verdicts import Failing
    from hashroute.clients._grpc_writes import WriteExchange
    from hashroute.clients._keys import KeyFinder, Metadata
    from hashroute.clients._waiting import Waiting
    from hashroute.router import Router

C = TypeVar("C")

HEADER_OUTCOME = "x-hashroute-outcome"
HEADER_REFUSAL = "x-hashroute-refusal"
HEADER_EPOCH = "x-hashroute-epoch"
HEADER_STALE = "x-hashroute-stale"
# A pod trusts these to come from a router, so a caller's own are dropped.
OWN_HEADERS = frozenset(
    {"x-hashroute-slot", "x-hashroute-group", HEADER_EPOCH, "x-hashroute-term", HEADER_STALE}
)


@dataclass(frozen=True, slots=True)
class Client(Generic[C]):
    """What all calls of one channel share."""

    router: Router
    finder: KeyFinder
    is_idempotent: Callable[[str], bool]
    is_write: Callable[[str], bool]
    group_of: Callable[[str], str | None]
    patience_seconds: float
    on_missing: Literal["reject", "any"]
    channels: PodChannels[C]
    waiting: Waiting

    def begin(
        self,
        method: str,
        request: object,
        message: bytes | None,
        sending: Sending,
    ) -> ReadExchange[C] | WriteExchange[C]:
        """Begins a request.

        Raises:
            MissingKeyError: it has no key, and such requests are rejected.
            InvalidKeyError: what was found is no key.
        """
        group = self.group_of(method)
        key = None if group else self.finder.find(method, sending.metadata, request, message)
        is_write = group is not None or self.is_write(method)
        if key is None and group is None and (is_write or self.on_missing == "reject"):
            raise self.finder.missing(method)
        idempotent = self.is_idempotent(method)
        if not is_write:
            return ReadExchange(self, self.router.request(key, idempotent), sending)
        from hashroute.clients._grpc_writes import WriteExchange

        patience = self.patience_seconds
        write = self.router.write(
            key, group=group, idempotent=idempotent, patience_seconds=patience
        )
        return WriteExchange(self, write, sending)


class Sending(NamedTuple):
    """What a caller says of a request, beside the request itself."""

    timeout: float | None
    metadata: Metadata
    wait_for_ready: bool | None
    is_whole: Callable[[], bool]
    """Whether every message of the request is still at hand to be sent again."""


class Answered(NamedTuple):
    """How the call of an attempt failed at its pod.

    ``refusal`` is the word and the epoch of a guard that did not admit it, if one refused it.
    """

    failing: Failing
    refusal: tuple[str, int | None] | None


class Later(NamedTuple):
    """Nothing is to be sent yet: to be asked again at ``due``, or at a record of this epoch.

    ``due`` is on the clock of ``time.monotonic``.
    """

    due: float
    record: int | None


class Attempt(Generic[C]):
    """A request at one pod. Ends once, whoever says so first."""

    def __init__(self, exchange: Exchange[C], route: Route) -> None:
        self.pod = route.pod
        self.route = route
        self.exchange = exchange
        self.leased: PodChannel[C] = exchange.client.channels.lease(route)
        self.is_superseded = False
        self.cancel: Callable[[], object] = lambda: None
        self.ended = threading.Event()
        self.answered: Answered | None = None
        self._is_over = False

    def looked(self, down: AbstractSet[str]) -> bool:
        """Leaves the pod for another, if it is time to and the request may be sent again."""
        is_done = self.exchange.looked(self, down)
        if self.is_superseded:
            self.cancel()
        return is_done

    def check_open(self, error: BaseException) -> None:
        """Raises ClosedError if that is why a call could not be opened: because of ``error``."""
        if self.exchange.client.channels.is_closed and isinstance(error, Exception):
            raise ClosedError("the channel was closed; make another one") from error

    def end(self, failing: Failing | None) -> None:
        """Reports how it went, and counts the request in flight no longer."""
        if self._is_over:
            return
        self._is_over = True
        client = self.exchange.client
        client.waiting.discard(self)
        if failing is None:
            self.route.succeeded()
        elif failing == "error" or self.is_superseded or not client.router.is_probing:
            # Without probes nobody would find out that the pod is back.
            self.route.failed("error")
        elif failing != "cancelled":
            self.route.failed(failing)
        if failing == "refused":
            # A new channel connects at once; this one waits before it tries again.
            client.channels.retire(self.leased)
        self.route.release()
        client.channels.release(self.leased)


class Exchange(ABC, Generic[C]):
    """One request, and what is needed to send it again."""

    is_write: ClassVar[bool]

    def __init__(self, client: Client[C], sending: Sending) -> None:
        self.client = client
        self.response_started = False
        self._deadline = None if sending.timeout is None else time.monotonic() + sending.timeout
        self._metadata = [
            (name, value) for name, value in sending.metadata if name not in OWN_HEADERS
        ]
        self._wait_for_ready = sending.wait_for_ready
        self._is_whole = sending.is_whole

    @abstractmethod
    def begin(self) -> Attempt[C] | Later:
        """Says where the request goes first.

        Raises:
            RequestError: nowhere, now or ever.
        """

    @abstractmethod
    def after(self, attempt: Attempt[C], answered: Answered) -> Attempt[C] | Later | None:
        """Says what follows an attempt that failed; None if its failure is the caller's to see.

        Raises:
            RequestError: nothing follows, and the caller is to see this instead.
        """

    @abstractmethod
    def again(self) -> Attempt[C] | Later:
        """Says what follows a pause.

        Raises:
            RequestError: nothing does.
        """

    @abstractmethod
    def looked(self, attempt: Attempt[C], down: AbstractSet[str]) -> bool:
        """Decides, when something changed, whether the attempt is to be given up.

        Returns whether it need not be asked again.
        """

    def close(self) -> None:
        """Hears that the request has ended, whatever was meant to follow."""

    def options(self, attempt: Attempt[C]) -> dict[str, Any]:
        """Returns the arguments of the attempt's call that change from pod to pod."""
        route, router = attempt.route, self.client.router
        stale = ((HEADER_STALE, "true"),) if router.is_stale else ()
        return {
            "timeout": self.seconds_left(),
            "metadata": (*self._metadata, *route.tag.to_metadata(), *stale),
            # As long as another pod may be reached at once, none is waited for.
            "wait_for_ready": self._wait_for_ready if route.reason == "last_resort" else None,
        }

    def seconds_left(self) -> float | None:
        """Returns the time until the deadline, at least 0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    @property
    def progress(self) -> dict[str, bool]:
        """How far the request got, for those that decide whether it is sent again."""
        return {"response_started": self.response_started, "replayable": self._is_whole()}


class ReadExchange(Exchange[C]):
    """A request that any pod of its preference list may answer."""

    is_write = False

    def __init__(self, client: Client[C], request: Request, sending: Sending) -> None:
        super().__init__(client, sending)
        self._request = request

    def begin(self) -> Attempt[C]:
        """Chooses the pod for the first attempt."""
        attempt = Attempt(self, self._request.attempt())
        # Whoever goes to a pod that is down already, for want of a better, waits there.
        if attempt.route.reason != "last_resort":
            self.client.waiting.add(attempt)
        return attempt

    def after(self, attempt: Attempt[C], answered: Answered) -> Attempt[C] | None:
        """Goes to the next pod, if the request may be sent again and there is one."""
        if not self._goes_on(attempt, answered.failing):
            return None
        try:
            return self.begin()
        except HashrouteError:
            if not attempt.is_superseded:
                return None
            # It was we who ended the last attempt, so that its end says nothing.
            raise UnavailableError(
                f"the pod {attempt.pod!r} was found down before it answered, and no pod is left to "
                "try: it may have carried the request out",
                outcome="unknown",
                pod=attempt.pod,
            ) from None

    def again(self) -> Attempt[C]:
        """Never comes to pass: a read does not pause."""
        return self.begin()

    def looked(self, attempt: Attempt[C], down: AbstractSet[str]) -> bool:
        """Gives an attempt up at a pod that fell, if the request may go to another."""
        if attempt.pod not in down:
            return False
        attempt.is_superseded = self._decides("pod_down") == "retry"
        return True

    def _goes_on(self, attempt: Attempt[C], failing: Failing) -> bool:
        if attempt.is_superseded:
            return not self.response_started
        if failing not in {"refused", "lost"}:
            return False
        return self._decides("refused" if failing == "refused" else "lost") == "retry"

    def _decides(self, kind: Literal["refused", "lost", "pod_down"]) -> str:
        return self._request.failed(kind, **self.progress)


def status_of(error: HashrouteError) -> tuple[grpc.StatusCode, tuple[tuple[str, str], ...]]:
    """Returns the status and the trailing metadata of an error that no pod made."""
    if isinstance(error, ClosedError):
        # As of every call that is under way when its channel is closed.
        return grpc.StatusCode.CANCELLED, ()
    outcome = "unknown" if error.outcome == "unknown" else "not-applied"
    trailing: tuple[tuple[str, str], ...] = ((HEADER_OUTCOME, outcome),)
    if isinstance(error, WriteRefusedError):
        trailing = (*trailing, (HEADER_REFUSAL, error.code.replace("_", "-")))
    if isinstance(error, UntaggedError):
        return grpc.StatusCode.FAILED_PRECONDITION, trailing
    if isinstance(error, UnavailableError | WriteRefusedError):
        return grpc.StatusCode.UNAVAILABLE, trailing
    if isinstance(error, DeadlineExceededError):
        return grpc.StatusCode.DEADLINE_EXCEEDED, trailing
    if isinstance(error, MissingKeyError | InvalidKeyError):
        return grpc.StatusCode.INVALID_ARGUMENT, trailing
    return grpc.StatusCode.INTERNAL, trailing


def refusal_in(*metadata: Any) -> tuple[str, int | None] | None:
    """Returns the word and the epoch of a guard that refused the call with this metadata."""
    found = {name: value for entries in metadata for name, value in entries or ()}
    word, epoch = found.get(HEADER_REFUSAL), str(found.get(HEADER_EPOCH, ""))
    if word not in REFUSALS:
        return None
    return str(word), int(epoch) if epoch.isascii() and epoch.isdigit() else None


REFUSALS = frozenset({"not-owner", "stale-term", "behind", "moving", "no-lease", "untagged"})
