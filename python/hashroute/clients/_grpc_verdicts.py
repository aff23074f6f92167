"""What the end of a gRPC attempt says of the pod and of the request."""

from __future__ import annotations

from typing import Literal, TypeAlias

import grpc

Failing: TypeAlias = Literal["refused", "lost", "deadline", "error", "cancelled"]

# gRPC tells apart neither who made a status nor how far a request got; its texts do, and they are
# read only in favour of caution: an unknown text is an answer of the pod, which is never repeated.
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "errors resolving",
    "dns resolution failed",
    "name resolution",
    "empty address list",
)
_LOST = (
    "socket closed",
    "stream removed",
    "connection reset",
    "connection closed",
    "broken pipe",
    "goaway",
    "keepalive",
    "ping timeout",
    "transport closed",
)


def failing(code: grpc.StatusCode | None, details: str | None, *, is_connected: bool) -> Failing:
    """Returns how an attempt failed.

    ``is_connected`` says whether the channel has a connection now: a pod may answer with the text
    of a refusal that it met itself behind it, and then has begun to work.
    """
    if code is grpc.StatusCode.CANCELLED:
        return "cancelled"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "deadline"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return "error"
    text = (details or "").lower()
    if text.startswith(_NOT_CONNECTED):
        return "error" if is_connected else "refused"
    return "lost" if any(sign in text for sign in _LOST) else "error"


def may_be_refusal(code: grpc.StatusCode | None, details: str | None) -> bool:
    """Returns whether the state of the channel decides; finding that out has a price."""
    return code is grpc.StatusCode.UNAVAILABLE and (details or "").lower().startswith(
        _NOT_CONNECTED
    )
