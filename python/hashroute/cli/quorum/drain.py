"""``hashroute quorum drain``: a pod hands over all that it writes, or gets it back."""

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
hashroute quorum drain pod-a --undo --config hashroute.toml
""",
        held="the pod writes nothing any more, and others do (with --undo: it has its share again)",
        failed="no such pod, or not agreed: a pod that hands over or a majority does not answer",
        unknown=UNREACHED,
    )
)
@click.argument("pod")
@click.option("--undo", is_flag=True, help="Make it active again instead: it gets its share back.")
@target_options
@json_option
def drain(
    *,
    pod: str,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    undo: bool,
    as_json: bool,
) -> None:
    """Let POD hand over all that it writes: its slots, and the groups that it leads.

    What it admitted before ends first, and no write is refused for longer than a round trip. It
    stays a member and owns nothing; its next process joins as active, so a restart ends it.
    --undo ends it without one: the others hand its slots back in the same way. A group stays with
    the leader it has; `hashroute quorum move` gives it back.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    epoch = target.change({"activate" if undo else "drain": {"pod": pod}})
    done = f"{pod} is active again" if undo else f"{pod} writes nothing any more"
    show_epoch(done, epoch, {"pod": pod}, as_json=as_json)
