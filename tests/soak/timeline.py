"""What one of our processes did, and when: which member of etcd it talked to, and its lease.

One line of JSON whenever something of it has changed: ``{"at", "etcd", "holds_lease", "epoch",
"is_stale"}``, the time by this machine's monotonic clock, as in the logs of the nemesis, of etcd's
leaders and of the clients. With ``--keep`` it stays beside those.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL_SECONDS = 0.01


def keep(snapshot: Callable[[], str], log: Path) -> None:
    """Writes the log from now on, on a thread of its own, until the process ends."""
    threading.Thread(target=_follow, args=(snapshot, log), daemon=True).start()


def _follow(snapshot: Callable[[], str], log: Path) -> None:
    before: dict[str, Any] = {}
    with log.open("a", buffering=1, encoding="utf-8") as stream:
        while True:
            found = _facts(json.loads(snapshot()))
            if found != before:
                stream.write(json.dumps({"at": time.monotonic(), **found}) + "\n")
                before = found
            time.sleep(POLL_SECONDS)  # poll


def _facts(snapshot: dict[str, Any]) -> dict[str, Any]:
    etcd = next(iter(snapshot["voters"]), {})
    member = snapshot["member"] or {}
    return {
        "etcd": etcd.get("address"),
        "holds_lease": member.get("holds_lease"),
        "epoch": snapshot["epoch"],
        "is_stale": snapshot["is_stale"],
    }
