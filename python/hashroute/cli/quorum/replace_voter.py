"""``hashroute quorum replace-voter``: another voter in the place of a lost one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hashroute.cli._common import epilog, json_option
from hashroute.cli.quorum._operator import (
    show_epoch,
    target_of,
    target_options,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "replace-voter",
    epilog=epilog(
        """
hashroute quorum replace-voter 10.0.0.3:9010 10.0.0.4:9010 --config hashroute.toml
hashroute quorum replace-voter 10.0.0.3:9010 10.0.0.3:9010 --config hashroute.toml
""",
        held="the new voter votes, the old one does not",
        failed="no such voter, the new one does not vote or is of another cluster, or not agreed",
        unknown="nobody who is needed answers, it is not known whether it was made, or wrong usage",
    ),
)
@click.argument("old", metavar="OLD")
@click.argument("new_address", metavar="NEW_ADDRESS")
@target_options
@json_option
def replace_voter(
    *,
    old: str,
    new_address: str,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Let the voter at NEW_ADDRESS take the place of OLD, an address or an id of the record.

    The new process has to run, with the same quorum.cluster and an empty quorum.data. Equal
    addresses are for a voter whose disk was lost: it comes back under another id, and counts for
    nothing until it gets its place back by this. One voter is replaced at a time, and a majority
    of the present ones has to answer. Writes go on. Afterwards write the new address into
    quorum.voters of every file: it is where a process that starts learns the cluster from.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    epoch = target.change({"replace_voter": {"old": old, "new": new_address}})
    done = f"the voter at {new_address} has the place of {old}"
    show_epoch(done, epoch, {"old": old, "new": new_address}, as_json=as_json)
