"""What somebody who watches sees while the demo runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Self

from rich import box
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hashroute.demo.analysis import latency
from hashroute.demo.records import OK, Path
from hashroute.demo.series import CONDITION_AFTER, Condition
from hashroute.demo.tables import milliseconds
from hashroute.demo.timeline import JOINS_LATER, RACKS

if TYPE_CHECKING:
    from rich.console import Console

    from hashroute.demo.facts import Latency
    from hashroute.demo.recorder import Recorder
    from hashroute.demo.records import Answer

# Rates and latencies shown are those of the answers of this long ago until now.
RECENT_SECONDS = 1.0
PLAIN_SECONDS = 5.0
# What the table takes beside its bars, and how long these are on a wide terminal.
TABLE_WIDTH = 70
BAR_WIDTH_MAX = 30
STYLES = {
    Condition.SERVING: "green",
    Condition.DEAD: "bold red",
    Condition.FROZEN: "bold blue",
    Condition.DRAINED: "dim",
    Condition.OUTSIDE: "dim",
}
HEALTH_STYLES = {"up": "green", "suspect": "yellow", "down": "bold red"}


class LiveDisplay:
    """A table of the pods that stays in place; what happens scrolls by above it.

    Args:
        console: A terminal.
        duration_seconds: How long requests are sent.
    """

    def __init__(self, console: Console, duration_seconds: float) -> None:
        self._duration = duration_seconds
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._live.console.print(Text(text))

    def show(self, recorder: Recorder) -> None:
        """See `Display.show`."""
        bar_width = min(BAR_WIDTH_MAX, max(1, self._live.console.width - TABLE_WIDTH))
        self._live.update(pods_now(recorder, self._duration, bar_width=bar_width), refresh=True)


class PlainDisplay:
    """One line for each thing that happens, and one now and then: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due_at = PLAIN_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, recorder: Recorder) -> None:
        """See `Display.show`."""
        if recorder.now() >= self._due_at:
            self.note(f"{self._due_at:5.1f} s  {now_line(recorder)}")
            self._due_at += PLAIN_SECONDS


def pods_now(recorder: Recorder, duration_seconds: float, *, bar_width: int) -> Table:
    """Returns what each pod does at this moment; its bars have at most `bar_width` characters."""
    recent = _recent(recorder)
    rates = Counter(answer.pod for answer in recent if answer.code == OK)
    # Always wide enough for the rate that four pods share, so that bars compare over time.
    full = max(1.0, 0.6 * len(recent))
    table = Table(
        title=f"{max(0.0, recorder.now()):.1f} of {duration_seconds:g} s",
        caption=now_line(recorder),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("pod", "rack", "is", "seen as"):
        table.add_column(heading, no_wrap=True)
    for heading in ("in flight", "req/s", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", min_width=bar_width, no_wrap=True)
    for pod, rack in RACKS.items():
        condition = _condition(recorder, pod)
        share = rates[pod] / rates.total() if rates else 0.0
        table.add_row(
            pod,
            rack,
            Text(condition, style=STYLES[condition]),
            _seen(recorder, pod),
            _in_flight(recorder, pod),
            f"{rates[pod] / RECENT_SECONDS:.0f}",
            f"{share:.0%}",
            Text("█" * round(min(1.0, rates[pod] / full) * bar_width), style=STYLES[condition]),
        )
    return table


def now_line(recorder: Recorder) -> str:
    """Returns the traffic of this moment in one line."""
    recent = _recent(recorder)
    failed = sum(answer.code != OK for answer in recorder.answers)
    retried = recorder.samples[-1].retries if recorder.samples else 0
    through = _spread(latency(answer for answer in recent if answer.path is Path.SIDECAR))
    line = (
        f"{len(recent) / RECENT_SECONDS:.0f} requests/s, {through}, "
        f"{len(recorder.answers):,} answered, {failed:,} failed, {retried:,} retried"
    )
    direct = latency(answer for answer in recent if answer.path is Path.DIRECT)
    return f"{line}; direct {_spread(direct)}" if direct.count else line


def _spread(seen: Latency) -> str:
    return f"p50 {milliseconds(seen.p50)}, p99 {milliseconds(seen.p99)}"


def _recent(recorder: Recorder) -> list[Answer]:
    since = recorder.now() - RECENT_SECONDS
    recent: list[Answer] = []
    # Answers come in batches, nearly in order: the recent ones are all at the end.
    for answer in reversed(recorder.answers):
        if answer.answered_at < since - RECENT_SECONDS:
            break
        if answer.answered_at >= since:
            recent.append(answer)
    return recent


def _condition(recorder: Recorder, pod: str) -> Condition:
    done = [event for event in recorder.events if event.pod == pod]
    if done:
        return CONDITION_AFTER[done[-1].kind]
    return Condition.OUTSIDE if pod == JOINS_LATER else Condition.SERVING


def _seen(recorder: Recorder, pod: str) -> Text:
    seen = recorder.samples[-1].pods.get(pod) if recorder.samples else None
    if seen is None:
        return Text("")
    if seen.state == "draining":
        return Text("draining", style="dim")
    return Text(seen.health, style=HEALTH_STYLES.get(seen.health, ""))


def _in_flight(recorder: Recorder, pod: str) -> str:
    seen = recorder.samples[-1].pods.get(pod) if recorder.samples else None
    return "" if seen is None else str(seen.in_flight)
