"""`hashroute bench` measures this machine, and compares a run with an older one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hashroute.bench import Comparison, Measurement, Report
from hashroute.errors import ConfigurationError

from tests.integration.processes import SECONDS_MAX

MEASURED = Measurement(
    operation="lookup",
    contender="hashroute owner",
    version="1.0",
    is_floor=False,
    pods=16,
    rounds_ns=(30.0, 20.0, 28.0),
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hashroute", "bench", "--pods", "2", "--rounds", "1", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS_MAX,
    )


def test_a_run_is_written_as_json_and_as_a_page_and_compared_with(tmp_path):
    older, page = tmp_path / "older.json", tmp_path / "bench.html"
    first = bench("--json", str(older), "--html", str(page))
    assert first.returncode == 0, first.stderr
    report = Report.from_json(older.read_bytes())
    assert {entry.operation for entry in report.measurements} == {
        "lookup",
        "batch",
        "build",
        "threads",
    }
    assert all(entry.median_ns > 0 for entry in report.measurements)
    html = page.read_text(encoding="utf-8")
    assert all(entry.contender in html for entry in report.measurements)
    assert not any(outside in html for outside in ("http:", "https:", "<script", "<link"))

    # However the machine wobbles: what is fast enough is not for a test to say.
    second = bench("--compare", str(older), "--tolerance", "1000")
    assert second.returncode == 0, second.stderr
    assert "Beside the older run" in second.stdout


def test_json_on_standard_output_is_alone_there():
    done = bench("--json", "-")
    assert json.loads(done.stdout)["format"] == "hashroute-bench/1"


def test_an_older_run_that_is_none_is_refused_before_anything_is_measured(tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"format": "something else"}', encoding="utf-8")
    done = bench("--compare", str(other))
    assert done.returncode == 2
    assert "other.json" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "null", b"\xff", '{"format": "hashroute-bench/1"}'])
def test_what_is_not_a_report_is_refused(text):
    with pytest.raises(ConfigurationError, match="give a file"):
        Report.from_json(text)


def test_a_report_survives_its_json():
    report = Report(facts={"date": "2026-11-23"}, measurements=(MEASURED,))
    assert Report.from_json(report.to_json()) == report


def test_runs_differ_beyond_noise_only_if_their_rounds_do_not_overlap():
    slower = replace(MEASURED, rounds_ns=(31.0, 40.0, 35.0))
    overlapping = replace(MEASURED, rounds_ns=(29.0, 40.0, 35.0))
    assert Comparison(MEASURED, slower).is_beyond_noise
    assert Comparison(MEASURED, slower).ratio == 35.0 / 28.0
    assert not Comparison(MEASURED, overlapping).is_beyond_noise
