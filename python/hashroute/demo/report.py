"""The report: one page that needs nothing beside itself."""

from __future__ import annotations

import json
import platform
import time
from html import escape
from importlib import resources
from os import cpu_count
from typing import TYPE_CHECKING

from hashroute._release import release
from hashroute.demo.picture import Picture
from hashroute.demo.records import Kind, Recording
from hashroute.demo.tables import Table, headline, milliseconds, recovery, tables, transport_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hashroute.demo.facts import Facts
    from hashroute.demo.promises import Verdict


def write(directory: Path, recording: Recording, facts: Facts, verdicts: Sequence[Verdict]) -> Path:
    """Writes `index.html` into `directory`, which exists, and returns its path."""
    path = directory / "index.html"
    path.write_text(page(recording, facts, verdicts), "utf-8")
    return path


def page(recording: Recording, facts: Facts, verdicts: Sequence[Verdict]) -> str:
    """Returns the whole page."""
    picture = Picture(recording, facts)
    body = "\n".join(
        [
            *_hero(facts, verdicts),
            *_timeline(recording, picture),
            *(part for table in tables(facts) for part in _table(table)),
            *_promises(verdicts),
            *_method(recording, facts),
        ]
    )
    # "<" cannot occur inside a script element's data without a chance to end it.
    tips = json.dumps(picture.tips(), separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>hashroute demo</title>
<style>
{_asset("report.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script id="tips" type="application/json">{tips}</script>
<script>
{_asset("report.js")}</script>
</body>
</html>
"""


def _hero(facts: Facts, verdicts: Sequence[Verdict]) -> Iterator[str]:
    broken = [verdict for verdict in verdicts if not verdict.held]
    kept = not broken
    badge = (
        "Every promise held"
        if kept
        else "Did not hold: " + ", ".join(f"{v.promise} ({v.title})" for v in broken)
    )
    yield f"""<header>
<div class="brand">hashroute <span>demo</span></div>
<h1>Pods died, froze, left and joined.<br>{_outcome(facts)}</h1>
<p class="lead">{escape(headline(facts))}</p>
<p class="badge {"held" if kept else "broken"}">{escape(badge)}</p>
</header>
<section class="tiles">"""
    for value, label in _tiles(facts):
        yield f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
    yield "</section>"


def _outcome(facts: Facts) -> str:
    failed = sum(facts.requests.failed.values())
    return "Not one request failed." if not failed else f"{failed:,} requests failed."


def _tiles(facts: Facts) -> Iterator[tuple[str, str]]:
    failed = sum(facts.requests.failed.values())
    yield f"{failed:,}", f"failed of {facts.requests.sent:,} requests"
    for event in facts.events:
        if event.event.kind is Kind.KILL:
            yield recovery(event), "all on time after a pod was killed"
        if event.event.kind is Kind.FREEZE:
            yield recovery(event), "until all were on time after a pod froze"
    for event in facts.events:
        if event.event.kind is Kind.ADD:
            yield f"{event.moved_to_least:.2f}", "slots moved to the new pod, against the least"
    for added in facts.added:
        name = transport_name(added.transport)
        yield milliseconds(added.p50), f"added by the sidecar, {name} p50"


def _timeline(recording: Recording, picture: Picture) -> Iterator[str]:
    swatches = "".join(
        f'<span><i class="swatch pod-{number}"></i>{escape(pod)}</span>'
        for number, pod in enumerate(recording.racks, start=1)
    )
    yield f"""<section class="card">
<h2>Timeline</h2>
<div class="legend">{swatches}<span><i class="swatch line p50"></i>p50</span>
<span><i class="swatch line p99"></i>p99</span>
<span><i class="swatch dot quick"></i>through the sidecar</span>
<span><i class="swatch dot slow"></i>late</span>
<span><i class="swatch dot direct"></i>direct</span>
<span><i class="swatch line stall"></i>the machine stalled</span></div>
<div class="picture">
{picture.svg()}
<div id="tip" hidden></div>
</div>
</section>"""


def _table(table: Table) -> Iterator[str]:
    yield f'<section class="card"><h2>{escape(table.title)}</h2>'
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(_cell("th", text, n < table.labels) for n, text in enumerate(table.columns))
    yield "</tr></thead><tbody>"
    for row in table.rows:
        cells = "".join(_cell("td", text, n < table.labels) for n, text in enumerate(row))
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"
    yield from (f'<p class="note">{escape(note)}</p>' for note in table.notes)
    yield "</section>"


def _cell(tag: str, text: str, is_label: bool) -> str:  # noqa: FBT001  # one of two kinds of cell
    return f'<{tag} class="{"label" if is_label else "number"}">{escape(text)}</{tag}>'


def _promises(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield '<section class="card"><h2>The promises, as this run tried them</h2><dl class="promises">'
    for verdict in verdicts:
        mark = "held" if verdict.held else "broken"
        word = "held" if verdict.held else "did not hold"
        yield (
            f'<dt><span class="badge {mark}">{escape(verdict.promise)} {word}</span> '
            f"{escape(verdict.title)}</dt><dd>{escape(verdict.judged)}</dd>"
        )
    yield '</dl><p class="note">P4 (single writer) is not exercised: the feature service only '
    yield "reads.</p></section>"


def _method(recording: Recording, facts: Facts) -> Iterator[str]:
    stalls = facts.stalls
    rules = (
        (
            f"Two model servers sent {facts.rate:g} requests a second for "
            f"{facts.duration_seconds:g} s, at random "
            "moments, whether or not earlier ones had been answered. Latency counts from the "
            "moment that the schedule "
            "meant, so a stall anywhere shows."
        ),
        (
            f"A request is late above {milliseconds(facts.late_seconds)}: four times the calm p99 "
            "through the sidecar, "
            f"at least 25 ms and at most two thirds of the health timeout "
            f"({milliseconds(recording.health_timeout_seconds)})."
        ),
        (
            "A ticker bound to each processor asked to be woken every 5 ms and found "
            f"{stalls.count:,} stalls of 3 ms "
            f"or more, the longest {milliseconds(stalls.longest_seconds)}. What the machine took "
            "away during a "
            "request is taken off its latency before it is called late, and added to the 300 ms "
            "that a frozen pod "
            "may cost. The times in the tables are as measured."
        ),
        "A killed pod must not make a request late that was sent once the process was gone.",
    )
    yield '<section class="card"><h2>How this was measured</h2><ul>'
    yield from (f"<li>{escape(rule)}</li>" for rule in rules)
    yield "</ul>"
    yield f'<p class="note">{escape(_machine())}</p></section>'


def _machine() -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return (
        f"hashroute {release()}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()} {platform.machine()}, {cpu_count()} processors, "
        f"{when}. "
        "Symbols and volumes: facts taken from rreichel3/US-Stock-Symbols, volumes of 2026-08-21."
    )


def _asset(name: str) -> str:
    return resources.files("hashroute.demo").joinpath("assets", name).read_text("utf-8")
