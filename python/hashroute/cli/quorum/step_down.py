"""``hashroute quorum step-down``: a leader hands over to the next candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hashroute.cli._common import Failed, epilog, json_option, print_json
from hashroute.cli.quorum._operator import UNREACHED, look, target_of, target_options

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.cli.quorum._cluster import Cluster


@click.command(
    "step-down",
    epilog=epilog(
        """
hashroute quorum step-down fix-gateway --config hashroute.toml
hashroute quorum step-down pod-a --config hashroute.toml
""",
        held="another candidate leads",
        failed="no such name, it leads nothing, no other candidate has joined, or not agreed",
        unknown=UNREACHED,
    ),
)
@click.argument("name", metavar="POD|GROUP")
@target_options
@json_option
def step_down(
    *,
    name: str,
    file: Path | None,
    targets: tuple[str, ...],
    cluster: str | None,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Let the leader of a GROUP, or of all groups that a POD leads, hand over.

    The next candidate with a process that has joined takes it, in the order of the group. The pod
    keeps its slots; `hashroute quorum drain` takes these too. A name that is both means the group.
    """
    target = target_of(file, targets, cluster, timeout_seconds)
    groups = _led_by(look(target), name)
    made = [
        {"group": group, "epoch": target.change({"lead": {"group": group, "leader": None}})}
        for group in groups
    ]
    leaders = {group.name: group.leader for group in look(target).groups}
    if as_json:
        print_json([one | {"leader": leaders.get(str(one["group"]))} for one in made])
        return
    for one in made:
        click.echo(f"{leaders.get(str(one['group']))} leads {one['group']} (epoch {one['epoch']})")


def _led_by(cluster: Cluster, name: str) -> list[str]:
    if any(group.name == name for group in cluster.groups):
        return [name]
    groups = [group.name for group in cluster.groups if group.leader == name]
    if groups:
        return groups
    if any(member.pod == name for member in cluster.members):
        raise Failed(f"{name} leads no group, so there is nothing to hand over")
    names = [group.name for group in cluster.groups] + [member.pod for member in cluster.members]
    raise Failed(f"no group and no pod {name!r} in {cluster.name}; there are {', '.join(names)}")
