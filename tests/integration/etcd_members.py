"""A real etcd cluster of three members on loopback: Debian's `etcd-server`."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.integration.processes import Program
from tests.integration.quorum_desk import free_ports

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = 3


class Member(Program):
    """One member of etcd."""

    def __init__(self, words: list[str]) -> None:
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Etcd:
    """Three members; they elect a leader by themselves."""

    def __init__(self, directory: Path) -> None:
        ports = free_ports(2 * MEMBERS)
        self.endpoints = [f"127.0.0.1:{port}" for port in ports[:MEMBERS]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[MEMBERS:]]
        cluster = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers))
        self.members = [
            Member(
                ["etcd", "--name", f"e{number}", "--data-dir", str(directory / f"etcd-{number}"),
                 "--listen-client-urls", f"http://{self.endpoints[number]}",
                 "--advertise-client-urls", f"http://{self.endpoints[number]}",
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", cluster, "--initial-cluster-token", str(directory.name),
                 "--heartbeat-interval", "20", "--election-timeout", "200",
                 "--log-level", "error", "--logger", "zap"]
            )
            for number, peer in enumerate(peers)
        ]  # fmt: skip

    def close(self) -> None:
        for member in self.members:
            member.close()
