"""A stand-in for the native node of a voter that runs alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hashroute.config import load
from hashroute.voter import Voter

from tests.python.quorum_double import ADDRESSES, ClusterDouble

if TYPE_CHECKING:
    from pathlib import Path

WITNESS = f"""\
[pods.pod-a]
grpc = "127.0.0.1:1001"
[pods.pod-b]
grpc = "127.0.0.1:1002"
[quorum]
cluster = "desk-7"
voters = {json.dumps(ADDRESSES)}
listen = "{ADDRESSES[2]}"
data = "voter"
"""


class NodeDouble:
    """Answers as the native node does: the third voter of a cluster."""

    def __init__(self, settings_json: str) -> None:
        self.told: dict[str, Any] = json.loads(settings_json)
        self.cluster = ClusterDouble()
        self.stopped_with: float | None = None

    @property
    def address(self) -> str | None:
        return ADDRESSES[2]

    def snapshot(self) -> str:
        return json.dumps(self.cluster.snapshot(None, ADDRESSES[2]))

    def stop(self, grace_seconds: float) -> bool:
        self.stopped_with = grace_seconds
        return True


def voter_of(file: Path, text: str = WITNESS) -> tuple[Voter, NodeDouble]:
    """Returns a voter around a stand-in that was started with the configuration `text`."""
    file.write_text(text)
    doubles: list[NodeDouble] = []

    def start(settings_json: str) -> NodeDouble:
        doubles.append(NodeDouble(settings_json))
        return doubles[-1]

    voter = Voter(load(file), start)
    return voter, doubles[0]
