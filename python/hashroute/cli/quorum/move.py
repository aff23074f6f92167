"""``hashroute quorum move``: another leader for a group."""

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
    epilog=epilog(
        """
hashroute quorum move fix-gateway pod-b --config hashroute.toml
""",
        held="the pod leads the group",
        failed="no such group, no candidate of it, no process of it has joined, or not agreed",
        unknown=UNREACHED,
    )
)
@click.argument("group")
@click.argument("pod")
@target_options
@json_option
def move(
    *,
    group: str,
    pod: str,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Give GROUP to POD, another of its candidates.

    The leader stops accepting writes, finishes those under way, and hands over: no write is
    refused for longer than a round trip. If it does not answer, nothing happens.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    epoch = target.change({"lead": {"group": group, "leader": pod}})
    show_epoch(f"{pod} leads {group}", epoch, {"group": group, "leader": pod}, as_json=as_json)
