"""A report for the eye, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from hashroute.bench.report import OPERATIONS, Comparison, Measurement, Report, readable_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

LEGEND = (
    "CPU time of the process, or where it says so the wall clock: the median of the rounds, its"
    " ratio to the first row (above 1 is slower), and the fastest to the slowest round. A floor"
    " does less than the operation must."
)
VERDICT_STYLES = {"slower": "red", "faster": "green"}


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
            name = named(contender, measurements[0], separator="\n")
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
        verdict = entry.verdict
        table.add_row(
            entry.after.operation,
            entry.after.contender,
            str(entry.after.pods),
            *(_median(side) for side in (entry.before, entry.after)),
            f"{entry.ratio:.2f} {verdict}",
            style=VERDICT_STYLES.get(verdict, ""),
        )
    return table


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
    return f"{median} [bold]{ratio_text(report, entry)}[/bold]\n[dim]{spread}[/dim]"


def _median(entry: Measurement) -> str:
    return readable_ns(entry.median_ns, *entry.spread_ns)[0]


def ratio_text(report: Report, entry: Measurement) -> str:
    """Returns the ratio of ``entry`` to the first contender, as every table shows it."""
    ratio = report.ratio(entry)
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def named(contender: str, entry: Measurement, separator: str) -> str:
    """Returns the name of the contender with its version, and whether it is a floor."""
    details = " ".join(filter(None, (entry.version, "(floor)" if entry.is_floor else "")))
    return f"{contender}{separator}{details}"
