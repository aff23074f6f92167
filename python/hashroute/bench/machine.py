"""The facts that a figure is worthless without: machine, versions, date and commit."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def machine_facts() -> dict[str, str]:
    """Returns what must stand beside a measurement made here and now, in the order to print it.

    The commit is that of the directory the process works in, with a ``+`` if tracked files differ
    from it, and "" outside a git repository.
    """
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": _interpreter(),
        "commit": _commit(),
    }


def _interpreter() -> str:
    name = f"{platform.python_implementation()} {platform.python_version()}"
    gil_is_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return name if gil_is_enabled() else f"{name}, free-threaded"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            capture_output=True,
            check=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()
