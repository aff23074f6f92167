"""One gRPC request over its attempts: what the sync and the asyncio channel have in common."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import grpc

from hashroute.errors import HashrouteError, InvalidKeyError, MissingKeyError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashroute._hashroute import Request, Route
    from hashroute.clients._grpc_pods import PodChannel, PodChannels
    from hashroute.clients._grpc_verdicts import Failing
    from hashroute.clients._keys import KeyFinder, Metadata
    from hashroute.clients._waiting import Waiting
    from hashroute.router import Router

C = TypeVar("C")

HEADER_SLOT = "x-hashroute-slot"
HEADER_EPOCH = "x-hashroute-epoch"
HEADER_TERM = "x-hashroute-term"
HEADER_OUTCOME = "x-hashroute-outcome"
# A pod trusts these to come from a router, so a caller's own are dropped.
OWN_HEADERS = frozenset({HEADER_SLOT, HEADER_EPOCH, HEADER_TERM})


@dataclass(frozen=True, slots=True)
class Client(Generic[C]):
    """What all calls of one channel share."""

    router: Router
    finder: KeyFinder
    is_idempotent: Callable[[str], bool]
    on_missing: Literal["reject", "any"]
    channels: PodChannels[C]
    waiting: Waiting

    def begin(
        self, method: str, metadata: Metadata, request: object, message: bytes | None
    ) -> Request:
        """Begins a request.

        Raises:
            MissingKeyError: it has no key, and such requests are rejected.
            InvalidKeyError: what was found is no key.
        """
        key = self.finder.find(method, metadata, request, message)
        if key is None and self.on_missing == "reject":
            raise self.finder.missing(method)
        return self.router.request(key, self.is_idempotent(method))


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
        self.failing: Failing | None = None
        self._is_over = False

    def pod_fell(self) -> None:
        """Leaves the pod for another, if the request may be sent again."""
        if self.exchange.may_leave(self):
            self.is_superseded = True
            self.cancel()

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


class Exchange(Generic[C]):
    """One request, and what is needed to send it again."""

    def __init__(
        self,
        client: Client[C],
        request: Request,
        *,
        timeout: float | None,
        metadata: Metadata,
        wait_for_ready: bool | None,
        is_whole: Callable[[], bool],
    ) -> None:
        self.client = client
        self.response_started = False
        self._request = request
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._metadata = [(name, value) for name, value in metadata if name not in OWN_HEADERS]
        self._wait_for_ready = wait_for_ready
        self._is_whole = is_whole

    def attempt(self) -> Attempt[C]:
        """Chooses the pod for the next attempt.

        Raises:
            NoPodError: none is left.
        """
        attempt = Attempt(self, self._request.attempt())
        # Whoever goes to a pod that is down already, for want of a better, waits there.
        if attempt.route.reason != "last_resort":
            self.client.waiting.add(attempt)
        return attempt

    def options(self, attempt: Attempt[C]) -> dict[str, Any]:
        """Returns the arguments of the attempt's call that change from pod to pod."""
        route = attempt.route
        return {
            "timeout": self.seconds_left(),
            "metadata": (
                *self._metadata,
                (HEADER_SLOT, str(route.slot)),
                (HEADER_EPOCH, str(route.epoch)),
                (HEADER_TERM, str(route.term)),
            ),
            # As long as another pod may be reached at once, none is waited for.
            "wait_for_ready": self._wait_for_ready if route.reason == "last_resort" else None,
        }

    def seconds_left(self) -> float | None:
        """Returns the time until the deadline, at least 0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def may_leave(self, attempt: Attempt[C]) -> bool:
        """Returns whether an attempt at a pod that fell is to be given up for another pod."""
        return not attempt.is_superseded and self._decides("pod_down") == "retry"

    def goes_on(self, attempt: Attempt[C], failing: Failing) -> bool:
        """Returns whether another attempt is to follow this one, which failed."""
        if attempt.is_superseded:
            return not self.response_started
        if failing not in {"refused", "lost"}:
            return False
        return self._decides("refused" if failing == "refused" else "lost") == "retry"

    def _decides(self, kind: Literal["refused", "lost", "pod_down"]) -> str:
        return self._request.failed(
            kind, response_started=self.response_started, replayable=self._is_whole()
        )


def status_of(error: HashrouteError) -> tuple[grpc.StatusCode, str]:
    """Returns the status and the outcome on the wire of an error that no pod made."""
    if isinstance(error, UnavailableError):
        outcome = "unknown" if error.outcome == "unknown" else "not-applied"
        return grpc.StatusCode.UNAVAILABLE, outcome
    if isinstance(error, MissingKeyError | InvalidKeyError):
        return grpc.StatusCode.INVALID_ARGUMENT, "not-applied"
    return grpc.StatusCode.INTERNAL, "not-applied"
