"""What happens is in the log once when it begins and once when it ends."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hashroute.errors import ClosedError
from hashroute.events import EventLog, HealthEvents, QuorumEvents

from tests.python.quorum_double import ClusterDouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Seen(logging.Handler):
    """Keeps what is logged as `event fact=value …`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = [f"{name}={value}" for name, value in record.facts.items()]  # type: ignore[attr-defined]
        self.lines.append(" ".join([record.levelname, record.getMessage(), *facts]))

    def taken(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def seen() -> Iterator[Seen]:
    log = logging.getLogger("hashroute.events")
    handler, level = Seen(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
def look(seen: Seen) -> Callable[[], list[str]]:
    """Looks at a cluster's member once more; returns what that wrote to the log."""
    events = QuorumEvents(lambda snapshot: snapshot["quorum"])

    def looked() -> list[str]:
        events.see({"quorum": looked.cluster.snapshot("pod-a", "127.0.0.1:9010")})
        return seen.taken()

    looked.cluster = ClusterDouble()  # type: ignore[attr-defined]
    looked.cluster.record["digest"] = "d"  # type: ignore[attr-defined]
    return looked


def test_records_writers_and_leaders_are_logged_when_they_change(look) -> None:
    assert look() == [
        "INFO record epoch=1 digest=d voters=3",
        "INFO writer pod=pod-a state=active process=0000000000000001 epoch=1",
        "INFO writer pod=pod-b state=active process=0000000000000002 epoch=1",
        "INFO leader group=fix leader=pod-a term=1",
        "INFO lease held pod=pod-a process=0000000000000001",
    ]
    assert look() == []
    look.cluster.change({"drain": {"pod": "pod-b"}})
    assert look()[1:] == ["INFO writer pod=pod-b state=draining process=0000000000000002 epoch=2"]
    look.cluster.change({"lead": {"group": "fix", "leader": "pod-b"}})
    assert look()[1:] == ["INFO leader group=fix leader=pod-b term=3"]
    look.cluster.change({"remove": {"pod": "pod-b"}})
    assert look()[1:] == [
        "INFO writer gone pod=pod-b state=removed process=0000000000000002 epoch=4"
    ]


def test_a_lost_lease_and_a_silent_quorum_are_logged_at_their_begin_and_end(look) -> None:
    look()
    look.cluster.without_lease.add("pod-a")
    look.cluster.is_stale = True
    begun = look()
    assert [line.split()[:3] for line in begun] == [
        ["WARNING", "stale", "epoch=1"],
        ["WARNING", "lease", "lost"],
    ]
    assert look() == []
    look.cluster.without_lease.clear()
    look.cluster.is_stale = False
    assert look() == [
        "INFO stale no more epoch=1",
        "INFO lease held pod=pod-a process=0000000000000001",
    ]


def test_a_warning_is_logged_once_although_its_figures_change(look) -> None:
    look()
    for milliseconds in (80, 81.5, 1200):
        look.cluster.warnings["127.0.0.1:9010"] = [f"the disk took {milliseconds} ms"]
        if milliseconds == 80:
            assert look() == ["WARNING trouble begins=the disk took 80 ms"]
        else:
            assert look() == []
    look.cluster.warnings["127.0.0.1:9010"] = ["the clock of pod-b drifts"]
    assert look() == [
        "WARNING trouble begins=the clock of pod-b drifts",
        "INFO trouble over was=the disk took 1200 ms",
    ]


def test_a_process_without_a_node_logs_nothing_of_a_quorum(seen: Seen) -> None:
    QuorumEvents(lambda snapshot: snapshot.get("quorum")).see({"pods": []})
    assert seen.taken() == []


def pod(health: str) -> dict[str, Any]:
    reason = "refused" if health == "down" else ""
    health_by_transport = {"grpc": health}
    return {"id": "a", "health_by_transport": health_by_transport, "last_down_reason": reason}


def test_a_pod_that_goes_down_and_comes_back_is_logged_twice(seen: Seen) -> None:
    events = HealthEvents()
    for health in ("up", "down", "down", "suspect", "up"):
        events.see({"pods": [pod(health)]})
    assert seen.taken() == [
        "WARNING pod down pod=a transport=grpc reason=refused",
        "INFO pod up pod=a transport=grpc",
    ]


def test_the_log_looks_until_there_is_nothing_to_see() -> None:
    looks, over = [], threading.Event()

    class Looks:
        def see(self, snapshot: dict[str, Any]) -> None:
            looks.append(snapshot)

    def look() -> dict[str, Any]:
        if len(looks) == 2:
            over.set()
            raise ClosedError("it stopped")
        return {"look": len(looks)}

    with EventLog(look, Looks()):
        assert over.wait(30)
    assert looks == [{"look": 0}, {"look": 1}]
