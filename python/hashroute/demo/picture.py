"""The timeline as one SVG: throughput by pod, latency on a log scale, and a lane for each pod."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from hashroute.demo.promises import FROZEN_SECONDS_MAX
from hashroute.demo.records import OK, Answer, Path, Recording
from hashroute.demo.series import bins, conditions, seen_health

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hashroute.demo.facts import Facts

WIDTH = 1160
LEFT = 84
RIGHT = 20
EVENTS_TOP = 14
EVENT_ROWS = 2
BINS = 120

ROUND_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

LATENCY_SECONDS_MIN = 1e-4
LATENCY_SECONDS_MAX = 1.0
LATENCY_GRID = ((1e-4, "0.1 ms"), (1e-3, "1 ms"), (1e-2, "10 ms"), (1e-1, "100 ms"), (1.0, "1 s"))


@dataclass(frozen=True, slots=True)
class Panel:
    """A horizontal stripe of the picture."""

    top: float
    height: float

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height


RATE = Panel(top=64, height=150)
LATENCY = Panel(top=258, height=230)
LANES_TOP = 532.0
LANE_HEIGHT = 38.0
LANE_GAP = 10.0
SEEN_HEIGHT = 5.0


class Picture:
    """Draws one recording.

    Args:
        recording: What to draw.
        facts: What was found in it.
    """

    def __init__(self, recording: Recording, facts: Facts) -> None:
        self._recording = recording
        self._facts = facts
        self._bins = bins(recording, recording.duration_seconds / BINS)
        self._pods = list(recording.racks)
        self._lanes_bottom = LANES_TOP + len(self._pods) * (LANE_HEIGHT + LANE_GAP)

    def svg(self) -> str:
        """Returns the picture; its colours are classes of `assets/report.css`."""
        height = self._lanes_bottom + 26
        parts = [
            (
                f'<svg id="timeline" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
                f'aria-label="Timeline of the run" data-left="{LEFT}" data-right="{WIDTH - RIGHT}" '
                f'data-duration="{self._recording.duration_seconds}">'
            ),
            *self._comparisons(),
            *self._rates(),
            *self._latencies(),
            *self._lanes(),
            *self._axis(),
            *self._events(),
            (
                f'<line id="cursor" class="cursor" x1="0" x2="0" y1="{RATE.top}" '
                f'y2="{self._lanes_bottom:.1f}" visibility="hidden"/>'
            ),
            "</svg>",
        ]
        return "\n".join(parts)

    def tips(self) -> list[dict[str, object]]:
        """Returns what the page shows under the mouse, one entry a bin."""
        return [
            {
                "at": round(b.start, 2),
                "rates": {pod: round(b.rates.get(pod, 0.0)) for pod in self._pods},
                "failed": b.failed,
                "p50": None if math.isnan(b.p50) else round(b.p50 * 1e3, 2),
                "p99": None if math.isnan(b.p99) else round(b.p99 * 1e3, 2),
            }
            for b in self._bins
        ]

    def _x(self, at: float) -> float:
        inside = min(max(at, 0.0), self._recording.duration_seconds)
        return LEFT + inside / self._recording.duration_seconds * (WIDTH - LEFT - RIGHT)

    def _comparisons(self) -> Iterator[str]:
        for start, end in self._recording.compared:
            x, width = self._x(start), self._x(end) - self._x(start)
            yield (
                f'<rect class="compared" x="{x:.1f}" y="{RATE.top}" width="{width:.1f}" '
                f'height="{LATENCY.bottom - RATE.top}"/>'
            )
            yield _text(
                x + width / 2, LATENCY.bottom - 8, "half of the requests go direct", "note mid"
            )

    def _rates(self) -> Iterator[str]:
        peak = max((sum(b.rates.values()) for b in self._bins), default=1.0)
        top = _round_up(max(peak, self._facts.rate, 1.0))
        yield _text(
            LEFT, RATE.top - 10, "Requests answered a second, by the pod that answered", "title"
        )
        for value in (0.0, top / 2, top):
            yield from self._grid(RATE.bottom - value / top * RATE.height, f"{value:,.0f}")
        floor = [0.0] * len(self._bins)
        for number, pod in enumerate(self._pods, start=1):
            roof = [low + b.rates.get(pod, 0.0) for low, b in zip(floor, self._bins, strict=True)]
            outline = [
                *self._steps(roof, RATE, top),
                *reversed(list(self._steps(floor, RATE, top))),
            ]
            yield f'<path class="area pod-{number}" d="{_path(outline)}Z"/>'
            floor = roof

    def _latencies(self) -> Iterator[str]:
        yield _text(
            LEFT, LATENCY.top - 10, "Latency from the intended send time, log scale", "title"
        )
        for seconds, label in LATENCY_GRID:
            yield from self._grid(_latency_y(seconds), label)
        answers = [answer for answer in self._recording.answers if answer.code == OK]
        late = self._facts.late_seconds
        slow = [a for a in answers if a.path is Path.SIDECAR and a.latency_seconds > late]
        quick = [a for a in answers if a.path is Path.SIDECAR and a.latency_seconds <= late]
        direct = [answer for answer in answers if answer.path is Path.DIRECT]
        for name, group in (("direct", direct), ("quick", quick), ("slow", slow)):
            yield f'<path class="dots {name}" d="{"".join(self._dots(group))}"/>'
        yield f'<path class="stalls" d="{"".join(self._stalls())}"/>'
        for name in ("p99", "p50"):
            points = [
                (self._x(b.start + self._bin_seconds / 2), _latency_y(getattr(b, name)))
                for b in self._bins
                if not math.isnan(getattr(b, name))
            ]
            yield f'<path class="line {name}" d="{_path(points)}"/>'
        yield from self._rule(late, f"late above {late * 1e3:.0f} ms")
        yield from self._rule(FROZEN_SECONDS_MAX, f"promise {FROZEN_SECONDS_MAX * 1e3:.0f} ms")

    def _rule(self, seconds: float, label: str) -> Iterator[str]:
        y = _latency_y(seconds)
        yield f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(WIDTH - RIGHT - 4, y - 4, label, "note end")

    def _lanes(self) -> Iterator[str]:
        yield _text(
            LEFT,
            LANES_TOP - 12,
            "What each pod was, with its requests a second; below it, what the sidecar took it for",
            "title",
        )
        peak = max((rate for b in self._bins for rate in b.rates.values()), default=1.0)
        for number, pod in enumerate(self._pods, start=1):
            top = LANES_TOP + (number - 1) * (LANE_HEIGHT + LANE_GAP)
            lane = Panel(top=top, height=LANE_HEIGHT - SEEN_HEIGHT - 1)
            yield _text(LEFT - 10, top + 16, pod, "lane end")
            yield _text(LEFT - 10, top + 29, self._recording.racks[pod], "note end")
            for span in conditions(self._recording, pod):
                yield self._bar(span.start, span.end, lane, f"is-{span.word.split()[0]}")
            rates = [b.rates.get(pod, 0.0) for b in self._bins]
            points = list(self._steps(rates, lane, peak * 1.1))
            base = [(points[-1][0], lane.bottom), (points[0][0], lane.bottom)] if points else []
            yield f'<path class="area pod-{number}" d="{_path([*points, *base])}Z"/>'
            for span in conditions(self._recording, pod):
                if span.word != "serving":
                    middle = (self._x(span.start) + self._x(span.end)) / 2
                    yield _text(middle, lane.top + 20, span.word, "word mid")
            seen = Panel(top=lane.bottom + 1, height=SEEN_HEIGHT)
            for span in seen_health(self._recording, pod):
                yield self._bar(span.start, span.end, seen, f"seen-{span.word}")

    def _bar(self, start: float, end: float, panel: Panel, kind: str) -> str:
        x, width = self._x(start), self._x(end) - self._x(start)
        return (
            f'<rect class="{escape(kind)}" x="{x:.1f}" y="{panel.top:.1f}" width="{width:.1f}" '
            f'height="{panel.height:.1f}"/>'
        )

    def _axis(self) -> Iterator[str]:
        step = _round_up(self._recording.duration_seconds / 12)
        ticks = int(self._recording.duration_seconds / step) + 1
        for index in range(ticks):
            yield _text(
                self._x(index * step), self._lanes_bottom + 12, f"{index * step:g} s", "note mid"
            )

    def _events(self) -> Iterator[str]:
        for number, event in enumerate(self._recording.events):
            x = self._x(event.at)
            y = EVENTS_TOP + (number % EVENT_ROWS) * 16
            yield (
                f'<line class="event {event.kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" '
                f'y2="{self._lanes_bottom:.1f}"/>'
            )
            yield f'<circle class="event {event.kind}" cx="{x:.1f}" cy="{y - 4}" r="4"/>'
            yield _text(x + 8, y, f"{event.kind} {event.pod}", "event-name")

    def _grid(self, y: float, label: str) -> Iterator[str]:
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 10, y + 4, label, "note end")

    def _dots(self, answers: Iterable[Answer]) -> Iterator[str]:
        """Yields a line of no length for each answer: a dot, by its round ends, in few bytes."""
        for answer in answers:
            yield f"M{self._x(answer.intended_at):.1f} {_latency_y(answer.latency_seconds):.1f}h0"

    def _stalls(self) -> Iterator[str]:
        """Yields a bar on the time axis for each stall, as tall as a latency of its length."""
        for stall in self._recording.stalls:
            if 0.0 <= stall.at <= self._recording.duration_seconds:
                top = _latency_y(stall.seconds)
                yield f"M{self._x(stall.at):.1f} {LATENCY.bottom:.1f}V{top:.1f}"

    def _steps(
        self, values: Sequence[float], panel: Panel, top: float
    ) -> Iterator[tuple[float, float]]:
        for b, value in zip(self._bins, values, strict=True):
            y = panel.bottom - min(1.0, value / top) * panel.height
            yield self._x(b.start), y
            yield self._x(b.start + self._bin_seconds), y

    @property
    def _bin_seconds(self) -> float:
        return self._recording.duration_seconds / BINS


def _latency_y(seconds: float) -> float:
    inside = min(max(seconds, LATENCY_SECONDS_MIN), LATENCY_SECONDS_MAX)
    decades = math.log10(LATENCY_SECONDS_MAX / LATENCY_SECONDS_MIN)
    return LATENCY.bottom - math.log10(inside / LATENCY_SECONDS_MIN) / decades * LATENCY.height


def _round_up(value: float) -> float:
    """Returns the next round number: one of `ROUND_STEPS` times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in ROUND_STEPS if step * power >= value)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
