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


ABOUT = {"engine": "etcd", "lease": "default", "priority": "realtime", "busy": 0, "round": 0}
KINDS = ("kill -9", "SIGSTOP", "cut off", "cut off, sends only")
MOVE = {
    "writes": 30,
    "longest_ms": 12.0,
    "refused": 0,
    "unknown": 1,
    "before_longest_ms": [8.0, 9.0, 30.0],
    "before_p50_ms": 2.0,
    "before_p99_ms": 7.5,
}
FAILOVER = {
    "facts": {"machine": "a test"},
    "command": "python -m benches.failover",
    "faults": [
        {**ABOUT, "kind": kind, "pod": "pod-a", "ms": ms}
        for kind in KINDS
        for ms in (300.0, 310.0, 400.4)
    ],
    "moves": [{**ABOUT, "pod": "pod-a", **MOVE}],
    "peer": [{"busy": 0, "round": 0, "ms": 1100.0, "ttl_seconds": 1}],
}


def test_the_time_to_a_new_writer_is_told_with_its_peer_and_its_moves(report, tmp_path):
    (tmp_path / "ring.json").unlink()
    (tmp_path / "failover.json").write_text(json.dumps(FAILOVER), encoding="utf-8")
    code, page = report("<!-- begin failover -->\n<!-- end failover -->\n")
    assert code == 0
    times = " | ".join(["310 / 400 / 400"] * len(KINDS))
    assert f"| etcd | default | realtime | 0 | {times} | 3 |" in page
    assert "| 0 | etcd's lease of 1 s | 1100 / 1100 / 1100 | 1 |" in page
    assert "| 0 | hashroute on the same etcd | 310 / 400 / 400 | 3 |" in page
    seen = "12.0 / 12.0 / 12.0 | 9.0 / 30.0 / 30.0 | 2.0 / 7.5 | 0 / 1 of 30 | 1"
    assert f"| etcd | default | realtime | 0 | {seen} |" in page
