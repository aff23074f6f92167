"""The guides are true: their Python, their configurations and their commands are run here.

The blocks of a page run in order. Commands meet a stand-in for a sidecar, behind a real control
API, that has the page's configuration.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hashroute.cli import main
from hashroute.control_service import ControlServer

from tests.python.sidecar_double import controller_of

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guide"
PAGES = sorted(path.name for path in GUIDES.glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Its commands start real processes: `tests/integration/test_guide_single_writer.py` runs them.
RUN_ELSEWHERE = {"single-writer.md"}
LINK = re.compile(r"\]\(([^)#:]+)[^):]*\)")


def blocks(page: str, language: str) -> list[str]:
    text = (GUIDES / page).read_text(encoding="utf-8")
    found = BLOCK.findall(text)
    assert {kind for kind, _ in found} <= {"python", "toml", "console"}, "nobody would run it"
    return [body for kind, body in found if kind == language]


def run(command: str) -> str:
    program, *arguments = shlex.split(command.removeprefix("$ "))
    assert (command[:2], program) == ("$ ", "hashroute"), f"nobody would run {command!r}"
    result = CliRunner().invoke(main, arguments, prog_name="hashroute")
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.output


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_guide_runs(page: str) -> None:
    namespace: dict[str, object] = {"__name__": page}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)  # noqa: S102 - our own documentation


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "console") and page not in RUN_ELSEWHERE]
)
def test_the_commands_of_a_guide_do_what_they_should(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (configuration,) = blocks(page, "toml")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hashroute.toml"
    file.write_text(configuration, encoding="utf-8")
    assert run("$ hashroute check --strict hashroute.toml").endswith("0 errors, 0 warnings\n")
    controller, _ = controller_of(file, configuration)
    server = ControlServer(controller, "127.0.0.1:0")
    monkeypatch.setenv("HASHROUTE_CONTROL", server.address)
    try:
        for block in blocks(page, "console"):
            for command in block.splitlines():
                run(command)
    finally:
        server.stop()


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_guide_lead_somewhere(page: str) -> None:
    targets = LINK.findall((GUIDES / page).read_text(encoding="utf-8"))
    assert [target for target in targets if not (GUIDES / target).exists()] == []


def test_the_index_names_every_guide() -> None:
    index = (GUIDES / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in index] == []
