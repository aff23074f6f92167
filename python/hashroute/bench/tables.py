"""A report for the eye: tables on a terminal, and one page that needs nothing beside itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from hashroute.bench.report import OPERATIONS, Comparison, Measurement, Report, readable_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

LEGEND = (
    "CPU time of the process: the median of the rounds, its ratio to the first row (above 1 is"
    " slower), and the fastest to the slowest round. A floor does less than the operation must."
)


def tables(report: Report) -> Iterator[Table]:
    """Yields one table an operation: a row for each contender, a column for each number of pods."""
    pod_counts = sorted({entry.pods for entry in report.measurements})
    for operation, title in OPERATIONS.items():
        table = _table(title)
        table.add_column("contender")
        for count in pod_counts:
            table.add_column(f"{count} pods", justify="right", no_wrap=True)
        for contender, measurements in report.of(operation):
            cells = {entry.pods: _cell(report, entry) for entry in measurements}
            name = _named(contender, measurements[0], separator="\n")
            table.add_row(name, *(cells.get(count, "") for count in pod_counts))
        if table.row_count:
            yield table


def comparison_table(comparisons: list[Comparison]) -> Table:
    """Returns the table of two runs: what became slower or faster, and whether beyond noise."""
    table = _table("Beside the older run")
    for heading in ("operation", "contender"):
        table.add_column(heading)
    for heading in ("pods", "before", "after", "after / before"):
        table.add_column(heading, justify="right")
    for entry in comparisons:
        style = ""
        if entry.is_beyond_noise:
            style = "red" if entry.ratio > 1 else "green"
        table.add_row(
            entry.after.operation,
            entry.after.contender,
            str(entry.after.pods),
            *(_median(side) for side in (entry.before, entry.after)),
            f"{entry.ratio:.2f}" + ("" if entry.is_beyond_noise else " (noise)"),
            style=style,
        )
    return table


def page(report: Report) -> str:
    """Returns the report as one HTML page: bars for the medians, figures beside them."""
    facts = " · ".join(f"{escape(name)}: {escape(fact)}" for name, fact in report.facts.items())
    body = "".join(_section(report, operation) for operation in OPERATIONS)
    return _PAGE.format(facts=facts, legend=escape(LEGEND), body=body)


def _table(title: str) -> Table:
    # Four sizes of rings fit a terminal of 80 columns.
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )


def _cell(report: Report, entry: Measurement) -> str:
    median, spread = readable_ns(entry.median_ns, *entry.spread_ns)
    return f"{median} [bold]{_ratio(report, entry)}[/bold]\n[dim]{spread}[/dim]"


def _median(entry: Measurement) -> str:
    return readable_ns(entry.median_ns, *entry.spread_ns)[0]


def _ratio(report: Report, entry: Measurement) -> str:
    ratio = report.ratio(entry)
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _named(contender: str, entry: Measurement, separator: str) -> str:
    details = " ".join(filter(None, (entry.version, "(floor)" if entry.is_floor else "")))
    return f"{contender}{separator}{details}"


def _section(report: Report, operation: str) -> str:
    rows = []
    chosen = [entry for _, entries in report.of(operation) for entry in entries]
    for count in sorted({entry.pods for entry in chosen}):
        same_size = [entry for entry in chosen if entry.pods == count]
        longest = max(entry.median_ns for entry in same_size)
        rows.append(f'<tr><th colspan="4">{count} pods</th></tr>')
        rows.extend(_bar(report, entry, entry.median_ns / longest) for entry in same_size)
    if not rows:
        return ""
    return f"<h2>{escape(OPERATIONS[operation])}</h2><table>{''.join(rows)}</table>"


def _bar(report: Report, entry: Measurement, share: float) -> str:
    median, spread = readable_ns(entry.median_ns, *entry.spread_ns)
    kind = "ours" if entry.contender.startswith("hashroute") else "floor" if entry.is_floor else ""
    return (
        f"<tr><td>{escape(_named(entry.contender, entry, separator=' '))}</td>"
        f'<td class="bar"><div class="{kind}" style="width:{share:.2%}"></div></td>'
        f"<td>{median} <small>({spread})</small></td>"
        f"<td>{_ratio(report, entry)}</td></tr>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hashroute bench</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: auto; padding: 1rem }}
table {{ border-collapse: collapse; width: 100% }} td {{ padding: 2px 8px; white-space: nowrap }}
th {{ text-align: left; padding: 10px 8px 2px }} .bar {{ width: 50% }}
.bar div {{ height: 0.9em; min-width: 2px; background: #b8bdc7 }}
.bar .ours {{ background: #2463c5 }} .bar .floor {{ background: #dfe3ea }}
small, .facts {{ color: #667 }}
</style></head><body><h1>hashroute bench</h1><p class="facts">{facts}</p><p>{legend}</p>{body}
</body></html>
"""
