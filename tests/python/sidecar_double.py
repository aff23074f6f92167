"""A stand-in for the native sidecar: it remembers what it was told and shows what it is given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hashroute import Ring
from hashroute.control import Controller
from hashroute.errors import SettingError

from tests.python.quorum_double import ClusterDouble

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = """\
[listen]
grpc = "127.0.0.1:0"
zmq = "tcp://127.0.0.1:0"
[pods.pod-a]
grpc = "127.0.0.1:1001"
zmq = "tcp://127.0.0.1:2001"
[pods.pod-b]
grpc = "127.0.0.1:1002"
zmq = "tcp://127.0.0.1:2002"
[pods.pod-c]
grpc = "127.0.0.1:1003"
zmq = "tcp://127.0.0.1:2003"
zone = "rack-2"
"""


QUORUM = """\
[quorum]
cluster = "desk-7"
voters = ["127.0.0.1:9010", "127.0.0.1:9011", "127.0.0.1:9012"]
pod = "pod-a"
[quorum.groups.fix]
candidates = ["pod-a", "pod-b", "pod-c"]
"""


class SidecarDouble:
    """Answers as the native sidecar does, without a socket."""

    def __init__(self, settings_json: str) -> None:
        self.told = [json.loads(settings_json)]
        self.health: dict[tuple[str, str], str] = {}
        self.loop_age_ms = {"grpc": 1, "zmq": 2, "probe": 3}
        self.in_flight: dict[str, int] = {}
        self.refuses: str | None = None
        self.stopped_with: float | None = None
        node = self.told[0]["quorum"]
        pods = [pod["id"] for pod in self.told[0]["view"]["pods"]]
        self.cluster = None if node is None else ClusterDouble(*pods)
        self.member = None if node is None else node["pod"]

    def addresses(self) -> dict[Any, str | None]:
        return {"grpc": "127.0.0.1:9000", "zmq": "tcp://127.0.0.1:9001", "quorum": None}

    def apply(self, settings_json: str) -> None:
        if self.refuses is not None:
            raise SettingError(self.refuses)
        self.told.append(json.loads(settings_json))

    def stop(self, grace_seconds: float) -> bool:
        self.stopped_with = grace_seconds
        return True

    def change(self, change_json: str, patience_seconds: float) -> int:
        assert patience_seconds > 0
        return self.cluster.change(json.loads(change_json))

    def snapshot(self) -> str:
        record = self.cluster.record if self.cluster is not None else None
        view = self.told[-1]["view"] if record is None else record["view"]
        is_owned = record is None or record["digest"] is not None
        ring = Ring.from_json(json.dumps(view if is_owned else self.told[0]["view"]))
        return json.dumps(
            {
                "epoch": ring.epoch,
                "digest": ring.digest,
                "slots": ring.slots,
                "pods": [self._pod(pod, ring.shares()[pod.id], ring.slots) for pod in ring.pods],
                "totals": {
                    "requests": 7,
                    "by_status": [
                        {"transport": "grpc", "code": "OK", "count": 5},
                        {"transport": "zmq", "code": "UNAVAILABLE", "count": 2},
                    ],
                    "retries": 3,
                    "retry_budget_exhausted": 1,
                    "refused": 4,
                    "panics": 0,
                    "connections": {"grpc": 1, "zmq": 2},
                    "requests_in_flight": {"grpc": 6, "zmq": 0},
                },
                "latency": [
                    {
                        "transport": "grpc",
                        "buckets": [[0.001, 3], [0.01, 5]],
                        "sum": 0.025,
                        "count": 6,
                    }
                ],
                "loop_age_ms": self.loop_age_ms,
                "writes": {"repeated": 5, "given_up": 1, "refused": {"not-owner": 4}, "stale": 2},
                "guard": {
                    "admitted": 40,
                    "refused": {"not-owner": 3},
                    "passed": 8,
                    "turned_away": 1,
                    "by_status": [{"transport": "grpc", "code": "OK", "count": 48}],
                    "connections": {"grpc": 2},
                    "requests_in_flight": {"grpc": 1},
                },
                "quorum": None if self.cluster is None else self.cluster.snapshot(self.member),
            }
        )

    def _pod(self, pod: Any, share: float, slots: int) -> dict[str, Any]:
        served = {"grpc": pod.grpc, "zmq": pod.zmq}
        health = {
            transport: self.health.get((pod.id, transport), "up")
            for transport, address in served.items()
            if address is not None
        }
        return {
            "id": pod.id,
            "state": pod.state,
            "weight": pod.weight,
            "zone": pod.zone,
            "addresses": served,
            "health": "down" if "down" in health.values() else "up",
            "health_by_transport": health,
            "share": share,
            "slots": round(share * slots),
            "in_flight": {"grpc": self.in_flight.get(pod.id, 0), "zmq": 0},
            "requests": {"grpc": {"ok": 5, "error": 1}, "zmq": {"ok": 0, "error": 0}},
            "retries": 1,
            "spills": 2,
            "failovers": 3,
            "last_down_reason": "refused" if "down" in health.values() else "",
            "down_since_ms": 1500 if "down" in health.values() else None,
        }


def controller_of(file: Path, text: str = CONFIGURATION) -> tuple[Controller, SidecarDouble]:
    """Returns the control of a stand-in that was started with the configuration `text`."""
    from hashroute.config import load

    file.write_text(text)
    doubles: list[SidecarDouble] = []

    def start(settings_json: str) -> SidecarDouble:
        doubles.append(SidecarDouble(settings_json))
        return doubles[-1]

    controller = Controller(load(file), start)
    return controller, doubles[0]
