"""``hashroute reload``: read the configuration again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hashroute.cli._common import (
    UNREACHED,
    call,
    control_option,
    epilog,
    json_option,
    plain,
    print_json,
    stub,
)

if TYPE_CHECKING:
    from hashroute._proto.v1 import control_pb2 as pb


@click.command(
    epilog=epilog(
        """
hashroute check hashroute.toml && hashroute reload
""",
        held="the file is in force",
        failed="the file has errors, all of them shown; the configuration before is in force",
        unknown=UNREACHED,
    )
)
@control_option
@json_option
def reload(control: str, *, as_json: bool) -> None:
    """Make a running sidecar read its configuration again, as SIGHUP does.

    No request fails of it. Changes made by drain, add, remove and reweight end here: the file is
    the truth. What was undone is shown. Under a quorum the record is the truth for pods and groups,
    and it is shown where the file says otherwise.
    """
    from hashroute._proto.v1 import control_pb2 as pb

    with stub(control) as service:
        answer = call(service.Reload, pb.ReloadRequest(), control)
    if as_json:
        print_json(plain(answer))
    else:
        _show(answer)
    raise SystemExit(0 if answer.applied else 1)


def _show(answer: pb.ReloadResponse) -> None:
    for finding in answer.findings:
        place = (
            f"{finding.position.line}:{finding.position.column}: "
            if finding.HasField("position")
            else ""
        )
        key = f"{finding.key}: " if finding.key else ""
        click.echo(f"{place}{finding.severity}: {key}{finding.message}")
        for label, text in (
            ("expected", finding.expected),
            ("got", finding.got),
            ("write", finding.suggestion),
        ):
            if text:
                click.echo(f"    {label:<9} {text}")
    for text in answer.undone:
        click.echo(f"undone: {text}")
    if not answer.applied:
        click.echo("refused: the configuration before stays in force")
    elif answer.HasField("change"):
        change = answer.change
        click.echo(f"reloaded: epoch {change.epoch}, {change.moved_slots:,} slots moved")
    else:
        click.echo("reloaded: the view is as before")
