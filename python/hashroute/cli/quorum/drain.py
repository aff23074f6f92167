"""``hashroute quorum drain``: a pod hands over all that it writes."""

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
hashroute quorum drain pod-a --config hashroute.toml && ssh rack-1 systemctl restart orders
""",
        held="the pod writes nothing any more, and others do",
        failed="no such pod, or not agreed: it or a majority of voters does not answer",
        unknown=UNREACHED,
    )
)
@click.argument("pod")
@target_options
@json_option
def drain(
    *,
    pod: str,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Let POD hand over all that it writes: its slots, and the groups that it leads.

    What it admitted before ends first, and no write is refused for longer than a round trip. It
    stays a member and owns nothing; its next process joins as active, so a restart ends it.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    epoch = target.change({"drain": {"pod": pod}})
    show_epoch(f"{pod} writes nothing any more", epoch, {"pod": pod}, as_json=as_json)
