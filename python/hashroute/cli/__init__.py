"""The command line. Each command is a module of its own, imported when it is called.

Exit codes of every command: 0 what was asked for holds, 1 it does not, 2 it could not be found out.
"""

from __future__ import annotations

from typing import Final

import click

from hashroute._release import release
from hashroute.cli._lazy import LazyGroup

__all__ = ["main"]

# Name -> the line that `hashroute --help` shows, so that it imports no command.
COMMANDS: Final = {
    "proxy": "Run the sidecar.",
    "voter": "Run a witness: a voter without a pod.",
    "check": "Check a configuration file and show every error in it.",
    "route": "Show which pod owns a key.",
    "plan": "Show what a change of the pods would move.",
    "status": "Show the pods of a running sidecar.",
    "view": "Show the view that a running sidecar routes by.",
    "drain": "Let a pod finish what it has and give it nothing new.",
    "add": "Add a pod to a running sidecar.",
    "remove": "Remove a pod from a running sidecar.",
    "reweight": "Change how much a pod of a running sidecar owns.",
    "reload": "Make a running sidecar read its configuration again.",
    "quorum": "Found, watch and change a cluster with one writer.",
    "demo": "Watch pods die, freeze, leave and join under real traffic.",
    "bench": "Time the ring on this machine, beside its peers.",
    "completion": "Print the script that completes commands in a shell.",
}


@click.command(
    cls=LazyGroup,
    package="hashroute.cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  hashroute check hashroute.toml
  hashroute proxy --config hashroute.toml
  hashroute status --watch
  hashroute route --config hashroute.toml EUR/USD BTC/USD

\b
Exit codes:
  0  what was asked for holds
  1  it does not hold
  2  it could not be found out: wrong usage, no such file, no sidecar
""",
)
@click.version_option(release(), prog_name="hashroute")
def main() -> None:
    """Route requests to pods by key: the same key always goes to the same pod."""
