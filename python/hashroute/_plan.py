"""The way from one ring to another: plans, their steps, and the moves of a step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from hashroute._hashroute import Ring as NativeRing
from hashroute.errors import ArgumentTypeError, ParameterError, of_code

if TYPE_CHECKING:
    from hashroute._ring import Ring

__all__ = ["Move", "Plan", "Step"]


class Move(NamedTuple):
    """One slot that changes hands."""

    slot: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Step:
    """Moves that are made together; the table after them is within the load bound (P3)."""

    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The way from one ring to another, in steps of a bounded number of moves.

    The same two rings and the same limits give the same plan in every process. So whoever knows
    these, and how many steps were done, knows all there is to know: after a crash plan again,
    :meth:`apply` gives the table that was reached, and ``steps[done:]`` is what is left.

    Attributes:
        steps: in the order in which they must be made; empty if nothing moves.
        moved_slots: how many slots have another owner at the end.
        least_slots: how many any assignment would have to move for this change.
        digest_before: the digest of the ring that the plan leads from.
        digest_after: the digest of the ring that it leads to.
    """

    steps: tuple[Step, ...]
    moved_slots: int
    least_slots: int
    digest_before: str
    digest_after: str

    def apply(self, ring: Ring, *, steps: int | None = None) -> list[str]:
        """Returns the owner of every slot after the first ``steps`` steps, all of them if None.

        Args:
            ring: the ring that the plan leads from.
            steps: from 0, which is the table of ``ring`` itself, to ``len(self.steps)``.

        Raises:
            PlanError: the plan does not lead from ``ring``.
            ParameterError: the plan has fewer steps.
        """
        if not isinstance(ring, NativeRing):
            raise ArgumentTypeError(
                f"ring must be the Ring that the plan leads from, not {type(ring).__name__}"
            )
        if ring.digest != self.digest_before:
            raise of_code(
                "other_ring",
                f"the plan leads from the ring of digest {self.digest_before}, and this one has "
                f"{ring.digest}: plan again, from the ring that is in force",
            )
        ids = [pod.id for pod in ring.pods]
        owners = [ids[place] for place in ring.table.tolist()]
        for step in islice(self.steps, self._count(steps)):
            for move in step.moves:
                owners[move.slot] = move.target
        return owners

    def undo(self, *, steps: int | None = None) -> tuple[Step, ...]:
        """Returns the steps that take back the first ``steps`` steps, all of them if None.

        They pass through the same tables in the opposite order, so that each of these is within
        the load bound and no step makes more moves than on the way there.

        Raises:
            ParameterError: the plan has fewer steps.
        """
        done = self.steps[: self._count(steps)]
        return tuple(
            Step(tuple(Move(slot, target, source) for slot, source, target in step.moves))
            for step in reversed(done)
        )

    def _count(self, steps: int | None) -> int:
        count = len(self.steps)
        if steps is None:
            return count
        if not isinstance(steps, int):
            raise ArgumentTypeError(f"steps must be an int or None, not {type(steps).__name__}")
        if not 0 <= steps <= count:
            raise ParameterError(
                f"steps must lie in 0 .. {count}, as many as the plan has, not {steps}",
                parameter="steps",
            )
        return steps
