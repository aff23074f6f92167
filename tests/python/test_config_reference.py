"""The schema, the reference and the example that ship are those of the models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hashroute.config import check
from hashroute.config.models import Configuration
from pydantic import ValidationError

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "python/hashroute/config.schema.json").read_text())
EXAMPLES = sorted((ROOT / "examples").rglob("*.toml"))


def test_schema_and_references_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools/reference.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_schema_is_a_valid_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.name)
def test_examples_have_no_findings_and_fit_the_schema(file: Path) -> None:
    assert check(file)[1] == ()
    jsonschema.validate(tomllib.loads(file.read_text()), SCHEMA)


def test_every_example_in_the_documentation_is_a_configuration() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        Configuration.model_validate(tomllib.loads(block))
        jsonschema.validate(tomllib.loads(block), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "[ring]\nslots = 0",
        "[ring]\nsolts = 64",
        "[listen]\ngrpc = 'no port'",
        "[pods.'a b']",
        "[pods.a]\nweight = 0",
        "[pods.a]\nstate = 'gone'",
        "[[routes]]",
        "[[routes]]\nmatch = 'x'",
        "[[routes]]\nmatch = '/*'\nkey = ['header:x']",
        "[health]\ninterval = '50'",
        "[limits]\nheader_list_bytes = '64KB'",
        "[unknown]",
    ],
)
def test_the_schema_refuses_what_the_models_refuse(text: str) -> None:
    document = tomllib.loads(text)
    with pytest.raises(ValidationError):
        Configuration.model_validate(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_defaults_in_the_schema_are_the_defaults_of_the_models() -> None:
    defaults = {
        name: {key: one["default"] for key, one in table["properties"].items() if "default" in one}
        for name, table in SCHEMA["$defs"].items()
    }
    written = {
        section: defaults[f"{section.capitalize()}Section"]
        for section in ("ring", "listen", "zmq", "health", "load", "retry", "limits")
    }
    assert Configuration.model_validate(written) == Configuration()
