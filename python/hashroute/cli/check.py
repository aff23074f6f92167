"""``hashroute check``: every error of a configuration file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from hashroute.cli._common import CouldNotRun, epilog, json_option, print_json


@click.command(
    epilog=epilog(
        """
hashroute check hashroute.toml
hashroute check --strict --json hashroute.toml
hashroute check --schema > hashroute.schema.json
""",
        held="no errors (with --strict: no warnings either)",
        failed="errors, all of them shown",
        unknown="the file cannot be read",
    )
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Let warnings count as errors.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of configurations instead.")
@json_option
def check(file: Path | None, *, strict: bool, schema: bool, as_json: bool) -> None:
    """Check a configuration file and show every error in it.

    Each finding has its line and column, the key, what was expected, what is there, and what was
    probably meant. Errors keep the file from being used; warnings do not.
    """
    if schema:
        click.echo(files("hashroute").joinpath("config.schema.json").read_text("utf-8"), nl=False)
        return
    if file is None:
        raise click.UsageError("give the file to check, such as hashroute.toml")
    from hashroute import config

    try:
        _, findings = config.check(file)
    except config.ConfigurationFileError as error:
        raise CouldNotRun(str(error)) from error
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    holds = not errors and not (strict and warnings)
    if as_json:
        print_json(
            {
                "file": str(file),
                "holds": holds,
                "errors": errors,
                "warnings": warnings,
                "findings": [finding.to_dict() for finding in findings],
            }
        )
    else:
        for finding in findings:
            click.echo(finding.render(str(file)))
        click.echo(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")
    raise SystemExit(0 if holds else 1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
