"""``hashroute quorum members``: the pods that may write, and their leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hashroute.cli._common import epilog, json_option, print_json
from hashroute.cli.quorum._operator import look, target_of, target_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    epilog=epilog(
        """
hashroute quorum members --config hashroute.toml
hashroute quorum members --config hashroute.toml --json | jq '.[] | select(.holds_lease | not)'
""",
        held="the members are shown",
        failed="never",
        unknown="no voter answers, or wrong usage",
    )
)
@target_options
@json_option
def members(
    *,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Show the pods that may write: their process, their lease, what they admitted and refused.

    A lease can be asked for where a voter runs beside the pod. The promise is the longest time to a
    new writer, by the stalls that were measured there.
    """
    now = look(target_of(file, targets, cluster, timeout_seconds))
    if as_json:
        print_json(now.to_dict()["members"])
        return
    from hashroute.cli.quorum._text import members_text

    click.echo(members_text(now))
