"""One run of the demo from start to end: play it, judge it, show it, write the report."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import webbrowser
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from hashroute.demo import report
from hashroute.demo.analysis import facts as facts_of
from hashroute.demo.conductor import perform
from hashroute.demo.live import LiveDisplay, PlainDisplay
from hashroute.demo.processes import DemoError
from hashroute.demo.promises import verdicts as verdicts_on
from hashroute.demo.symbols import Symbols
from hashroute.demo.tables import headline, tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hashroute.demo.facts import Facts
    from hashroute.demo.promises import Verdict
    from hashroute.demo.records import Recording
    from hashroute.demo.tables import Table

EXIT_HELD = 0
EXIT_BROKEN = 1
EXIT_COULD_NOT_RUN = 2
# As a shell reports a program that SIGINT ended.
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the demo.

    Attributes:
        duration_seconds: How long requests are sent.
        rate: Requests a second, over all model servers.
        report: The directory for the report, the logs and the configuration; made if missing.
        as_json: Whether standard output gets the facts as JSON, and nothing else.
        opens: Whether a browser shows the report, if somebody watches.
    """

    duration_seconds: float
    rate: float
    report: Path
    as_json: bool
    opens: bool


def run(options: Options) -> int:
    """Runs the demo and returns its exit code.

    0 if every promise held, 1 if one did not, 2 if the demo could not run, 130 if it was
    interrupted. No process is left behind in any of these cases.
    """
    console = Console(stderr=options.as_json)
    try:
        options.report.mkdir(parents=True, exist_ok=True)
        recording = asyncio.run(_play(options, console))
    except (DemoError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(
            f"the demo could not run: {error}", markup=False, highlight=False
        )
        return EXIT_COULD_NOT_RUN
    except (KeyboardInterrupt, asyncio.CancelledError):
        Console(stderr=True).print("interrupted; every process was ended")
        return EXIT_INTERRUPTED
    facts = facts_of(recording, Symbols.load())
    verdicts = verdicts_on(recording, facts)
    page = report.write(options.report, recording, facts, verdicts)
    if options.as_json:
        sys.stdout.write(as_json(facts, verdicts, page) + "\n")
    else:
        _show(console, facts, verdicts, page)
    if options.opens and console.is_terminal and _has_desktop():
        webbrowser.open(page.resolve().as_uri())
    return EXIT_HELD if all(verdict.held for verdict in verdicts) else EXIT_BROKEN


def as_json(facts: Facts, verdicts: Sequence[Verdict], page: Path) -> str:
    """Returns the facts and verdicts as JSON; times are seconds, shares 0 to 1."""
    found = asdict(facts) | {
        "promises": [asdict(verdict) for verdict in verdicts],
        "held": all(verdict.held for verdict in verdicts),
        "report": str(page),
    }
    found["events"] = [
        asdict(event.event) | asdict(event) | {"moved_to_least": event.moved_to_least}
        for event in facts.events
    ]
    for event in found["events"]:
        del event["event"]
    for added, measured in zip(found["added"], facts.added, strict=True):
        added["added"] = {"p50": measured.p50, "p99": measured.p99}
    return json.dumps(_without_nan(found), indent=2, allow_nan=False)


def _without_nan(value: object) -> object:
    """Returns `value` with null for what was not measured: JSON has no NaN."""
    match value:
        case dict():
            return {key: _without_nan(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_without_nan(inner) for inner in value]
        case float() if math.isnan(value):
            return None
        case _:
            return value


def _has_desktop() -> bool:
    """Returns whether a browser would have a screen; without one a text browser might start."""
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


async def _play(options: Options, console: Console) -> Recording:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    # SIGTERM ends the demo as Ctrl-C does: with everything that it started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    display = (
        LiveDisplay(console, options.duration_seconds)
        if console.is_terminal and not console.is_dumb_terminal
        else PlainDisplay(console)
    )
    with display:
        return await perform(
            duration_seconds=options.duration_seconds,
            rate=options.rate,
            directory=options.report,
            display=display,
        )


def _show(console: Console, facts: Facts, verdicts: Sequence[Verdict], page: Path) -> None:
    for table in tables(facts):
        console.print()
        console.print(_rich(table))
        for note in table.notes:
            console.print(Text(note, style="dim"))
    console.print()
    console.print(Text(headline(facts), style="bold"))
    for verdict in verdicts:
        mark = Text(" held " if verdict.held else " DID NOT HOLD ", style=_style(verdict))
        console.print(Text.assemble(f"{verdict.promise} ", mark, f" {verdict.title}"))
        if not verdict.held:
            console.print(Text(f"   {verdict.judged}", style="red"))
    console.print(Text(f"\nreport: {page}"))


def _style(verdict: Verdict) -> str:
    return "bold green" if verdict.held else "bold red reverse"


def _rich(table: Table) -> RichTable:
    # Set this tightly, every table fits a terminal of 80 columns.
    shown = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for number, heading in enumerate(table.columns):
        shown.add_column(heading, justify="left" if number < table.labels else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown
