"""``hashroute proxy``: the sidecar."""

from __future__ import annotations

from pathlib import Path

import click

from hashroute.cli._common import epilog


@click.command(
    epilog=epilog(
        """
hashroute proxy --config hashroute.toml
hashroute proxy --config hashroute.toml --log-json --ready-file /run/hashroute.json
""",
        held="it was told to stop, and what was in flight had its time to finish",
        failed="a second signal cut that short",
        unknown="it could not start: the configuration has errors, or an address is in use",
    )
)
@click.option(
    "--config",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration; `hashroute check` explains what is wrong with one.",
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
def proxy(file: Path, ready_fd: int | None, ready_file: Path | None, *, log_json: bool) -> None:
    """Run the sidecar.

    It logs to standard error. SIGHUP reads the configuration again; SIGTERM and Ctrl-C stop it:
    it takes nothing new and finishes what is in flight, at most limits.shutdown_grace; a second
    one stops it at once.
    """
    from hashroute.logs import start_logging
    from hashroute.proxy import run

    start_logging(as_json=log_json)
    raise SystemExit(run(file, ready_fd=ready_fd, ready_file=ready_file))
