"""What ``--watch`` does: shows one look after another, on one screen where the terminal can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    _Decorated = TypeVar("_Decorated", bound="Callable[..., Any]")


def interval_option(command: _Decorated) -> _Decorated:
    """Adds ``--watch`` and ``--interval-ms``."""
    interval = click.option(
        "--interval-ms",
        default=1000,
        show_default=True,
        type=click.IntRange(50, 60_000),
        help="Time between two looks of --watch.",
    )
    watch = click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
    return watch(interval(command))


def show_lines(looks: Iterable[str]) -> None:
    """Prints one look after another."""
    for look in looks:
        click.echo(look)


def show_screens(looks: Iterable[str]) -> None:
    """Redraws the screen for each look; where that cannot be, prints one after another."""
    from rich.console import Console

    console = Console()
    # A dumb terminal, such as one of an editor or a log, cannot go back to redraw.
    if not console.is_terminal or console.is_dumb_terminal:
        show_lines(f"{look}\n" for look in looks)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, auto_refresh=False, screen=True) as live:
        for look in looks:
            live.update(Text(look, no_wrap=True, overflow="crop"), refresh=True)
