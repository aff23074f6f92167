"""What the tables of the ring in docs/benchmarks.md hold: headings and rows, without their form.

The figures are those that `benches.ring` leaves beside criterion's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hashroute.bench.report import readable_ns

Table = tuple[Sequence[str], list[Sequence[str]]]

# The most that a ratio may be, by the work and, where it differs, the number of pods.
GOALS = {"lookup": "1.2", "build": "1.8", "join": "0.4", "leave": "0.4", "reweight": "0.4"}
# The goals of a change begin at this many pods.
GOAL_PODS_MIN = 16


def movement(document: dict[str, Any]) -> Table:
    """Moved slots by the least, and the fullest pod by its fair share."""
    headings = (
        "slots, epsilon, pods, weights",
        "way",
        "moved / least, mean",
        "of one history",
        "worst event",
        "fullest pod / fair share",
    )
    rows = [
        (
            f"{row['slots']:,}, {row['epsilon']}, {row['pods']:,}, {row['weights']}",
            row["way"],
            f"{row['mean']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['worst']:.2f}",
            f"{row['peak']:.3f}",
        )
        for row in document["rows"]
    ]
    return headings, list(rows)


def heirs(document: dict[str, Any]) -> Table:
    """Slots that went where their preference list had said."""
    headings = (
        "slots, pods",
        "of a pod that left",
        *(f"of one of {zones} zones" for zones in document["zones"]),
    )
    rows = [
        (
            f"{row['slots']:,}, {row['pods']:,}",
            f"{row['one pod']:.2%}",
            *(f"{part:.2%}" for part in row["zones"]),
        )
        for row in document["rows"]
    ]
    return headings, list(rows)


def ratios(document: dict[str, Any]) -> Table:
    """CPU time of the ring's work beside what it is measured against."""
    headings = ("pods", "work", "time", "beside", "time", "ratio", "quartiles", "goal, at most")
    rows = []
    for row in document["rows"]:
        has_goal = row["work"] == "lookup" or row["pods"] >= GOAL_PODS_MIN
        rows.append(
            (
                f"{row['pods']:,}",
                row["work"],
                _time(row["work_ns"]),
                row["beside"],
                _time(row["beside_ns"]),
                f"{row['ratio']:.2f}",
                f"{row['low']:.2f} to {row['high']:.2f}",
                GOALS.get(row["work"], "-") if has_goal else "-",
            )
        )
    return headings, rows


def _time(nanoseconds: float) -> str:
    return readable_ns(nanoseconds, nanoseconds, nanoseconds)[0]
