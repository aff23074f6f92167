"""``hashroute bench``: the ring on this machine, beside whatever peers are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from hashroute.bench import Comparison, Report, machine_facts, measure
from hashroute.bench.page import page
from hashroute.bench.tables import LEGEND, comparison_table, tables
from hashroute.cli._common import CouldNotRun, epilog
from hashroute.errors import ConfigurationError

POD_COUNTS = "2,16,128,1000"
PODS_MAX = 65_535
SAME_FOR_A_COMPARISON = ("machine", "system", "python")
"""Facts that change the times of the same code."""


def _pod_counts(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(count) for count in value.split(",")]
    except ValueError:
        counts = []
    if not counts or not all(1 <= count <= PODS_MAX for count in counts):
        raise click.BadParameter(
            f"{value!r}: give numbers from 1 to {PODS_MAX}, as in {POD_COUNTS}"
        )
    return counts


@click.command(
    epilog=epilog(
        """
hashroute bench
hashroute bench --pods 16 --json before.json
hashroute bench --pods 16 --compare before.json --html bench.html
""",
        held="it was measured, and with --compare nothing of hashroute became slower",
        failed="--compare: something of hashroute became slower by more than --tolerance, and no "
        "rounds of the two runs overlap (threads, on the wall clock, are left out)",
        unknown="wrong usage, or --compare names a file that --json did not write",
    )
)
@click.option(
    "--pods",
    "pod_counts",
    default=POD_COUNTS,
    show_default=True,
    callback=_pod_counts,
    help="Sizes of the ring, separated by commas.",
)
@click.option(
    "--rounds",
    default=7,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Times that each contender is timed; all take turns.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write the report as JSON; - writes it to standard output, and nothing else.",
)
@click.option(
    "--html",
    "html_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report as one page that needs nothing beside itself.",
)
@click.option(
    "--compare",
    "older_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what changed since a report that --json wrote.",
)
@click.option(
    "--tolerance",
    "tolerance_percent",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, 1000),
    help="With --compare: by how many per cent a median may rise.",
)
def bench(
    *,
    pod_counts: list[int],
    rounds: int,
    json_path: Path | None,
    html_path: Path | None,
    older_path: Path | None,
    tolerance_percent: float,
) -> None:
    """Time the ring's lookups, batches and builds beside the peers that are installed.

    The peers are fastring (Python 3.13 or later), uhashring, jump-consistent-hash and xxhash;
    install them to see them. Figures are CPU time, medians over interleaved rounds; compare
    ratios, not machines. Threads that share a large batch are timed by the wall clock.
    """
    older = _older(older_path)
    for path in (json_path, html_path):
        # What cannot be written is better known before the minutes than after them.
        if path is not None and path != Path("-"):
            _write(path, None)
    notes = Console(stderr=True)
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        measurements = measure(
            pod_counts,
            rounds,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    report = Report(facts=machine_facts(), measurements=tuple(measurements))
    comparisons = [] if older is None else report.compared_with(older)
    for unlike in [] if older is None else _unlike(older, report):
        notes.print(f"not alike: the older run had {unlike}", highlight=False)
    if json_path == Path("-"):
        sys.stdout.write(report.to_json() + "\n")
    else:
        _show(report, comparisons)
    if json_path is not None and json_path != Path("-"):
        _write(json_path, report.to_json() + "\n")
    if html_path is not None:
        _write(html_path, page(report, comparisons))
    regressions = [entry for entry in comparisons if entry.is_regression(tolerance_percent / 100)]
    for entry in regressions:
        what = f"{entry.after.operation}, {entry.after.contender}, {entry.after.pods} pods"
        notes.print(f"slower: {what}: {entry.ratio:.2f} times the older run", highlight=False)
    if regressions:
        sys.exit(1)


def _older(path: Path | None) -> Report | None:
    try:
        return None if path is None else Report.from_json(path.read_bytes())
    except ConfigurationError as error:
        raise CouldNotRun(f"{path}: {error}") from error


def _unlike(older: Report, report: Report) -> list[str]:
    return [
        f"{name}: {older.facts[name]}"
        for name in SAME_FOR_A_COMPARISON
        if older.facts.get(name) and older.facts[name] != report.facts.get(name)
    ]


def _write(path: Path, text: str | None) -> None:
    """Writes ``text``; with None only finds out whether that will be possible."""
    try:
        with path.open("a" if text is None else "w", encoding="utf-8") as file:
            file.write(text or "")
    except OSError as error:
        raise CouldNotRun(f"cannot write {path}: {error.strerror}") from error


def _show(report: Report, comparisons: list[Comparison]) -> None:
    console = Console()
    for name, fact in report.facts_known.items():
        console.print(f"[dim]{name}:[/dim] {fact}", highlight=False)
    for table in tables(report):
        console.print(table, "")
    console.print(LEGEND, style="dim")
    if comparisons:
        console.print(comparison_table(comparisons))
