"""``hashroute view``: what a running sidecar routes by."""

from __future__ import annotations

import click

from hashroute.cli._common import (
    UNREACHED,
    control_option,
    epilog,
    json_option,
    print_json,
    table,
    view_at,
)


@click.command(
    epilog=epilog(
        """
hashroute view
hashroute view --json > view.json
""",
        held="the view is shown",
        failed="never",
        unknown=UNREACHED,
    )
)
@control_option
@json_option
def view(control: str, *, as_json: bool) -> None:
    """Show the view that a running sidecar routes by.

    With --json it is the form that Ring.from_json reads: equal views give equal owners everywhere.
    """
    now = view_at(control)
    if as_json:
        print_json(now)
        return
    click.echo(
        f"epoch {now['epoch']}  {now['slots']:,} slots  epsilon {now['epsilon']:g}  "
        f"seed {now['seed']}"
    )
    rows = [
        (
            pod["id"],
            pod["state"],
            f"{pod['weight']:g}",
            pod["zone"] or "",
            pod["addresses"]["grpc"] or "",
            pod["addresses"]["zmq"] or "",
        )
        for pod in now["pods"]
    ]
    click.echo(table(("pod", "state", "weight", "zone", "grpc", "zmq"), rows, right={2}))
