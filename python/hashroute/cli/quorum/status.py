"""``hashroute quorum status``: who writes what, and whether it will stay so."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from hashroute.cli._common import CouldNotRun, epilog, json_option, print_json
from hashroute.cli._watching import interval_option, show_lines, show_screens
from hashroute.cli.quorum._operator import look, target_of, target_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hashroute.cli.quorum._cluster import Cluster
    from hashroute.cli.quorum._operator import Target


@click.command(
    epilog=epilog(
        """
hashroute quorum status --config hashroute.toml
hashroute quorum status --target 10.0.0.1:9010 --cluster desk-7 --watch
hashroute quorum status --config hashroute.toml --json | jq .reasons
""",
        held="every slot and every group has a writer that may write",
        failed="somebody cannot write; it says who, and why",
        unknown="no voter answers, or wrong usage",
    )
)
@target_options
@interval_option
@json_option
def status(
    *,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    watch: bool,
    interval_ms: int,
    as_json: bool,
) -> None:
    """Show who writes what and since when, the voters, the leases, and what is wrong.

    A term is the epoch at which the present writer got a slot or a group; stores refuse writes of
    older ones. Times are in UTC, as far back as a process that answers remembers. A lease can be
    asked for where a voter runs beside the pod; of other pods it is shown how many voters they
    talk to. Where leases lie in etcd nobody but etcd is asked, and it is shown who renews there.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(target, interval_ms / 1_000, as_json=as_json)
        return
    now = look(target)
    if as_json:
        print_json(now.to_dict())
    else:
        from hashroute.cli.quorum._text import status_text

        click.echo(status_text(now))
    raise SystemExit(0 if now.holds else 1)


def _watch(target: Target, interval_seconds: float, *, as_json: bool) -> None:
    looks = _looks(target, interval_seconds)
    if as_json:
        show_lines(json.dumps(_fields(now)) for now in looks)
        return
    from hashroute.cli.quorum._text import status_text

    show_screens(now if isinstance(now, str) else status_text(now) for now in looks)


def _fields(now: Cluster | str) -> dict[str, Any]:
    return {"holds": False, "reasons": [now]} if isinstance(now, str) else now.to_dict()


def _looks(target: Target, interval_seconds: float) -> Iterator[Cluster | str]:
    yield look(target)
    while True:
        time.sleep(interval_seconds)
        try:
            yield look(target)
        except CouldNotRun as error:  # it was there before: an outage is what one watches for
            yield error.message
