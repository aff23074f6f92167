"""A report as one page that needs nothing beside itself: a picture and a table an operation."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from hashroute.bench.plot import plot
from hashroute.bench.report import OPERATIONS, OURS, Measurement, Report, readable_ns
from hashroute.bench.tables import LEGEND, named, ratio_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashroute.bench.report import Comparison


def page(report: Report, comparisons: Sequence[Comparison] = ()) -> str:
    """Returns the report as HTML; what changed since an older run comes last, if there is one."""
    known = report.facts_known.items()
    facts = " · ".join(f"{escape(name)}: {escape(fact)}" for name, fact in known)
    body = "".join(_section(report, operation) for operation in OPERATIONS)
    return _PAGE.format(
        facts=facts, legend=escape(LEGEND), body=body, changes=_changes(comparisons)
    )


def _section(report: Report, operation: str) -> str:
    contenders = list(report.of(operation))
    if not contenders:
        return ""
    title = OPERATIONS[operation]
    sizes = sorted({entry.pods for _, entries in contenders for entry in entries})
    heads = "".join(f"<th>{count:,} pods</th>" for count in sizes)
    rows = "".join(_row(report, name, entries, sizes) for name, entries in contenders)
    return (
        f"<section><h2>{escape(title)}</h2>{plot(title, contenders)}"
        f'<div class="wide"><table><thead><tr><th>contender</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row(report: Report, name: str, entries: list[Measurement], sizes: Sequence[int]) -> str:
    by_size = {entry.pods: entry for entry in entries}
    cells = "".join(_cell(report, by_size.get(size)) for size in sizes)
    kind = ' class="ours"' if name.startswith(OURS) else ""
    return f"<tr{kind}><td>{escape(named(name, entries[0], separator=' '))}</td>{cells}</tr>"


def _cell(report: Report, entry: Measurement | None) -> str:
    if entry is None:
        return "<td></td>"
    median, spread = readable_ns(entry.median_ns, *entry.spread_ns)
    return f"<td>{median} <b>{ratio_text(report, entry)}</b><br><small>{spread}</small></td>"


def _changes(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    rows = "".join(_change(entry) for entry in comparisons)
    return (
        '<section><h2>Beside the older run</h2><div class="wide"><table><thead><tr>'
        "<th>operation</th><th>contender</th><th>pods</th><th>before</th><th>after</th>"
        f"<th>after / before</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _change(entry: Comparison) -> str:
    before, after = (
        readable_ns(side.median_ns, *side.spread_ns)[0] for side in (entry.before, entry.after)
    )
    return (
        f'<tr class="{entry.verdict}"><td>{escape(entry.after.operation)}</td>'
        f"<td>{escape(entry.after.contender)}</td><td>{entry.after.pods:,}</td>"
        f"<td>{before}</td><td>{after}</td><td>{entry.ratio:.2f} {entry.verdict}</td></tr>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hashroute bench</title>
<meta name="viewport" content="width=device-width"><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: auto; padding: 1rem;
  color: #1c2430; background: #fff }}
h2 {{ margin: 2rem 0 .5rem }} small, .facts, .noise, .clock {{ color: #5b6675 }}
svg {{ width: 100%; height: auto; font-size: 13px }} svg text {{ stroke: none }}
svg text:not([fill]) {{ fill: #5b6675 }} .grid {{ stroke: #dfe3ea; stroke-width: 1 }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: 3px 10px; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid #edf0f4; line-height: 1.3 }}
th:first-child, td:first-child {{ text-align: left }} .ours td:first-child {{ font-weight: 600 }}
.slower td {{ color: #b91c1c }} .faster td {{ color: #15803d }}
</style></head><body><h1>hashroute bench</h1><p class="facts">{facts}</p><p>{legend}
The axes of the pictures go by powers; a thick bar reaches from the fastest to the slowest
round.</p>
{body}{changes}</body></html>
"""
