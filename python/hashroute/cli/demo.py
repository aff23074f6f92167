"""``hashroute demo``: pods die, freeze, leave and join under real traffic, and nothing fails."""

from __future__ import annotations

from pathlib import Path

import click

DURATION_SECONDS = 28.0
RATE = 400.0


@click.command(
    epilog="""\b
Examples:
  hashroute demo
  hashroute demo --duration 60 --rate 1000
  hashroute demo --json --no-open > demo.json

Exit codes: 0 every promise held, 1 one did not (it says which), 2 the demo could not run.
"""
)
@click.option(
    "--duration",
    "duration_seconds",
    default=DURATION_SECONDS,
    show_default=True,
    type=click.FloatRange(12.0, 600.0),
    help="Seconds for which requests are sent.",
)
@click.option(
    "--rate",
    default=RATE,
    show_default=True,
    type=click.FloatRange(20.0, 5000.0),
    help="Requests a second, over both transports together.",
)
@click.option(
    "--report",
    default=Path("demo-report"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the report, the logs and the configuration used.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON, and nothing else.")
@click.option("--no-open", is_flag=True, help="Do not open the report in a browser.")
@click.pass_context
def demo(  # noqa: PLR0917  # click passes them by name
    context: click.Context,
    duration_seconds: float,
    rate: float,
    report: Path,
    as_json: bool,  # noqa: FBT001  # click names its arguments
    no_open: bool,  # noqa: FBT001  # click names its arguments
) -> None:
    """Show what hashroute does when pods drop, on real processes and real symbols.

    Starts five feature pods in two racks, a sidecar and two model servers on this machine. While
    requests run it kills a pod, freezes another, brings both back, drains one and adds one; then
    it says what each of that cost and whether the promises held, and writes a report.
    """
    # What the demo needs is loaded only when it runs, so that --help stays quick.
    from hashroute.demo.run import Options, run

    options = Options(
        duration_seconds=duration_seconds,
        rate=rate,
        report=report,
        as_json=as_json,
        opens=not no_open and not as_json,
    )
    context.exit(run(options))
