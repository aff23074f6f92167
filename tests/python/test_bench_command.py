"""`hashroute bench`: one real run, and the exit codes over measurements made up."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from click.testing import CliRunner, Result
from hashroute.bench import (
    CONTENDERS,
    Measurement,
    Report,
    contenders_installed,
    machine_facts,
    measure,
)
from hashroute.bench.report import OPERATIONS
from hashroute.cli import main

from benches.python import threads


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments], prog_name="hashroute")


def report_of(median_ns: float) -> Report:
    rounds = (median_ns * 0.99, median_ns, median_ns * 1.01)
    entry = Measurement("lookup", "hashroute owner", "1.0", False, 16, rounds)
    return Report(facts={}, measurements=(entry,))


@pytest.fixture
def measured_as(monkeypatch):
    def arrange(median_ns: float) -> None:
        command = importlib.import_module("hashroute.cli.bench")
        made_up = list(report_of(median_ns).measurements)
        monkeypatch.setattr(command, "measure", lambda *_arguments: made_up)

    return arrange


@pytest.fixture
def older(tmp_path):
    path = tmp_path / "older.json"
    path.write_text(report_of(100.0).to_json(), encoding="utf-8")
    return str(path)


def test_a_run_measures_every_operation_and_writes_both_files(tmp_path):
    json_path, html_path = tmp_path / "run.json", tmp_path / "run.html"
    result = run("--pods", "2", "--rounds", "1", "--json", str(json_path), "--html", str(html_path))
    assert result.exit_code == 0, result.output
    report = Report.from_json(json_path.read_text(encoding="utf-8"))
    assert {entry.operation for entry in report.measurements} == set(OPERATIONS)
    assert all(entry.median_ns > 0 for entry in report.measurements)
    assert html_path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "hashroute owner" in result.stdout


def test_json_on_standard_output_is_nothing_else(measured_as):
    measured_as(100.0)
    result = run("--json", "-")
    assert json.loads(result.stdout)["format"] == "hashroute-bench/1"


def test_a_comparison_with_another_machine_says_so(measured_as, tmp_path):
    measured_as(100.0)
    file = tmp_path / "older.json"
    facts = machine_facts() | {"machine": "something else", "commit": "also another"}
    file.write_text(Report(facts, report_of(100.0).measurements).to_json(), encoding="utf-8")
    result = run("--compare", str(file))
    assert result.exit_code == 0
    assert result.stderr.count("not alike") == 1
    assert "the older run had machine: something else" in result.stderr


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_file_that_cannot_be_written_is_known_before_anything_is_measured(
    option, tmp_path, monkeypatch
):
    command = importlib.import_module("hashroute.cli.bench")
    monkeypatch.setattr(command, "measure", lambda *_arguments: pytest.fail("it was measured"))
    file = tmp_path / "absent" / "run"
    result = run(option, str(file))
    assert result.exit_code == 2
    assert f"cannot write {file}: No such file or directory" in result.stderr


@pytest.mark.parametrize(
    ("median_ns", "options", "exit_code"),
    [
        (100.0, (), 0),
        (119.0, (), 0),
        (125.0, (), 1),
        (125.0, ("--tolerance", "30"), 0),
        (105.0, ("--tolerance", "0"), 1),
        (50.0, ("--tolerance", "0"), 0),
    ],
)
def test_compare_fails_beyond_the_tolerance(measured_as, older, median_ns, options, exit_code):
    measured_as(median_ns)
    result = run("--compare", older, *options)
    assert result.exit_code == exit_code, result.output
    assert ("slower: lookup, hashroute owner, 16 pods" in result.stderr) is (exit_code == 1)


def test_a_regression_is_still_written_down(measured_as, older, tmp_path):
    measured_as(300.0)
    html_path = tmp_path / "run.html"
    assert run("--compare", older, "--html", str(html_path)).exit_code == 1
    assert "3.00 slower" in html_path.read_text(encoding="utf-8")


@pytest.mark.parametrize("pods", ["", "0", "16,", "two", "65536"])
def test_sizes_that_no_ring_has_are_wrong_usage(pods):
    result = run("--pods", pods)
    assert result.exit_code == 2
    assert "give numbers from 1 to 65535" in result.stderr


def test_a_file_of_another_kind_is_refused_before_anything_is_measured(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"format": "something else"}', encoding="utf-8")
    result = run("--compare", str(path))
    assert result.exit_code == 2
    assert "hashroute bench --json" in result.stderr


def test_a_peer_that_is_not_installed_does_not_take_part(monkeypatch):
    monkeypatch.setattr(
        "hashroute.bench.contenders.CONTENDERS",
        [next(entry for entry in CONTENDERS if entry.distribution == "hashroute")],
    )
    assert [entry.name for entry in contenders_installed()] == ["hashroute owner"]
    assert {entry.contender for entry in measure([2], 1)} == {"hashroute owner"}


def test_the_bench_of_threads_times_every_way_alone_and_together(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(threads, "PASSES", 2)
    file = tmp_path / "threads.json"
    monkeypatch.setattr(sys, "argv", ["threads", "--rounds", "1", "--json", str(file)])
    threads.main()
    document = json.loads(file.read_text(encoding="utf-8"))
    shown = capsys.readouterr().out
    for way in threads.WAYS:
        assert way in shown
        timed = [entry for entry in document["scaling"] if entry["way"] == way]
        assert [entry["threads"] for entry in timed][:2] == [1, 2]
        assert all(entry["cpu_ns_a_call"][0] > 0 for entry in timed)
