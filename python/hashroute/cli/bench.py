"""``hashroute bench``: the ring on this machine, beside whatever peers are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from hashroute.bench import Report, machine_facts, measure
from hashroute.bench.tables import LEGEND, comparison_table, page, tables
from hashroute.cli._common import CouldNotRun, epilog
from hashroute.errors import ConfigurationError

POD_COUNTS = "2,16,128,1000"
PODS_MAX = 65_535


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
        held="it was measured",
        failed="never; what became slower is for you to judge",
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
def bench(
    pod_counts: list[int],
    rounds: int,
    json_path: Path | None,
    html_path: Path | None,
    older_path: Path | None,
) -> None:
    """Time the ring's lookups, batches and builds beside the peers that are installed.

    The peers are uhashring, jump-consistent-hash and xxhash; install them to see them. Figures
    are CPU time, medians over interleaved rounds; compare ratios, not machines.
    """
    older = _older(older_path)
    notes = Console(stderr=True)
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        measurements = measure(
            pod_counts,
            rounds,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    report = Report(facts=machine_facts(), measurements=tuple(measurements))
    if json_path == Path("-"):
        sys.stdout.write(report.to_json() + "\n")
    else:
        _show(report, older)
    if json_path is not None and json_path != Path("-"):
        json_path.write_text(report.to_json() + "\n", encoding="utf-8")
    if html_path is not None:
        html_path.write_text(page(report), encoding="utf-8")


def _older(path: Path | None) -> Report | None:
    try:
        return None if path is None else Report.from_json(path.read_bytes())
    except ConfigurationError as error:
        raise CouldNotRun(f"{path}: {error}") from error


def _show(report: Report, older: Report | None) -> None:
    console = Console()
    for name, fact in report.facts.items():
        console.print(f"[dim]{name}:[/dim] {fact}", highlight=False)
    for table in tables(report):
        console.print(table, "")
    console.print(LEGEND, style="dim")
    if older is not None:
        console.print(comparison_table(report.compared_with(older)))
