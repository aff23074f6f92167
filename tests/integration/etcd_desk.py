"""The cluster of :mod:`quorum_desk` with its record in a real etcd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.integration.etcd_members import Etcd
from tests.integration.processes import until
from tests.integration.quorum_desk import Desk

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [f"key-{number}" for number in range(12)]


class EtcdDesk(Desk):
    """The cluster `desk-7`: two pods, and three members of etcd that grant the leases too."""

    PROCESSES = ("a", "b")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.etcd = Etcd(directory)

    def text(self, name: str) -> str:
        """The configuration of `a` or `b`; any other name is that of a process without a pod."""
        text = super().text(name if name in {"a", "b"} else "a")
        gone = ("voters = ", "listen = ", "data = ") + (() if name in {"a", "b"} else ("pod = ",))
        before, quorum, after = text.partition("[quorum]\n")
        table, rest = after.split("\n\n", 1)
        lines = [line for line in table.splitlines() if not line.startswith(gone)]
        table = "\n".join(lines)
        return self._on_etcd(f"{before}{quorum}{table}\n\n{rest}")

    def _on_etcd(self, text: str) -> str:
        endpoints = json.dumps(self.etcd.endpoints)
        text = text.replace("[quorum]\n", '[quorum]\nengine = "etcd"\n')
        return f"{text}\n[quorum.etcd]\nendpoints = {endpoints}\n"

    def found(self) -> None:
        self.write_files()
        self.start(*self.PROCESSES)
        until(lambda: self.quorum("init").returncode == 0, "etcd takes the first record")
        until(lambda: self.quorum("status").returncode == 0, "both pods have joined")

    def writers(self) -> set[str]:
        """The pods that write some of the keys."""
        return {self.place("a", key)[0] for key in KEYS}

    def close(self) -> None:
        super().close()
        self.etcd.close()


class VotingDesk(EtcdDesk):
    """The same with a witness; the three processes grant the leases."""

    PROCESSES = ("a", "b", "witness")

    def text(self, name: str) -> str:
        """The configuration of `a`, `b`, `witness` or `spare`."""
        return self._on_etcd(Desk.text(self, name))

    def close(self) -> None:
        for member in self.etcd.members:
            member.thaw()
        super().close()
