"""``hashroute completion``: the script that completes commands in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from hashroute.cli._common import CouldNotRun, epilog

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=epilog(
        """
hashroute completion bash > ~/.local/share/bash-completion/completions/hashroute
hashroute completion zsh > ~/.zfunc/_hashroute
hashroute completion fish > ~/.config/fish/completions/hashroute.fish
""",
        held="the script is printed",
        failed="never",
        unknown="the shell is not one of these",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL."""
    kind = get_completion_class(shell)
    root = context.find_root()
    if kind is None:
        raise CouldNotRun(f"this version of click knows no completion for {shell}")
    click.echo(kind(root.command, {}, "hashroute", "_HASHROUTE_COMPLETE").source())
