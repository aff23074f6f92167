"""The script of the run: what happens to which pod, and when."""

from __future__ import annotations

from dataclasses import dataclass

from hashroute.demo.records import Kind

# Pods and their racks; the last one joins during the run.
RACKS = {
    "pod-a": "rack-1",
    "pod-b": "rack-1",
    "pod-c": "rack-2",
    "pod-d": "rack-2",
    "pod-e": "rack-1",
}
JOINS_LATER = "pod-e"


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do to one pod.

    Attributes:
        at: When, as a fraction of the run.
        kind: What.
        pod: To which pod.
    """

    at: float
    kind: Kind
    pod: str


@dataclass(frozen=True, slots=True)
class Script:
    """What happens in one run.

    Attributes:
        acts: In order of time.
        warm: The fraction of the run in which connections and caches are still cold.
        compared: The parts of the run, as fractions, in which every other request goes straight to
            its owner: before anything happens, and when all is over.
    """

    acts: tuple[Act, ...]
    warm: float
    compared: tuple[tuple[float, float], ...]


SCRIPT = Script(
    acts=(
        Act(0.26, Kind.KILL, "pod-b"),
        Act(0.36, Kind.RESTART, "pod-b"),
        Act(0.46, Kind.FREEZE, "pod-c"),
        Act(0.55, Kind.RESUME, "pod-c"),
        Act(0.65, Kind.DRAIN, "pod-a"),
        Act(0.74, Kind.ADD, JOINS_LATER),
    ),
    warm=0.05,
    compared=((0.0, 0.24), (0.84, 1.0)),
)
