"""The picture of a plan: each pod's share before and after, and what each step moves."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PODS_MAX: Final = 48
"""More rows than this fit no screen; then those that change most are drawn."""
COLUMNS_MAX: Final = 120
"""More columns than this are thinner than a line; then a column is several steps."""
LABEL_LENGTH_MAX: Final = 22

WIDTH: Final = 800
MARGIN: Final = 24
BARS_LEFT: Final = 190
BARS_WIDTH: Final = 430
ROW_HEIGHT: Final = 30
ROWS_TOP: Final = 118
STEPS_HEIGHT: Final = 120
STEPS_LEFT: Final = MARGIN + 66
STEPS_RIGHT: Final = WIDTH - MARGIN - 66
COLUMN_WIDTH_MAX: Final = 60.0

BEFORE, AFTER, FAIR, JOINING = "#b4bcc8", "#2f6fb3", "#c2410c", "#15803d"
STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}"
    ".title{font-size:17px;font-weight:600}.quiet{fill:#6b7280;font-size:12px}"
    ".number{text-anchor:end;font-variant-numeric:tabular-nums}"
)


def svg(facts: dict[str, Any]) -> str:
    """Returns the picture as one SVG document that needs nothing else.

    Args:
        facts: what `hashroute plan --json` prints.
    """
    pods = _pods_drawn(facts)
    steps_top = ROWS_TOP + len(pods) * ROW_HEIGHT + 50
    height = steps_top + STEPS_HEIGHT + 64
    return "\n".join(
        (
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
                f'width="{WIDTH}" height="{height}" role="img">'
            ),
            f"<title>{_headline(facts)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *_head(facts, len(pods)),
            *_rows(facts, pods),
            *_steps(facts, steps_top),
            "</svg>\n",
        )
    )


def _pods_drawn(facts: dict[str, Any]) -> list[str]:
    before, after = facts["shares_before"], facts["shares_after"]
    pods = sorted({*before, *after})
    if len(pods) <= PODS_MAX:
        return pods
    pods.sort(key=lambda pod: -abs(after.get(pod, 0.0) - before.get(pod, 0.0)))
    return sorted(pods[:PODS_MAX])


def _headline(facts: dict[str, Any]) -> str:
    least = facts["least_slots"]
    against = f", {facts['moved_slots'] / least:.3f} times the least" if least else ""
    back = " back" if facts["back"] else ""
    return f"{facts['moved_share']:.2%} of the keys move{back}{against}"


def _head(facts: dict[str, Any], drawn: int) -> Iterator[str]:
    yield _text(MARGIN, 36, _headline(facts), "title")
    yield _text(
        MARGIN,
        58,
        f"{facts['moved_slots']:,} of {facts['slots']:,} slots. Largest share by fair share: "
        f"{facts['imbalance_before']:.4f} before, {facts['imbalance_after']:.4f} after, "
        f"at most {facts['imbalance_max']:g} (rounded up to whole slots).",
        "quiet",
    )
    yield f'<rect x="{BARS_LEFT}" y="80" width="12" height="12" fill="{BEFORE}"/>'
    yield _text(BARS_LEFT + 18, 91, "share now" if facts["steps_done"] else "share before")
    yield f'<rect x="{BARS_LEFT + 120}" y="80" width="12" height="12" fill="{AFTER}"/>'
    yield _text(BARS_LEFT + 138, 91, "after")
    yield f'<rect x="{BARS_LEFT + 192}" y="79" width="2" height="14" fill="{FAIR}"/>'
    yield _text(BARS_LEFT + 200, 91, "fair share after")
    pods = len({*facts["shares_before"], *facts["shares_after"]})
    if drawn < pods:
        text = f"the {drawn} of {pods:,} pods that change most"
        yield _text(BARS_LEFT, ROWS_TOP + drawn * ROW_HEIGHT + 16, text, "quiet")
    yield _text(WIDTH - MARGIN, 36, _reached(facts), "quiet number")
    yield _text(WIDTH - MARGIN - 66, 91, "after", "quiet number")
    yield _text(WIDTH - MARGIN, 91, "change", "quiet number")


def _reached(facts: dict[str, Any]) -> str:
    if facts["back"]:
        return f"from step {facts['steps_done']:,} back to the start"
    if facts["steps_done"]:
        return f"{facts['steps_done']:,} of {facts['steps_planned']:,} steps are done"
    return ""


def _rows(facts: dict[str, Any], pods: Sequence[str]) -> Iterator[str]:
    before, after, fair = (
        facts[name] for name in ("shares_before", "shares_after", "fair_shares_after")
    )
    largest = max([*before.values(), *after.values(), *fair.values()])
    scale = BARS_WIDTH / largest
    for row, pod in enumerate(pods):
        top = ROWS_TOP + row * ROW_HEIGHT
        had, has = before.get(pod, 0.0), after.get(pod, 0.0)
        yield f"<g><title>{_shown(pod)}: {had:.2%} before, {has:.2%} after</title>"
        yield _text(BARS_LEFT - 12, top + 15, _label(pod), "number")
        yield _bar(BARS_LEFT, top, had * scale, 9, BEFORE)
        yield _bar(BARS_LEFT, top + 10, has * scale, 9, AFTER)
        if pod in fair:
            place = BARS_LEFT + fair[pod] * scale
            yield f'<rect x="{place - 1:.2f}" y="{top - 2}" width="2" height="23" fill="{FAIR}"/>'
        yield _text(WIDTH - MARGIN - 66, top + 15, f"{has:.2%}", "number")
        yield _text(WIDTH - MARGIN, top + 15, f"{has - had:+.2%}", "quiet number")
        yield "</g>"


def _steps(facts: dict[str, Any], top: int) -> Iterator[str]:
    steps = facts["steps"]
    if not steps:
        yield _text(MARGIN, top, "Nothing moves: there are no steps.")
        return
    together = -(-len(steps) // COLUMNS_MAX)
    columns = [sum(steps[at : at + together]) for at in range(0, len(steps), together)]
    each = "each column a step" if together == 1 else f"each column {together:,} steps"
    yield _text(MARGIN, top, f"Slots moved in {_counted(len(steps), 'step')} ({each})")
    bottom = top + 16 + STEPS_HEIGHT
    width = min((STEPS_RIGHT - STEPS_LEFT) / len(columns), COLUMN_WIDTH_MAX)
    most = max(columns)
    for column, moved in enumerate(columns):
        tall = moved / most * STEPS_HEIGHT
        yield f"<g><title>{moved:,} slots</title>"
        yield _bar(STEPS_LEFT + column * width, bottom - tall, width * 0.85, tall, AFTER)
        yield "</g>"
    right = STEPS_LEFT + len(columns) * width
    yield f'<path d="M{STEPS_LEFT} {bottom}H{right:.2f}" stroke="#6b7280"/>'
    yield _text(STEPS_LEFT - 10, top + 26, f"{most:,}", "quiet number")
    yield _text(STEPS_LEFT - 10, bottom, "0", "quiet number")
    first, last = facts["steps_done"] + 1, facts["steps_done"] + len(steps)
    if facts["back"]:
        first, last = facts["steps_done"], 1
    yield _text(STEPS_LEFT, bottom + 18, f"step {first:,}", "quiet")
    if len(columns) * width > COLUMN_WIDTH_MAX * 2:
        yield _text(right, bottom + 18, f"{last:,}", "quiet number")
    yield from _joining(facts, top, width, together)


def _joining(facts: dict[str, Any], top: int, width: float, together: int) -> Iterator[str]:
    """The share of the pods that join, from the start to the end of each column, as a line."""
    pods = list(facts["joining"])
    if not pods:
        return
    at_start = sum(facts["shares_before"].get(pod, 0.0) for pod in pods)
    by_step = [sum(shares) for shares in zip(*facts["joining"].values(), strict=True)]
    shares = [at_start, *by_step[together - 1 :: together]]
    if len(by_step) % together:
        shares.append(by_step[-1])
    whose = _label(pods[0]) if len(pods) == 1 else f"the {len(pods):,} pods that join"
    yield f'<rect x="{STEPS_RIGHT - 262}" y="{top - 6}" width="18" height="3" fill="{JOINING}"/>'
    yield _text(STEPS_RIGHT - 238, top, f"share of {whose}")
    bottom, most = top + 16 + STEPS_HEIGHT, max(shares)
    points = [
        (STEPS_LEFT + column * width, bottom - share / most * (STEPS_HEIGHT - 6))
        for column, share in enumerate(shares)
    ]
    way = "L".join(f"{across:.2f} {down:.2f}" for across, down in points)
    yield f'<path d="M{way}" fill="none" stroke="#fff" stroke-width="7"/>'
    yield f'<path class="joining" d="M{way}" fill="none" stroke="{JOINING}" stroke-width="3"/>'
    across, down = points[-1]
    yield _text(across + 8, down + 4, f"{shares[-1]:.2%}", "quiet")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _label(pod: str) -> str:
    return pod if len(pod) <= LABEL_LENGTH_MAX else f"{pod[: LABEL_LENGTH_MAX - 1]}…"


def _bar(left: float, top: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'fill="{colour}"/>'
    )


def _text(left: float, base: float, text: str, kind: str = "") -> str:
    return f'<text x="{left:g}" y="{base:g}" class="{kind}">{_shown(text)}</text>'


def _shown(text: str) -> str:
    # A pod's id may hold characters that no XML document may, not even escaped.
    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))
