"""``hashroute voter``: the witness."""

from __future__ import annotations

from pathlib import Path

import click

from hashroute.cli._common import epilog


@click.command(
    epilog=epilog(
        """
hashroute voter --config witness.toml
hashroute voter --config witness.toml --log-json --ready-file /run/hashroute-voter.json
""",
        held="it was told to stop, and did in good order",
        failed="a second signal cut that short",
        unknown="it could not start: errors in the configuration, an address or a disk in use",
    )
)
@click.option(
    "--config",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration, with quorum.listen and quorum.data; it needs no [listen].",
)
@click.option(
    "--ready-fd",
    type=click.IntRange(0),
    help="Write the addresses as JSON to this file descriptor when all listen, and close it.",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the same to this file, which appears whole.",
)
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
def voter(file: Path, ready_fd: int | None, ready_file: Path | None, *, log_json: bool) -> None:
    """Run a witness: a voter without a pod.

    Two pods and a witness are enough for one writer at a time: the loss of any one of the three
    leaves a majority. A witness carries no requests; it needs a disk that keeps what it syncs, in
    quorum.data. With listen.admin it serves /livez, /readyz and /metrics there.

    It logs to standard error. SIGTERM and Ctrl-C stop it. It may be stopped and started at any
    time: its disk knows what it promised.
    """
    from hashroute.logs import start_logging
    from hashroute.voter import run

    start_logging(as_json=log_json)
    raise SystemExit(run(file, ready_fd=ready_fd, ready_file=ready_file))
