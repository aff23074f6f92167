"""`benches/report.py` keeps the page of figures: new ones replace their own old ones alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.processes import SECONDS_MAX

ROOT = Path(__file__).parents[2]
RING = {
    "facts": {"machine": "a test"},
    "command": "python -m benches.ring",
    "benchmarks": [
        {
            "group": "owner",
            "function": "",
            "size": "16",
            "elements": 10,
            "median_ns": 30.0,
            "low_ns": 29.0,
            "high_ns": 31.0,
        }
    ],
}
PAGE = """before
<!-- begin ring -->
an older table
<!-- end ring -->
between
<!-- begin grpc -->
kept as it is
<!-- end grpc -->
"""


@pytest.fixture
def report(tmp_path):
    (tmp_path / "ring.json").write_text(json.dumps(RING), encoding="utf-8")
    page = tmp_path / "page.md"

    def run(text: str) -> tuple[int, str]:
        page.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "benches.report", "--figures", tmp_path, "--page", page],
            capture_output=True,
            check=False,
            cwd=ROOT,
            timeout=SECONDS_MAX,
        )
        return done.returncode, page.read_text(encoding="utf-8")

    return run


def test_new_figures_replace_their_own_table_alone(report):
    code, page = report(PAGE)
    assert code == 0
    assert "| owner / 16 | 3 ns | 2.9-3.1 |" in page
    assert "machine a test" in page
    assert "an older table" not in page
    assert page.startswith("before\n<!-- begin ring -->\n")
    assert page.endswith(PAGE.partition("<!-- end ring -->")[2])


def test_writing_twice_changes_nothing(report):
    _, once = report(PAGE)
    assert report(once) == (0, once)


def test_a_page_without_a_place_for_the_table_is_left_alone(report):
    assert report("no markers\n") == (2, "no markers\n")
