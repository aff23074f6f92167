"""``hashroute route``: which pod owns a key."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from hashroute.cli._common import (
    epilog,
    json_option,
    load_ring,
    print_json,
    ring_options,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@click.command(
    epilog=epilog(
        """
hashroute route --config hashroute.toml EUR/USD BTC/USD
hashroute route --int 42
hashroute route --json - < keys.txt
""",
        held="the owners are shown",
        failed="never",
        unknown="the configuration has errors, or no sidecar answers",
    )
)
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@ring_options
@click.option("--int", "as_int", is_flag=True, help="Keys are integers: 8 bytes, little-endian.")
@click.option(
    "-n", "length", default=3, show_default=True, type=click.IntRange(1), help="Preferences shown."
)
@json_option
def route(
    *,
    keys: tuple[str, ...],
    file: Path | None,
    control: str,
    length: int,
    as_int: bool,
    as_json: bool,
) -> None:
    """Show which pod owns a KEY, and which pods would inherit it.

    A KEY is its bytes as the shell gives them; - reads one from each line of standard input.
    Without --config the ring of the running sidecar is asked. Health plays no part: a pod that is
    down keeps its keys, and the next of the preference list serves them meanwhile.
    """
    ring = load_ring(file, control)
    rows = [
        (_shown(key), ring.slot(key), ring.preference(key, length))
        for key in _keys(keys, as_int=as_int)
    ]
    if as_json:
        print_json(
            [
                {"key": key, "slot": slot, "owner": preference[0], "preference": list(preference)}
                for key, slot, preference in rows
            ]
        )
        return
    lines = [
        (key, str(slot), preference[0], " > ".join(preference)) for key, slot, preference in rows
    ]
    click.echo(table(("key", "slot", "owner", "preference"), lines, right={1}))


def _keys(arguments: tuple[str, ...], *, as_int: bool) -> Iterable[bytes | int]:
    for argument in arguments:
        if argument == "-":
            lines: Iterable[bytes] = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
        else:
            lines = (os.fsencode(argument),)
        for line in lines:
            yield _integer(line) if as_int else line


def _integer(line: bytes) -> int:
    try:
        number = int(line)
    except ValueError:
        raise click.BadParameter(f"{_shown(line)} is not an integer", param_hint="KEY") from None
    if not -(1 << 63) <= number < 1 << 64:
        raise click.BadParameter(f"{number} does not fit 8 bytes", param_hint="KEY")
    return number


def _shown(key: bytes | int) -> str:
    """A key as text; bytes that are no printable text are escaped."""
    if isinstance(key, int):
        return str(key)
    text = key.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
