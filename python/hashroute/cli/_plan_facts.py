"""What `hashroute plan` shows: figures of a plan, of what is left of it, or of the way back."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashroute import Plan, Ring, Step


@dataclass(frozen=True)
class Way:
    """A stretch of a plan: from the table that ``done`` steps reached to its end, or back.

    Attributes:
        start: the ring that the plan leads from.
        end: the ring that it leads to.
        plan: the whole plan.
        done: how many of its steps were made.
        back: whether the way leads back to ``start`` instead of on to ``end``.
    """

    start: Ring
    end: Ring
    plan: Plan
    done: int = 0
    back: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of this stretch, in the order in which they are made."""
        return self.plan.undo(steps=self.done) if self.back else self.plan.steps[self.done :]

    @property
    def target(self) -> Ring:
        """The ring at the end of this stretch."""
        return self.start if self.back else self.end


def facts_of(way: Way) -> dict[str, Any]:
    """Returns what the table, the picture and ``--json`` show of this way."""
    slots = way.start.slots
    owners_before = way.plan.apply(way.start, steps=way.done)
    owners_after = way.plan.apply(way.start, steps=0 if way.back else None)
    moved = sum(map(str.__ne__, owners_before, owners_after))
    counts_before, counts_after = Counter(owners_before), Counter(owners_after)
    is_whole = way.done == 0 and not way.back
    least = way.plan.least_slots if is_whole else _gained(counts_before, counts_after)
    fair_start, fair_end = _fair_shares(way.start), _fair_shares(way.end)
    fair_after = fair_start if way.back else fair_end
    # On the way each pod keeps to the larger of its two bounds.
    fair_before = fair_start if way.done == 0 else _larger(fair_start, fair_end)
    before = _shares(counts_before, way.start if is_whole else None, slots)
    after = _shares(counts_after, way.target, slots)
    return {
        "slots": slots,
        "moved_slots": moved,
        "moved_share": moved / slots,
        "least_slots": least,
        "steps": [len(step.moves) for step in way.steps],
        "steps_done": way.done,
        "steps_planned": len(way.plan.steps),
        "back": way.back,
        "digest_before": way.plan.digest_before,
        "digest_after": way.plan.digest_after,
        "shares_before": before,
        "shares_after": after,
        "fair_shares_after": fair_after,
        "joining": _joining(way, counts_before),
        "imbalance_before": _imbalance(before, fair_before),
        "imbalance_after": _imbalance(after, fair_after),
        "imbalance_max": 1 + way.target.epsilon,
    }


def _gained(before: Counter[str], after: Counter[str]) -> int:
    """The fewest slots that any way between tables of these counts could move."""
    return sum((after - before).values())


def _shares(counts: Counter[str], ring: Ring | None, slots: int) -> dict[str, float]:
    """By pod that owns slots, and by every pod of ``ring``: its part of all slots."""
    pods = sorted({*counts, *(pod.id for pod in (ring.pods if ring else ()))})
    return {pod: counts[pod] / slots for pod in pods}


def _fair_shares(ring: Ring) -> dict[str, float]:
    weights = {pod.id: pod.weight for pod in ring.pods if pod.state in {"joining", "active"}}
    total = math.fsum(weights.values())
    return {pod: weight / total for pod, weight in weights.items()}


def _larger(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {pod: max(one.get(pod, 0.0), other.get(pod, 0.0)) for pod in {*one, *other}}


def _imbalance(shares: Mapping[str, float], fair: Mapping[str, float]) -> float:
    return max(shares.get(pod, 0.0) / part for pod, part in fair.items())


def _joining(way: Way, counts: Counter[str]) -> dict[str, list[float]]:
    """By pod that owns nothing at the start of the plan, but does at its end: its shares.

    Its share after each step of the way, which begins at ``counts``.
    """
    owns_at_start, owns_at_end = (
        {pod for pod, share in ring.shares().items() if share} for ring in (way.start, way.end)
    )
    owned = {pod: counts[pod] for pod in sorted(owns_at_end - owns_at_start)}
    shares: dict[str, list[float]] = {pod: [] for pod in owned}
    for step in way.steps:
        for move in step.moves:
            if move.source in owned:
                owned[move.source] -= 1
            if move.target in owned:
                owned[move.target] += 1
        for pod, count in owned.items():
            shares[pod].append(count / way.start.slots)
    return shares
