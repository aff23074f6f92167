"""Puts the facts of the machine and the command into pytest-benchmark's JSON."""

from __future__ import annotations

from typing import Any

from hashroute.bench import machine_facts

COMMAND = (
    "pytest benches/python --benchmark-enable --benchmark-disable-gc"
    " --benchmark-timer=time.process_time --benchmark-max-time=0.2"
    " --benchmark-json=bench-report/python.json"
)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Adds what `benches/report.py` prints beside the figures."""
    output_json["facts"] = machine_facts()
    output_json["command"] = COMMAND
