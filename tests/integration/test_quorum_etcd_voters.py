"""`hashroute quorum` where etcd holds the record and three of our processes grant the leases."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.integration.etcd_desk import KEYS, VotingDesk
from tests.integration.processes import SECONDS_MAX, until
from tests.integration.quorum_desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VotingDesk]:
    desk = VotingDesk(tmp_path)
    yield desk
    desk.close()


@pytest.mark.timeout(600)
def test_every_command_works_where_voters_grant_the_leases(desk: VotingDesk) -> None:
    desk.found()
    text = desk.quorum("status").stdout
    assert "etcd, leases by voters" in text
    assert "writable: every slot and group has a writer" in text
    assert "degraded" not in text, text
    status = desk.status()
    assert (status["engine"], status["leases"], status["holds"]) == ("etcd", "voters", True)
    assert [it["process"] for it in status["voters"]] == ["pod-a", "pod-b", "witness"]
    assert all(it["attending"] == ["pod-a", "pod-b"] for it in status["voters"])
    assert all(it["holds_lease"] for it in status["members"])
    members = desk.quorum("members").stdout
    assert members.count("held") == 2, members
    assert "witness" in members

    leader, term = desk.place("a")
    other = "pod-b" if leader == "pod-a" else "pod-a"
    moved = desk.quorum("move", "fix", other, "--json")
    assert moved.returncode == 0, moved.stderr
    epoch = json.loads(moved.stdout)["epoch"]
    assert epoch > term
    assert desk.place("b") == (other, epoch)
    drained = desk.quorum("drain", "pod-a")
    assert drained.returncode == 0, drained.stderr
    assert desk.writers() == {"pod-b"}
    assert desk.quorum("drain", "pod-a", "--undo").returncode == 0
    assert desk.writers() == {"pod-a", "pod-b"}

    desk.start("spare")
    replaced = desk.quorum("replace-voter", desk.voter("witness"), desk.voter("spare"))
    assert replaced.returncode == 0, replaced.stderr
    until(lambda: desk.quorum("status").returncode == 0, "the new voter is heard")
    named = {it["address"] for it in desk.status()["voters"] if it["is_voter"]}
    assert named == {desk.voter(it) for it in ("a", "b", "spare")}
    desk.hosts["witness"].kill()
    desk.hosts["a"].freeze()
    until(lambda: is_down(desk, "pod-a"), "two of three voters replace a pod")


def is_down(desk: VotingDesk, pod: str) -> bool:
    """Whether others write what the pod wrote."""
    done = desk.quorum("status", "--json", name="b")
    members = {it["pod"]: it["state"] for it in json.loads(done.stdout or "{}").get("members", [])}
    return done.returncode == 0 and members[pod] == "down"


@pytest.mark.timeout(600)
def test_writes_go_on_while_etcd_does_not_answer(desk: VotingDesk) -> None:
    desk.found()
    places = {key: desk.place("a", key) for key in KEYS}
    for member in desk.etcd.members:
        member.freeze()
    said = until(lambda: degraded(desk), "it is said that etcd does not answer")
    assert "etcd does not answer: writes go on" in said
    assert {key: desk.place("a", key) for key in KEYS} == places
    assert [ready(desk, name) for name in ("a", "b", "witness")] == [HTTPStatus.OK] * 3
    for member in desk.etcd.members:
        member.thaw()
    until(lambda: desk.quorum("drain", "pod-a").returncode == 0, "etcd answers again")
    assert desk.writers() == {"pod-b"}


def ready(desk: VotingDesk, name: str) -> int:
    address = desk.hosts[name].addresses["admin"]
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=SECONDS_MAX) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def degraded(desk: VotingDesk) -> str | None:
    """What status says of etcd, if it says something; everything can be written all the time."""
    done = desk.quorum("status", "--timeout-seconds", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout if "degraded" in done.stdout else None


@pytest.mark.timeout(600)
def test_what_does_not_fit_is_said_in_words(desk: VotingDesk) -> None:
    desk.write_files()
    text = desk.text("witness")
    for name, changed, because in (
        ("spare", text.replace(desk.voter("a"), desk.voter("b"), 1), "stands in the list already"),
        ("spare", text.replace("data = ", "# data = "), "a directory for its disk"),
    ):
        desk.file(name).write_text(changed)
        done = desk.run("voter", "--config", str(desk.file(name)))
        assert done.returncode == 2, done.stderr
        assert because in done.stdout + done.stderr
    embedded = Desk.text(desk, "witness")
    desk.file("witness").write_text(embedded)
    desk.start("a", "b", "witness")
    refused = desk.quorum("init")
    assert refused.returncode == 1, refused.stdout
    assert "runs with engine" in refused.stderr
