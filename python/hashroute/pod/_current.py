"""Which admitted write the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from hashroute.errors import UntaggedError

if TYPE_CHECKING:
    from hashroute._hashroute import Admission

CURRENT: ContextVar[Admission] = ContextVar("hashroute_admission")
"""Set by the guards around the code that they let in."""


def current_admission() -> Admission:
    """Returns the admission of the write that this code carries out.

    Raises:
        UntaggedError: no guard let this code in.
    """
    admission = CURRENT.get(None)
    if admission is None:
        raise UntaggedError(
            "no write was admitted here: the code runs outside of a handler that a guard of "
            "hashroute.pod stands in front of, or its method is not among the guard's writes"
        )
    return admission


def current_term() -> int:
    """Returns the fencing token of the write that this code carries out, for its store.

    Raises:
        UntaggedError: no guard let this code in.
    """
    return current_admission().term
