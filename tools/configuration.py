"""Writes what follows from the configuration models: the JSON Schema and the reference tables.

`python tools/configuration.py` writes `python/hashroute/config.schema.json` and the part of
`docs/configuration.md` between its markers; with `--check` it changes nothing and exits 1 if
either is stale. A test runs the check.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hashroute.config import Configuration

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "python/hashroute/config.schema.json"
REFERENCE = ROOT / "docs/configuration.md"
BEGIN = "<!-- begin: made by tools/configuration.py -->\n"
END = "<!-- end: made by tools/configuration.py -->\n"

# Table in the file -> heading. The order is that of the models.
HEADINGS = {"pods": "[pods.NAME]", "routes": "[[routes]]"}


def main(arguments: list[str]) -> int:
    """Writes or checks both files and returns the exit code."""
    stale = [path for path, text in wanted().items() if not holds(path, text)]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `python tools/configuration.py`")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def wanted() -> dict[Path, str]:
    """Returns each file's whole text as it should be."""
    around = REFERENCE.read_text(encoding="utf-8")
    before, _, rest = around.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        SCHEMA: json.dumps(schema(), indent=2) + "\n",
        REFERENCE: before + BEGIN + reference() + END + after,
    }


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
    for entry in document["properties"].values():
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


def reference() -> str:
    """Returns a section for each table: what it is, then a row for each key."""
    document = schema()
    parts: list[str] = []
    for name, entry in document["properties"].items():
        section = document["$defs"][definition_name(entry)]
        heading = HEADINGS.get(name, f"[{name}]")
        parts += [f"\n## `{heading}`\n\n{section['description']}\n"]
        parts += ["\n| key | value | default | why this default |\n|---|---|---|---|\n"]
        parts += [row(key, value) for key, value in section["properties"].items()]
    return "".join(parts) + "\n"


def definition_name(entry: dict[str, Any]) -> str:
    """Returns the name of the table's definition, also inside a mapping or an array."""
    by_name = entry.get("patternProperties", {})
    for inner in (entry, *by_name.values(), entry.get("items", {})):
        if "$ref" in inner:
            return str(inner["$ref"]).rpartition("/")[2]
    message = f"no definition in {entry}"
    raise ValueError(message)


def row(key: str, entry: dict[str, Any]) -> str:
    """Returns the table row of one key."""
    default = f"`{json.dumps(entry['default'])}`" if "default" in entry else "none"
    because = entry.get("x-default-because", "required")
    meaning = f"{entry['description']} {kind_of(entry)}".replace("|", "\\|")
    return f"| `{key}` | {meaning} | {default} | {because} |\n"


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
