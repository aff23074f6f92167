"""``hashroute quorum init``: found a cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from hashroute.cli._common import CouldNotRun, Failed, epilog, json_option, print_json
from hashroute.cli.quorum._operator import (
    config_option,
    errors_as_exit,
    target_of_file,
    timeout_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.cli.quorum._operator import Target
    from hashroute.config.quorum import QuorumSection

STALLS_IN_A_LEASE = 4
"""A lease is to be so many times the longest stall that was measured, as a member's start asks."""


@click.command(
    epilog=epilog(
        """
hashroute quorum init --config hashroute.toml
""",
        held="the cluster is founded, now or before",
        failed="a voter has a record of another founding, or its machine stalls for too long",
        unknown="a voter cannot be reached, the configuration has errors, or wrong usage",
    )
)
@config_option(required=True)
@timeout_option
@json_option
def init(*, file: Path, timeout_seconds: float, as_json: bool) -> None:
    """Found the cluster that the configuration describes, once.

    It asks each of quorum.voters for its id, makes the first record of them, of [pods], [ring],
    quorum.lease and [quorum.groups], and tells all of them. Every voter has to run. No pod owns
    anything yet: each gets its share when its process joins, which it does by itself. A lease of
    less than four times the longest stall of the last ten minutes, of any voter's process, is
    refused unless quorum.force is set: the lease of a cluster is fixed for its life.

    Repeating it finishes what was interrupted, and changes nothing afterwards. From then on the
    record is the truth: weights, groups and voters change by commands, no longer by the file.
    """
    target = target_of_file(file, round(timeout_seconds * 1_000))
    if target.loaded is None or target.loaded.configuration.quorum is None:
        raise CouldNotRun(f"{file} has no table [quorum]")
    from hashroute.config import lease_of, view_of

    quorum = target.loaded.configuration.quorum
    if not quorum.force:
        _check_stalls(target, quorum)
    groups = {name: list(group.candidates) for name, group in quorum.groups.items()}
    with errors_as_exit():
        record = json.loads(
            target.operator().found(
                json.dumps(view_of(target.loaded.configuration, epoch=1)),
                json.dumps(lease_of(quorum.lease)),
                json.dumps(groups),
            )
        )
    if as_json:
        print_json(record)
        return
    voters = ", ".join(voter["address"] for voter in record["voters"])
    click.echo(f"{quorum.cluster} is founded: cluster id {record['cluster_id']}, voters {voters}")
    click.echo("pods join by themselves; see them with `hashroute quorum status`")


def _check_stalls(target: Target, quorum: QuorumSection) -> None:
    ttl_ms = quorum.lease.ttl.total_seconds() * 1_000
    for answer in target.describe():
        if "error" in answer or answer["record"] is not None:
            continue  # who cannot be reached is reported by the founding; who has a record goes on
        worst_ms = answer["snapshot"]["stalls"]["worst_lately_ms"]
        if worst_ms * STALLS_IN_A_LEASE > ttl_ms:
            raise Failed(
                f"{answer['address']}: the longest stall of the last ten minutes there was "
                f"{worst_ms:.0f} ms, and a lease of {ttl_ms:g} ms is safe from false ends only "
                f"above {worst_ms * STALLS_IN_A_LEASE:.0f} ms (four times the stall): raise "
                "quorum.lease.ttl, give the process real-time priority, or set quorum.force"
            )
