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

BEFORE, AFTER, FAIR = "#b4bcc8", "#2f6fb3", "#c2410c"
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
    steps_top = ROWS_TOP + len(pods) * ROW_HEIGHT + 56
    height = steps_top + STEPS_HEIGHT + 44
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
            *_steps(facts["steps"], steps_top),
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
    return f"{facts['moved_share']:.2%} of the keys move{against}"


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
    yield _text(BARS_LEFT + 18, 91, "share before")
    yield f'<rect x="{BARS_LEFT + 120}" y="80" width="12" height="12" fill="{AFTER}"/>'
    yield _text(BARS_LEFT + 138, 91, "after")
    yield f'<rect x="{BARS_LEFT + 192}" y="79" width="2" height="14" fill="{FAIR}"/>'
    yield _text(BARS_LEFT + 200, 91, "fair share after")
    pods = len({*facts["shares_before"], *facts["shares_after"]})
    if drawn < pods:
        text = f"the {drawn} of {pods:,} pods that change most"
        yield _text(WIDTH - MARGIN, 91, text, "quiet number")


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


def _steps(steps: Sequence[int], top: int) -> Iterator[str]:
    if not steps:
        yield _text(MARGIN, top, "Nothing moves: there are no steps.")
        return
    together = -(-len(steps) // COLUMNS_MAX)
    columns = [sum(steps[at : at + together]) for at in range(0, len(steps), together)]
    each = "each column a step" if together == 1 else f"each column {together:,} steps"
    yield _text(MARGIN, top, f"Slots moved in {len(steps):,} steps ({each})")
    left, bottom = MARGIN + 66, top + 16 + STEPS_HEIGHT
    width = min((WIDTH - MARGIN - left) / len(columns), 60.0)
    most = max(columns)
    for column, moved in enumerate(columns):
        tall = moved / most * STEPS_HEIGHT
        yield f"<g><title>{moved:,} slots</title>"
        yield _bar(left + column * width, bottom - tall, width * 0.85, tall, AFTER)
        yield "</g>"
    right = left + len(columns) * width
    yield f'<path d="M{left} {bottom}H{right:.2f}" stroke="#6b7280"/>'
    yield _text(left - 10, top + 26, f"{most:,}", "quiet number")
    yield _text(left - 10, bottom, "0", "quiet number")


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
