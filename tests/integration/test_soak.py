"""The single writer on real processes: each kind of fault once, under load, judged afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tests.soak.cluster import Engine, Guard

ENGINES = get_args(Engine)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("engine", "guard"),
    [(engine, guard) for engine in ENGINES for guard in get_args(Guard)],
)
def test_every_fault_leaves_one_writer_and_loses_nothing(engine: str, guard: str) -> None:
    words = ["-m", "tests.soak", "--each", "--seconds", "500"]
    words += ["--engine", engine, "--guard", guard]
    trial = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert trial.returncode == 0, trial.stdout + trial.stderr
    assert "\n0 violations\n" in trial.stdout
