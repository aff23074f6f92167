"""``hashroute quorum add-group``: a group more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hashroute.cli._common import epilog, json_option
from hashroute.cli.quorum._operator import (
    UNREACHED,
    show_epoch,
    target_of,
    target_options,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "add-group",
    epilog=epilog(
        """
hashroute quorum add-group fix-gateway pod-a pod-b --config hashroute.toml
""",
        held="the record has the group",
        failed="there is such a group already, a candidate is no pod, or not agreed",
        unknown=UNREACHED,
    ),
)
@click.argument("name", metavar="GROUP")
@click.argument("candidates", metavar="POD...", nargs=-1, required=True)
@target_options
@json_option
def add_group(
    *,
    name: str,
    candidates: tuple[str, ...],
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Add GROUP, of which one POD leads: the first of them whose process has joined.

    Write it into [quorum.groups] of every file too, so that `hashroute check` knows its name.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    epoch = target.change({"add_group": {"name": name, "candidates": [*candidates]}})
    facts = {"group": name, "candidates": [*candidates]}
    show_epoch(f"{name} is a group of {', '.join(candidates)}", epoch, facts, as_json=as_json)
