"""One operation as a picture: a line a contender over the sizes of the ring, both axes by powers.

The picture is SVG text for a page; it needs no library, no script and no font of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from hashroute.bench.report import OURS, Measurement, readable_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, HEIGHT = 960, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 300, 16, 44
LABEL_GAP = 17
"""The least distance between two names at the right, in pixels: a line of text."""

COLOURS_OURS = ("#1d4ed8", "#0891b2", "#7c3aed", "#0f766e", "#3b82f6")
COLOURS_PEERS = ("#b45309", "#be123c", "#4d7c0f", "#a21caf")
COLOUR_FLOOR = "#8a94a3"


def plot(title: str, contenders: Sequence[tuple[str, list[Measurement]]]) -> str:
    """Returns an SVG of medians as points, with a bar from the fastest to the slowest round."""
    entries = [entry for _, measurements in contenders for entry in measurements]
    axes = _Axes.around(entries)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(axes, sorted({entry.pods for entry in entries})),
    ]
    colours = list(_colours(contenders))
    for colour, (name, measurements) in zip(colours, contenders, strict=True):
        parts.extend(_line(axes, colour, name, measurements))
    parts.extend(_names(axes, colours, contenders))
    parts.append("</svg>")
    return "".join(parts)


@dataclass(frozen=True)
class _Axes:
    """Where a number of pods and a duration lie on the picture."""

    pods: tuple[float, float]
    decades: tuple[int, int]

    @classmethod
    def around(cls, entries: Sequence[Measurement]) -> _Axes:
        low = min(entry.spread_ns[0] for entry in entries)
        high = max(entry.spread_ns[1] for entry in entries)
        sizes = [math.log(entry.pods) for entry in entries]
        bottom = math.floor(math.log10(max(low, 0.01)))
        top = max(bottom + 1, math.ceil(math.log10(max(high, 0.01))))
        return cls(pods=(min(sizes), max(sizes)), decades=(bottom, top))

    def x(self, pods: int) -> float:
        first, last = self.pods
        # A single size stands in the middle.
        share = (math.log(pods) - first) / (last - first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, duration_ns: float) -> float:
        bottom, top = self.decades
        share = (math.log10(max(duration_ns, 0.01)) - bottom) / (top - bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _colours(contenders: Sequence[tuple[str, list[Measurement]]]) -> Iterator[str]:
    ours, peers = 0, 0
    for name, measurements in contenders:
        if measurements[0].is_floor:
            yield COLOUR_FLOOR
        elif name.startswith(OURS):
            yield COLOURS_OURS[ours % len(COLOURS_OURS)]
            ours += 1
        else:
            yield COLOURS_PEERS[peers % len(COLOURS_PEERS)]
            peers += 1


def _grid(axes: _Axes, pod_counts: Sequence[int]) -> Iterator[str]:
    bottom, top = axes.decades
    for decade in range(bottom, top + 1):
        y = axes.y(10.0**decade)
        unit = readable_ns(10.0**decade, 0, 0)[0]
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{unit}</text>'
    for count in pod_counts:
        x = axes.x(count)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{count:,}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">pods</text>'


def _line(axes: _Axes, colour: str, name: str, measurements: list[Measurement]) -> Iterator[str]:
    points = [(axes.x(entry.pods), axes.y(entry.median_ns)) for entry in measurements]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if measurements[0].is_floor else ""
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    for entry, (x, y) in zip(measurements, points, strict=True):
        low, high = (axes.y(edge) for edge in entry.spread_ns)
        median, spread = readable_ns(entry.median_ns, *entry.spread_ns)
        hint = escape(f"{name}, {entry.pods:,} pods: {median} ({spread})")
        yield f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="5" '
        yield 'stroke-opacity=".35"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{hint}</title>'
        yield "</circle>"


def _names(
    axes: _Axes, colours: Sequence[str], contenders: Sequence[tuple[str, list[Measurement]]]
) -> Iterator[str]:
    """Yields each name beside the end of its line, moved down where two would overlap."""
    ends = [
        (axes.y(measurements[-1].median_ns), axes.x(measurements[-1].pods), colour, name)
        for colour, (name, measurements) in zip(colours, contenders, strict=True)
    ]
    ends.sort()
    x = WIDTH - RIGHT + 26
    lowest = HEIGHT - BOTTOM + 4
    free = -math.inf
    for below, (y, end, colour, name) in zip(range(len(ends) - 1, -1, -1), ends, strict=True):
        # Down from the name above, and up as far as those below need.
        place = min(max(y, free), lowest - below * LABEL_GAP)
        free = place + LABEL_GAP
        yield f'<path d="M{end + 6:.1f} {y:.1f}L{x - 4} {place:.1f}" stroke="{colour}" '
        yield 'stroke-opacity=".4"/>'
        yield f'<text x="{x}" y="{place + 4:.1f}" fill="{colour}">{escape(name)}</text>'
