"""Which requests are writes, and what each of them writes: the rules of a guard in a service.

A guard's own rules say what a request writes; the tag that came with it is compared, and believed
only where the rules say nothing. The cases are those of ``docs/wire.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hashroute._hashroute import Tag
from hashroute.clients._keys import KeyFinder, Methods, group_rule, methods
from hashroute.errors import ParameterError, UntaggedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashroute._hashroute import Admission, Guard
    from hashroute._ring import Key
    from hashroute.clients._keys import KeySource, Metadata

Untagged = Literal["reject", "own"]
"""What a write without a tag gets: a refusal, or a decision by this pod's own record alone."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A write that was admitted.

    Attributes:
        admission: to be held as long as the write is under way.
        tag: slot or group as the guard found it, under the epoch and term of the admission.
        is_as_it_came: whether that is the very tag that the write came with.
    """

    admission: Admission
    tag: Tag
    is_as_it_came: bool


class Gate:
    """A guard, and what it demands of each write."""

    def __init__(self, guard: Guard, untagged: Untagged) -> None:
        if untagged not in {"reject", "own"}:
            raise ParameterError(
                f"untagged must be 'reject' or 'own', not {untagged!r}", parameter="untagged"
            )
        self.guard = guard
        self._untagged = untagged

    def admit(
        self, tag: Tag | None, *, key: Key | None = None, group: str | None = None
    ) -> Admitted:
        """Decides on a write with this tag, of the key or group that the rules find in it.

        Raises:
            WriteRefusedError: nothing may be written.
            InvalidKeyError: ``key`` is no key.
        """
        slot = None if key is None else self.guard.slot(key)
        if tag is None:
            return self._admit_untagged(slot, group)
        if group is not None and tag.group != group:
            raise self._untagged_error(f"the tag is not of the group {group!r}, which it writes")
        if slot is not None and tag.slot != slot:
            raise self._untagged_error(
                f"the tag is not of slot {slot}, which is that of its key: it was routed by "
                "another ring than this cluster's, or by another rule for its key"
            )
        try:
            admission = self.guard.admit(
                slot=tag.slot, group=tag.group, epoch=tag.epoch, term=tag.term
            )
        except ParameterError as error:
            # A slot that this cluster does not have.
            raise self._untagged_error(str(error)) from error
        if (admission.epoch, admission.term) == (tag.epoch, tag.term):
            return Admitted(admission, tag, is_as_it_came=True)
        return _admitted(admission, tag.slot, tag.group)

    def _admit_untagged(self, slot: int | None, group: str | None) -> Admitted:
        if self._untagged == "reject":
            raise self._untagged_error(
                "it does not say by which record it was routed: send it through a router that "
                "knows it for a write, or set untagged='own'"
            )
        if slot is None and group is None:
            raise self._untagged_error("neither its tag nor a rule says what it writes")
        return _admitted(self.guard.admit(slot=slot, group=group), slot, group)

    def _untagged_error(self, why: str) -> UntaggedError:
        return UntaggedError(f"the write is refused: {why}", epoch=self.guard.epoch)


class Rules:
    """Which methods of a gRPC server are writes, and how their key or group is found."""

    def __init__(
        self,
        guard: Guard,
        *,
        writes: Methods,
        key: KeySource | None,
        groups: Mapping[str, str],
        untagged: Untagged,
    ) -> None:
        self._gate = Gate(guard, untagged)
        self._is_write = methods(writes, "writes")
        self._group_of = group_rule(groups)
        self._finder = None if key is None else KeyFinder.of(key)
        self.needs_message = self._finder is not None and self._finder.needs_message

    def is_write(self, method: str) -> bool:
        """Returns whether the guard decides on calls of this method."""
        return self._group_of(method) is not None or self._is_write(method)

    def admit(
        self, method: str, metadata: Metadata, request: object, message: bytes | None
    ) -> Admitted:
        """Decides on a call of a write.

        Raises:
            WriteRefusedError: nothing may be written.
            MissingKeyError: the rules look for a key, and it has none.
            InvalidKeyError: what was found is no key.
        """
        tag = Tag.from_metadata(metadata)
        group = self._group_of(method)
        if group is not None or self._finder is None:
            return self._gate.admit(tag, group=group)
        key = self._finder.find(method, metadata, request, message)
        if key is None:
            raise self._finder.missing(method)
        return self._gate.admit(tag, key=key)


def _admitted(admission: Admission, slot: int | None, group: str | None) -> Admitted:
    tag = Tag(slot=slot, group=group, epoch=admission.epoch, term=admission.term)
    return Admitted(admission, tag, is_as_it_came=False)
