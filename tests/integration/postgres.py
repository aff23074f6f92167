"""A PostgreSQL server for one test, if the machine has the programs (Debian: `postgresql`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.integration.processes import SECONDS_MAX, Program, until

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
IS_INSTALLED = bool(SERVERS) and shutil.which("psql") is not None
# The server refuses to run as root.
USER = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}


class Postgres(Program):
    """Listens on a socket in a directory of its own; ends with its block."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        if USER:
            shutil.chown(directory, "postgres", "postgres")
        binaries = SERVERS[-1].parent
        subprocess.run(
            [
                binaries / "initdb",
                "--no-sync",
                "--auth=trust",
                "--username=test",
                "-D",
                directory / "d",
            ],
            check=True,
            capture_output=True,
            timeout=SECONDS_MAX * 2,
            cwd=directory,
            **USER,
        )
        self.process = subprocess.Popen(
            [
                *(binaries / "postgres", "-D", directory / "d", "-k", directory),
                *("-c", "listen_addresses=", "-c", "fsync=off"),
            ],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **USER,
        )
        ready = [binaries / "pg_isready", "--host", directory]
        until(
            lambda: subprocess.run(ready, check=False, capture_output=True).returncode == 0,
            "the server takes connections",
        )

    def command(self, *arguments: str) -> list[str | Path]:
        """The command of a session with these arguments."""
        where = ("--host", self._directory.name, "--username", "test", "--dbname", "postgres")
        return ["psql", *where, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", *arguments]

    def run(self, statement: str) -> tuple[str, str]:
        """Runs a statement in a session of its own; returns what it printed, and its errors."""
        done = subprocess.run(
            self.command("--command", statement),
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        return done.stdout.strip(), done.stderr

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self._directory.cleanup()
