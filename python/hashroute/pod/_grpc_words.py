"""What guards say over gRPC, and what handlers see of an admitted call: sync and asyncio alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from hashroute.errors import InvalidKeyError, MissingKeyError, WriteRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashroute._hashroute import Guard
    from hashroute.errors import HashrouteError
    from hashroute.pod._rules import Admitted

HEADER_TERM = "x-hashroute-term"
TAG_HEADERS = frozenset({"x-hashroute-slot", "x-hashroute-group", "x-hashroute-epoch", HEADER_TERM})

NOT_NOW = frozenset({"behind", "moving", "no_lease"})
"""Refusals that pass by themselves; the others want another route, or another caller."""


class Metadatum(NamedTuple):
    """One entry of metadata, as grpcio has it."""

    key: str
    value: str | bytes


class Refusal(NamedTuple):
    """How a call ends that was not admitted: the arguments of ``context.abort``."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...]


def refusal_of(error: HashrouteError, guard: Guard) -> Refusal:
    """Returns how a call ends that the rules did not admit for this reason."""
    trailing = (("x-hashroute-outcome", "not-applied"),)
    if isinstance(error, WriteRefusedError):
        code = grpc.StatusCode.UNAVAILABLE if error.code in NOT_NOW else FAILED_PRECONDITION
        epoch = guard.epoch if error.epoch is None else error.epoch
        word = ("x-hashroute-refusal", error.code.replace("_", "-"))
        return Refusal(code, str(error), (word, *trailing, ("x-hashroute-epoch", str(epoch))))
    if isinstance(error, MissingKeyError | InvalidKeyError):
        return Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error), trailing)
    raise error


FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
REFUSALS: tuple[type[HashrouteError], ...] = (WriteRefusedError, MissingKeyError, InvalidKeyError)
"""What :func:`refusal_of` knows to say; whatever else is raised is a defect of the rules."""


def has_term(metadata: Iterable[tuple[str, Any]]) -> bool:
    """Returns whether there is a term in the metadata of a call."""
    return any(name == HEADER_TERM for name, _ in metadata)


def without_term(metadata: Iterable[tuple[str, Any]]) -> tuple[Any, ...]:
    """Returns the metadata that the handler of a read sees: what it finds as term was admitted."""
    return tuple(entry for entry in metadata if entry[0] != HEADER_TERM)


def seen(context: Any, metadata: Iterable[tuple[str, Any]], admitted: Admitted) -> Any:
    """Returns the context that the handler of a write sees: with the tag as it was admitted."""
    if admitted.is_as_it_came:
        return context
    rest = (entry for entry in metadata if entry[0] not in TAG_HEADERS)
    tag = (Metadatum(name, value) for name, value in admitted.tag.to_metadata())
    return SeenContext(context, (*rest, *tag))


class SeenContext:
    """The context of a call, with other metadata; in all else the one that it stands for."""

    def __init__(self, context: Any, metadata: tuple[Any, ...]) -> None:
        self._context = context
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[Any, ...]:
        """Returns the metadata of the call as the handler is to see it."""
        return self._metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # Handlers may ask what kind of context they got.
        return type(self._context)


class Message(NamedTuple):
    """A request as the handler gets it, and the bytes that it was read from."""

    request: Any
    raw: bytes
