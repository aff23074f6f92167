"""Writes what follows from the code: the schema and the reference of configurations and commands.

`python tools/reference.py` writes `python/hashroute/config.schema.json` and the parts of
`docs/configuration.md` and `docs/cli.md` between their markers; with `--check` it changes nothing
and exits 1 if one of them is stale. A test runs the check.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click
from hashroute.cli import COMMANDS
from hashroute.config import Configuration

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "python/hashroute/config.schema.json"
CONFIGURATION = ROOT / "docs/configuration.md"
COMMAND_LINE = ROOT / "docs/cli.md"
BEGIN = "<!-- begin: made by tools/reference.py -->\n"
END = "<!-- end: made by tools/reference.py -->\n"

# Table in the file -> heading. The order is that of the models.
HEADINGS = {
    "pods": "[pods.NAME]",
    "routes": "[[routes]]",
    "quorum.groups": "[quorum.groups.NAME]",
}


def main(arguments: list[str]) -> int:
    """Writes or checks the files and returns the exit code."""
    stale = [path for path, text in wanted().items() if not holds(path, text)]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `python tools/reference.py`")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def wanted() -> dict[Path, str]:
    """Returns each file's whole text as it should be."""
    return {
        SCHEMA: json.dumps(schema(), indent=2) + "\n",
        CONFIGURATION: between_markers(CONFIGURATION, keys()),
        COMMAND_LINE: between_markers(COMMAND_LINE, commands()),
    }


def between_markers(path: Path, text: str) -> str:
    """Returns the text of `path` with `text` between its markers."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{text}{END}{after}"


def holds(path: Path, text: str) -> bool:
    """Returns whether `path` exists with this text."""
    return path.exists() and path.read_text(encoding="utf-8") == text


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a configuration as TOML can express it."""
    document = Configuration.model_json_schema()
    for definition in document["$defs"].values():
        for entry in definition["properties"].values():
            without_null(entry)
            entry.pop("title", None)
            if "patternProperties" in entry:
                entry["additionalProperties"] = False
    for entry in document["properties"].values():
        without_null(entry)
        entry.pop("title", None)
        entry.pop("default", None)  # the keys inside have theirs
        if "patternProperties" in entry:
            entry["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hashroute:configuration:1",
        **document,
        "title": "hashroute configuration",
    }


def without_null(entry: dict[str, Any]) -> None:
    """Takes null out of a property: TOML has none, a key is left out instead."""
    if entry.get("default", "") is None:
        del entry["default"]
    choices = [choice for choice in entry.get("anyOf", []) if choice != {"type": "null"}]
    if "anyOf" in entry and len(choices) == 1:
        del entry["anyOf"]
        entry.update(choices[0])


def keys() -> str:
    """Returns a section for each table: what it is, then a row for each key."""
    document = schema()
    parts = [
        part
        for name, entry in document["properties"].items()
        for part in table(document, name, str(definition_name(entry)))
    ]
    return "".join(parts) + "\n"


def table(document: dict[str, Any], name: str, definition: str) -> list[str]:
    """Returns the section of one table, then those of the tables inside it."""
    section = document["$defs"][definition]
    parts = [f"\n## `{heading(name)}`\n\n{section['description']}\n"]
    parts += ["\n| key | value | default | why this default |\n|---|---|---|---|\n"]
    inner: list[str] = []
    for key, entry in section["properties"].items():
        below = definition_name(entry)
        path = f"{name}.{key}"
        parts.append(row(key, entry, heading(path) if below else None))
        inner += table(document, path, below) if below else []
    return parts + inner


def heading(name: str) -> str:
    """Returns a table as the file has it."""
    return HEADINGS.get(name, f"[{name}]")


def definition_name(entry: dict[str, Any]) -> str | None:
    """Returns the name of a table's definition, also inside a mapping, an array or a choice."""
    by_name = entry.get("patternProperties", {})
    choices = entry.get("anyOf", [])
    for inner in (entry, *by_name.values(), *choices, entry.get("items", {})):
        if "$ref" in inner:
            return str(inner["$ref"]).rpartition("/")[2]
    return None


def row(key: str, entry: dict[str, Any], below: str | None) -> str:
    """Returns the table row of one key; that of a table says under which heading its keys are."""
    default = f"`{json.dumps(entry['default'])}`" if "default" in entry else "none"
    because = entry.get("x-default-because", "none is needed" if below else "required")
    kind = f"A table: [see below](#{anchor(below)})." if below else kind_of(entry)
    meaning = f"{entry['description']} {kind}".replace("|", "\\|")
    return f"| `{key}` | {meaning} | {default} | {because} |\n"


def anchor(title: str) -> str:
    """Returns the anchor that a heading gets."""
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in "-_")


def kind_of(entry: dict[str, Any]) -> str:
    """Returns type and range in a few words."""
    if "enum" in entry:
        return "One of " + ", ".join(f'`"{choice}"`' for choice in entry["enum"]) + "."
    if "const" in entry:
        return f'Only `"{entry["const"]}"`.'
    if "x-range" in entry:
        least, most = entry["x-range"]
        kind = "Size" if "anyOf" in entry else "Duration"
        return f'{kind}, `"{least}"` to `"{most}"`.'
    if "minimum" in entry:
        kind = "Integer" if entry["type"] == "integer" else "Number"
        return f"{kind}, {plain(entry['minimum'])} to {plain(entry['maximum'])}."
    return {"boolean": "Boolean.", "array": "Array of strings."}.get(entry["type"], "String.")


def plain(number: float) -> str:
    """Returns a number without an exponent."""
    return f"{number:f}".rstrip("0").rstrip(".") if isinstance(number, float) else str(number)


def commands() -> str:
    """Returns a section for each command: what it does, its options, examples and exit codes."""
    parts: list[str] = []
    for name in COMMANDS:
        command: click.Command = getattr(importlib.import_module(f"hashroute.cli.{name}"), name)
        parts += command_section(f"hashroute {name}", command)
    return "".join(parts) + "\n"


def command_section(path: str, command: click.Command) -> list[str]:
    """Returns the section of one command, then those of the commands inside it."""
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"\n## `{path}`\n", f"\n```\n{path} {usage}\n```\n"]
    parts.append(f"\n{prose(command.help or '')}\n")
    rows = [option_row(one) for one in command.params if isinstance(one, click.Option)]
    if rows:
        parts += ["\n| option | meaning | default |\n|---|---|---|\n", *rows]
    parts.append(f"\n```\n{literal(command.epilog or '')}\n```\n")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                parts += command_section(f"{path} {name}", inner)
    return parts


def prose(text: str) -> str:
    """Returns the help of a command without its indentation and marks."""
    return "\n".join(line.strip() for line in text.replace("\b", "").strip().splitlines())


def literal(text: str) -> str:
    """Returns examples and exit codes as the terminal shows them."""
    return text.replace("\b\n", "").strip()


def option_row(option: click.Option) -> str:
    """Returns the table row of one option."""
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if not option.is_flag:
        names = f"{names} {option.make_metavar(click.Context(click.Command('x')))}"
    environment = f" Or `{option.envvar}` in the environment." if option.envvar else ""
    has_default = not option.is_flag and isinstance(option.default, str | int | float)
    default = f"`{option.default}`" if has_default else ""
    required = "required" if option.required else default
    meaning = f"{option.help}{environment}".replace("|", "\\|")
    return f"| {names.replace('|', chr(92) + '|')} | {meaning} | {required} |\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
