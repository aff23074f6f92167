"""Builds and imports the extension in noop/: calls that do nothing, bound as `Ring.owner` is."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

CRATE = Path(__file__).parent / "noop"
ROOT = Path(__file__).parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "noop"
COMMAND = ("cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(TARGET))


@functools.cache
def noop_class() -> Any:
    """Returns the class `Noop`, whose methods `general` and `short` take a key and do nothing."""
    subprocess.run(COMMAND, cwd=CRATE, check=True, timeout=600)
    library = str(TARGET / "release" / "libhashroute_noop.so")
    loader = importlib.machinery.ExtensionFileLoader("hashroute_noop", library)
    spec = importlib.util.spec_from_file_location("hashroute_noop", library, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module.Noop
