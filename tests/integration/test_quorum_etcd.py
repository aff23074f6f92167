"""`hashroute quorum` where a real etcd holds the record: two pods, three members of etcd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import pytest

from tests.integration.etcd_desk import EtcdDesk
from tests.integration.processes import SECONDS_MAX, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[EtcdDesk]:
    desk = EtcdDesk(tmp_path)
    yield desk
    desk.close()


@pytest.mark.timeout(600)
def test_every_command_works_on_etcd(desk: EtcdDesk) -> None:
    desk.write_files()
    early = until(lambda: found_nothing(desk), "etcd is up")
    assert "not founded yet" in early
    desk.found()
    again = desk.quorum("init")
    assert again.returncode == 0, again.stderr
    assert "desk-7 is founded" in again.stdout

    text = desk.quorum("status").stdout
    assert "writable: every slot and group has a writer" in text
    assert "warning" not in text, text
    status = desk.status()
    assert (status["engine"], status["holds"], status["degraded"]) == ("etcd", True, [])
    assert [voter["process"] for voter in status["voters"]] == ["etcd"]
    assert sum(member["slots"] for member in status["members"]) == 65536
    members = desk.quorum("members")
    assert members.returncode == 0, members.stderr
    assert members.stdout.count("renewed") == 2, members.stdout
    assert desk.writers() == {"pod-a", "pod-b"}

    leader, term = desk.place("a")
    other = "pod-b" if leader == "pod-a" else "pod-a"
    moved = desk.quorum("move", "fix", other, "--json")
    assert moved.returncode == 0, moved.stderr
    epoch = json.loads(moved.stdout)["epoch"]
    assert epoch > term
    assert desk.place("b") == (other, epoch)
    stepped = desk.quorum("step-down", "fix")
    assert stepped.returncode == 0, stepped.stderr
    assert stepped.stdout.startswith(f"{leader} leads fix")
    drained = desk.quorum("drain", "pod-a")
    assert drained.returncode == 0, drained.stderr
    assert desk.writers() == {"pod-b"}
    assert "--undo" in desk.status()["degraded"][0]
    undone = desk.quorum("drain", "pod-a", "--undo")
    assert undone.returncode == 0, undone.stderr
    assert desk.writers() == {"pod-a", "pod-b"}
    added = desk.quorum("add-group", "risk", "pod-b", "pod-a")
    assert added.returncode == 0, added.stderr
    assert desk.control("a", "reweight", "pod-b", "2").returncode == 0


def found_nothing(desk: EtcdDesk) -> str | None:
    done = desk.quorum("status")
    return done.stdout if done.returncode == 1 else None


@pytest.mark.timeout(600)
def test_what_cannot_be_done_on_etcd_is_said_in_words(desk: EtcdDesk) -> None:
    desk.found()
    for words, because in (
        (("replace-voter", desk.etcd.endpoints[0], "127.0.0.1:1"), "etcdctl member"),
        (("drain", "pod-x"), "pod-x"),
        (("move", "fix", "pod-x"), "pod-x"),
        (("step-down", "nope"), "no group and no pod 'nope'"),
    ):
        done = desk.quorum(*words)
        assert done.returncode == 1, (words, done.stderr)
        assert because in done.stderr
    other = desk.text("a").replace('["pod-a", "pod-b"]', '["pod-b", "pod-a"]')
    desk.file("spare").write_text(other)
    refused = desk.quorum("init", name="spare")
    assert refused.returncode == 1, refused.stdout
    assert "founded with other settings" in refused.stderr
    voter = desk.run("voter", "--config", str(desk.file("b")))
    assert voter.returncode == 2
    assert "there is no witness to run" in voter.stderr


@pytest.mark.timeout(600)
def test_a_dead_member_of_etcd_is_passed_over_and_a_dead_pod_is_seen(desk: EtcdDesk) -> None:
    desk.found()
    desk.etcd.members[0].kill()
    until(lambda: desk.quorum("status").returncode == 0, "the others of etcd answer")
    until(lambda: desk.quorum("move", "fix", "pod-b").returncode == 0, "etcd has a leader again")
    assert desk.place("a")[0] == "pod-b"

    desk.hosts["a"].freeze()
    until(lambda: seen_down(desk), "the other pod has taken over")
    desk.hosts["b"].freeze()
    until(lambda: desk.quorum("status").returncode == 1, "nobody renews")
    assert "pod-b does not renew its lease in etcd" in desk.quorum("status").stdout
    done = desk.quorum("drain", "pod-b", "--timeout-seconds", "1")
    assert done.returncode == 2
    assert "no process of a pod took it up" in done.stderr
    desk.hosts["b"].thaw()
    until(lambda: desk.quorum("status").returncode == 0, "it renews again")
    assert desk.status()["members"][1]["state"] == "active", "what was withdrawn was not made"

    for member in desk.etcd.members[1:]:
        member.kill()
    done = desk.quorum("status", "--timeout-seconds", "1")
    assert done.returncode == 2
    assert desk.etcd.endpoints[2] in done.stderr, "each was asked"


@pytest.mark.timeout(600)
def test_what_an_operator_is_interrupted_in_is_withdrawn(desk: EtcdDesk) -> None:
    desk.found()
    for host in (desk.hosts["a"], desk.hosts["b"]):
        host.freeze()
    for number in (signal.SIGINT, signal.SIGTERM):
        drain = subprocess.Popen(
            [sys.executable, "-m", "hashroute", "quorum", "drain", "pod-b",
             "--timeout-seconds", "600"],
            env={**os.environ, "HASHROUTE_CONFIG": str(desk.file("a"))},
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        with drain:
            until(lambda: wishes(desk), "it is written down")
            drain.send_signal(number)
            _, said = drain.communicate(timeout=SECONDS_MAX)
        assert drain.returncode == 2, said
        assert "interrupted" in said
        assert "withdrawn: it is not made" in said
        assert wishes(desk) == []
    for host in (desk.hosts["a"], desk.hosts["b"]):
        host.thaw()
    until(lambda: desk.quorum("status").returncode == 0, "both write again")
    assert {it["state"] for it in desk.status()["members"]} == {"active"}


def wishes(desk: EtcdDesk) -> list[str]:
    """The keys under which operators have written down what they want."""
    first, end = (b64encode(f"/hashroute/desk-7/wishes{it}".encode()).decode() for it in "/0")
    body = json.dumps({"key": first, "range_end": end, "keys_only": True}).encode()
    request = urllib.request.Request(f"http://{desk.etcd.endpoints[0]}/v3/kv/range", body)
    with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
        found = json.load(answer).get("kvs", [])
    return [b64decode(it["key"]).decode() for it in found]


def seen_down(desk: EtcdDesk) -> bool:
    done = desk.quorum("status", "--json")
    members = {it["pod"]: it["state"] for it in json.loads(done.stdout or "{}").get("members", [])}
    return done.returncode == 0 and members["pod-a"] == "down"
