"""The processes of a run: started on one core, waited for, their CPU time read, ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_SECONDS_MAX = 15.0
STOP_SECONDS_MAX = 5.0


class BenchError(Exception):
    """The benchmark cannot run or cannot be trusted; the text says why and what to do."""


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, core: int, listens: str, directory: Path
) -> Iterator[int]:
    """Runs `command` pinned to `core`; yields its pid once it accepts connections on `listens`.

    It is ended on leaving. What it printed is in `directory`, and in the error if it did not start.
    """
    log = directory / f"{Path(command[0]).name}.log"
    pinned = ["taskset", "--cpu-list", str(core), *map(str, command)]
    with log.open("wb") as output:
        # Our pods end with their standard input, so they never outlive this process.
        process = subprocess.Popen(
            pinned, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=directory
        )
    try:
        _wait_until_it_listens(process, listens, log)
        yield process.pid
    finally:
        process.terminate()
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS_MAX)


def free_address() -> str:
    """Returns a loopback address that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that the threads of `pid` took so far, as the scheduler counts it."""
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end between the listing and the reading.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent_ns += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return spent_ns / 1e9


def resident_megabytes(pid: int) -> float:
    """Returns the memory of `pid` that is in RAM, in units of 10**6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kibibytes = next(line.split()[1] for line in status if line.startswith("VmRSS:"))
    return int(kibibytes) * 1024 / 1e6


def _wait_until_it_listens(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    printed = log.read_text(encoding="utf-8", errors="replace").strip()
    raise BenchError(f"{log.stem} does not listen on {address}; it printed: {printed}")
