"""The judge: reads what the store saw and what the clients were told, and says what was broken.

It knows the promises and nothing else. The store's log has every effect that reached it, in its
order. The clients' logs have one line a write: what was to be written, how it ended, and when. The
record's history says who owned what at which epoch.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Ending = Literal["acknowledged", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as the store saw it."""

    resource: str
    term: int
    writer: str
    value: str
    is_applied: bool
    at: float


@dataclass(frozen=True, slots=True)
class Write:
    """One write as its client saw it. ``writer`` is who answered, if anybody did."""

    value: str
    ending: Ending
    writer: str | None
    began_at: float
    ended_at: float


@dataclass
class Verdict:
    """What the history shows."""

    effects: int = 0
    fenced: int = 0
    """Effects that the store refused, since a higher term had been there: late ones of a writer
    that was replaced while it had them in hand."""
    endings: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations


def judge(
    effects: Iterable[Effect], writes: Iterable[Write], owners: dict[int, dict[str, str]]
) -> Verdict:
    """Judges a history.

    Args:
        effects: what reached the store, in its order.
        writes: what the clients saw.
        owners: for each epoch at which a resource got another owner, resource -> writer. Empty if
            it is not known: then I5 is not judged.

    """
    verdict = Verdict()
    applied: Counter[str] = Counter()
    highest: dict[str, int] = {}
    writers: dict[tuple[str, int], str] = {}
    for effect in effects:
        verdict.effects += 1
        if not effect.is_applied:
            verdict.fenced += 1
            continue
        applied[effect.value] += 1
        _judge_effect(effect, highest, writers, owners, verdict)
    refused_values: set[str] = set()
    for write in writes:
        verdict.endings[write.ending] += 1
        if write.ending == "acknowledged" and applied[write.value] == 0:
            verdict.violations.append(f"lost: {write.value} was acknowledged and is not there")
        if write.ending == "refused":
            refused_values.add(write.value)
    verdict.violations += [
        f"doubled: {value} was applied {times} times"
        for value, times in applied.items()
        if times > 1
    ]
    verdict.violations += [
        f"not refused: {value} was reported as not applied, and is there"
        for value in sorted(refused_values & applied.keys())
    ]
    return verdict


def _judge_effect(
    effect: Effect,
    highest: dict[str, int],
    writers: dict[tuple[str, int], str],
    owners: dict[int, dict[str, str]],
    verdict: Verdict,
) -> None:
    resource, term = effect.resource, effect.term
    if term < highest.get(resource, 0):
        verdict.violations.append(
            f"I4: {resource} was written under term {term} after {highest[resource]}"
        )
    highest[resource] = max(term, highest.get(resource, 0))
    known = writers.setdefault((resource, term), effect.writer)
    if known != effect.writer:
        verdict.violations.append(
            f"I3: {resource} was written by {known} and by {effect.writer} under term {term}"
        )
    owner = owners.get(term, {}).get(resource)
    if owner is not None and owner != effect.writer:
        verdict.violations.append(
            f"I5: {resource} was written by {effect.writer} under term {term}, which is {owner}'s"
        )


def read_effects(log: Path) -> Iterator[Effect]:
    """Reads the store's log."""
    for line in _lines(log):
        yield Effect(
            resource=line["resource"],
            term=line["term"],
            writer=line["writer"],
            value=line["value"],
            is_applied=line["applied"],
            at=line["at"],
        )


def read_writes(log: Path) -> Iterator[Write]:
    """Reads a client's log."""
    for line in _lines(log):
        yield Write(
            value=line["value"],
            ending=line["ending"],
            writer=line["writer"],
            began_at=line["began_at"],
            ended_at=line["ended_at"],
        )


def read_owners(log: Path) -> dict[int, dict[str, str]]:
    """Reads the recorder's log: for each term, resource -> owner."""
    owners: dict[int, dict[str, str]] = defaultdict(dict)
    for line in _lines(log):
        owners[line["term"]][line["resource"]] = line["owner"]
    return dict(owners)


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    with log.open(encoding="utf-8") as stream:
        for line in stream:
            # The last line of a program that was killed may be cut short.
            if line.endswith("\n"):
                yield json.loads(line)
