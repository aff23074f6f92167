"""What a run measured, to JSON and back, and one run beside an older one."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hashroute.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "hashroute-bench/1"
OURS = "hashroute"
"""The names of our own contenders begin with it."""

OPERATIONS = {
    "lookup": "One lookup",
    "batch": "One key of a batch of 1,024",
    "threads": "One key of an array of a million that threads share (wall clock)",
    "build": "Build of a ring",
}
WALL_CLOCK = {"threads"}
"""Operations whose gain CPU time cannot show."""

UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3))


@dataclass(frozen=True)
class Measurement:
    """One contender under one operation at one size, with what every round took."""

    operation: str
    contender: str
    version: str
    is_floor: bool
    pods: int
    rounds_ns: tuple[float, ...]

    @property
    def median_ns(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds_ns)

    @property
    def spread_ns(self) -> tuple[float, float]:
        """The fastest and the slowest round."""
        return min(self.rounds_ns), max(self.rounds_ns)

    @property
    def subject(self) -> tuple[str, str, int]:
        """What was measured: two runs are compared where this is the same."""
        return self.operation, self.contender, self.pods


@dataclass(frozen=True)
class Comparison:
    """The same subject in two runs; a ``ratio`` above 1 means that it became slower."""

    before: Measurement
    after: Measurement

    @property
    def ratio(self) -> float:
        """Median after by median before."""
        return self.after.median_ns / self.before.median_ns

    def is_regression(self, tolerance: float) -> bool:
        """Whether hashroute itself became slower by more than ``tolerance``, beyond noise.

        A ``tolerance`` of 0.2 allows a ratio of 1.2. What became of the peers is not our fault,
        and the wall clock judges the neighbours.
        """
        ours = self.after.contender.startswith(OURS) and self.after.operation not in WALL_CLOCK
        return ours and self.ratio > 1 + tolerance and self.is_beyond_noise

    @property
    def verdict(self) -> str:
        """``slower`` or ``faster``, or why neither can be said: ``noise``, ``wall clock``."""
        if not self.is_beyond_noise:
            return "noise"
        if self.after.operation in WALL_CLOCK:
            return "wall clock"
        return "slower" if self.ratio > 1 else "faster"

    @property
    def is_beyond_noise(self) -> bool:
        """Whether no round of one run lies within the rounds of the other."""
        before, after = self.before.spread_ns, self.after.spread_ns
        return after[0] > before[1] or after[1] < before[0]


@dataclass(frozen=True)
class Report:
    """One run: the facts of the machine and the measurements, in the order they were made."""

    facts: dict[str, str]
    measurements: tuple[Measurement, ...]

    @property
    def facts_known(self) -> dict[str, str]:
        """The facts that have something to say; outside a repository there is no commit."""
        return {name: fact for name, fact in self.facts.items() if fact}

    def of(self, operation: str) -> Iterator[tuple[str, list[Measurement]]]:
        """Yields each contender that has ``operation``, with its measurements by number of pods."""
        chosen = [entry for entry in self.measurements if entry.operation == operation]
        for contender in dict.fromkeys(entry.contender for entry in chosen):
            yield contender, [entry for entry in chosen if entry.contender == contender]

    def ratio(self, measurement: Measurement) -> float:
        """Returns the median of ``measurement`` by that of the first contender of its table row."""
        reference = next(
            entry
            for entry in self.measurements
            if (entry.operation, entry.pods) == (measurement.operation, measurement.pods)
        )
        return measurement.median_ns / reference.median_ns

    def compared_with(self, older: Report) -> list[Comparison]:
        """Pairs each measurement with that of the same subject in ``older``, where there is one."""
        before = {entry.subject: entry for entry in older.measurements}
        return [
            Comparison(before[entry.subject], entry)
            for entry in self.measurements
            if entry.subject in before
        ]

    def to_json(self) -> str:
        """Returns the report as JSON that ``from_json`` reads; medians stand beside the rounds."""
        document = {
            "format": FORMAT,
            "facts": self.facts,
            "measurements": [
                {**asdict(entry), "median_ns": entry.median_ns} for entry in self.measurements
            ],
        }
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Reads what ``to_json`` wrote.

        Raises ConfigurationError if ``text`` is anything else.
        """
        try:
            return cls._from_document(json.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = (
                f"this is not a report of `hashroute bench --json` (format {FORMAT}): {error!r};"
                " give a file that it wrote"
            )
            raise ConfigurationError(message) from error

    @classmethod
    def _from_document(cls, document: Any) -> Report:
        if document["format"] != FORMAT:
            raise ValueError(document["format"])
        measurements = tuple(_measurement(entry) for entry in document["measurements"])
        facts = {str(name): str(fact) for name, fact in document["facts"].items()}
        return cls(facts=facts, measurements=measurements)


def readable_ns(median_ns: float, low_ns: float, high_ns: float) -> tuple[str, str]:
    """Returns a duration with its unit, and the range around it in the same unit."""
    unit, size = next(((unit, size) for unit, size in UNITS if median_ns >= size), ("ns", 1.0))
    median, low, high = (_digits(duration / size) for duration in (median_ns, low_ns, high_ns))
    return f"{median} {unit}", f"{low}-{high}"


def _digits(value: float) -> str:
    # Above 999 three digits would come as an exponent.
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def _measurement(entry: dict[str, Any]) -> Measurement:
    rounds_ns = tuple(float(taken) for taken in entry["rounds_ns"])
    if not rounds_ns or not all(0 < taken < math.inf for taken in rounds_ns):
        raise ValueError(f"rounds_ns: {rounds_ns}")
    pods = int(entry["pods"])
    if pods < 1:
        raise ValueError(f"pods: {pods}")
    return Measurement(
        operation=str(entry["operation"]),
        contender=str(entry["contender"]),
        version=str(entry["version"]),
        is_floor=bool(entry["is_floor"]),
        pods=pods,
        rounds_ns=rounds_ns,
    )
