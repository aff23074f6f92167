"""``hashroute quorum``: the single writer, from an operator's side. A module each command."""

from __future__ import annotations

from typing import Final

import click

from hashroute.cli._common import epilog
from hashroute.cli._lazy import LazyGroup

__all__ = ["COMMANDS", "quorum"]

COMMANDS: Final = {
    "init": "Found the cluster that the configuration describes, once.",
    "status": "Show who writes what, and whether it will stay so.",
    "members": "Show the pods that may write, and their leases.",
    "move": "Give a group to another of its candidates.",
    "drain": "Let a pod hand over all that it writes.",
    "step-down": "Let a leader hand its group over to the next candidate.",
    "replace-voter": "Put another voter in the place of a lost one.",
    "add-group": "Add a group of services of which one leads.",
}


@click.command(
    cls=LazyGroup,
    package="hashroute.cli.quorum",
    summaries=COMMANDS,
    epilog=epilog(
        """
hashroute quorum status --target 10.0.0.1:9010 --cluster desk-7
export HASHROUTE_CONFIG=hashroute.toml
hashroute quorum init
hashroute quorum status --watch
hashroute quorum drain pod-a && ssh rack-1 systemctl restart orders
""",
        held="what was asked for holds",
        failed="it does not: a change was refused, or somebody cannot write",
        unknown="it could not be found out: wrong usage, or no voter answers",
    ),
)
def quorum() -> None:
    """Found a cluster with one writer at a time, look at it, change it.

    Each command talks to the voters: those of [quorum] in --config, or those given by --target.
    HASHROUTE_CONFIG in the environment stands for --config.
    """
