"""`hashroute quorum` and `hashroute voter` on real processes: two pods and a witness."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import SECONDS_MAX, until
from tests.integration.quorum_desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = [f"key-{number}" for number in range(12)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def founded(desk: Desk) -> Desk:
    desk.found()
    return desk


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=SECONDS_MAX) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_cluster_is_founded_once_and_its_pods_join(desk: Desk) -> None:
    desk.write_files()
    desk.start("witness")
    assert desk.quorum("status").returncode == 1
    assert "not founded yet" in desk.quorum("status").stdout
    early = desk.quorum("init")
    assert early.returncode == 2, "two voters do not run yet"
    assert desk.voter("a") in early.stderr
    desk.start("a", "b")
    assert get(desk.hosts["a"].addresses["admin"], "/readyz")[0] == 503
    first = desk.quorum("init", "--json")
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    assert [voter["address"] for voter in record["voters"]] == [
        desk.voter(name) for name in ("a", "b", "witness")
    ]
    until(lambda: desk.quorum("status").returncode == 0, "both pods have joined")
    again = json.loads(desk.quorum("init", "--json").stdout)
    assert again["cluster_id"] == record["cluster_id"]
    other = desk.text("a").replace('["pod-a", "pod-b"]', '["pod-b", "pod-a"]')
    desk.file("a").write_text(other)
    refused = desk.quorum("init")
    assert refused.returncode == 1, refused.stdout + refused.stderr

    status = desk.status()
    assert status["reasons"] == []
    by_pod = {member["pod"]: member for member in status["members"]}
    assert sum(member["slots"] for member in by_pod.values()) == 65536
    assert all(member["slots"] > 0 for member in by_pod.values())
    assert all(member["holds_lease"] for member in by_pod.values())
    assert all(member["attends"] == 3 for member in by_pod.values())
    assert all(member["since"] for member in by_pod.values())
    assert all(voter["sync_p50_ms"] is not None for voter in status["voters"])
    assert status["recovery_promise_ms"] > 0
    assert get(desk.hosts["a"].addresses["admin"], "/readyz")[0] == 200


def test_writes_go_to_one_writer_whichever_router_is_asked(founded: Desk) -> None:
    for key in KEYS:
        assert founded.place("a", key) == founded.place("b", key)
    assert {founded.place("a", key)[0] for key in KEYS} == {"pod-a", "pod-b"}
    assert founded.place("a") == founded.place("b")


def test_groups_move_and_pods_drain_without_a_refused_write(founded: Desk) -> None:
    leader, term = founded.place("a")
    other = "pod-b" if leader == "pod-a" else "pod-a"
    moved = founded.quorum("move", "fix", other, "--json")
    assert moved.returncode == 0, moved.stderr
    epoch = json.loads(moved.stdout)["epoch"]
    assert founded.place("a") == (other, epoch)
    assert epoch > term
    stepped = founded.quorum("step-down", other)
    assert stepped.returncode == 0, stepped.stderr
    assert stepped.stdout.startswith(f"{leader} leads fix")
    assert founded.place("b")[0] == leader

    drained = founded.quorum("drain", "pod-a")
    assert drained.returncode == 0, drained.stderr
    assert {founded.place("a", key)[0] for key in KEYS} == {"pod-b"}
    assert founded.place("a")[0] == "pod-b"
    status = founded.status()
    by_pod = {member["pod"]: member for member in status["members"]}
    assert (by_pod["pod-a"]["state"], by_pod["pod-a"]["slots"]) == ("draining", 0)
    assert [group["leader"] for group in status["groups"]] == ["pod-b"]
    assert founded.quorum("move", "fix", "pod-x").returncode == 1
    assert founded.quorum("drain", "pod-x").returncode == 1

    founded.hosts["a"].terminate()
    assert founded.hosts["a"].exit_code() == 0
    founded.start("a")
    until(lambda: founded.place("b", KEYS[0]) and pods_that_write(founded) == 2, "it joined again")


def test_a_drain_is_undone_and_the_pod_writes_again_under_new_terms(founded: Desk) -> None:
    before = {key: founded.place("b", key) for key in KEYS}
    mine = [key for key, (pod, _) in before.items() if pod == "pod-a"]
    assert founded.quorum("drain", "pod-a").returncode == 0
    assert {founded.place("a", key)[0] for key in mine} == {"pod-b"}
    undone = founded.quorum("drain", "pod-a", "--undo", "--json")
    assert undone.returncode == 0, undone.stderr
    epoch = json.loads(undone.stdout)["epoch"]
    assert {founded.place("b", key) for key in mine} == {("pod-a", epoch)}, "its own share again"
    assert founded.status()["reasons"] == []

    # The same by the control API of the other pod's sidecar.
    assert founded.control("b", "drain", "pod-a").returncode == 0
    assert pods_that_write(founded) == 1
    undone = founded.control("b", "drain", "--undo", "pod-a")
    assert undone.returncode == 0, undone.stderr
    assert "pod-a is active again" in undone.stdout
    assert pods_that_write(founded) == 2
    assert {founded.place("b", key)[0] for key in mine} == {"pod-a"}

    # Of a pod that is gone there is nothing to undo: its next process joins as active.
    assert founded.quorum("drain", "pod-a").returncode == 0
    founded.hosts["a"].kill()
    down = until(lambda: pod_is_down(founded), "the others have noticed")
    assert down
    refused = founded.quorum("drain", "pod-a", "--undo", name="b")
    assert refused.returncode == 1, refused.stdout
    assert "pod-a" in refused.stderr


def pod_is_down(desk: Desk) -> bool:
    status = json.loads(desk.quorum("status", "--json", name="b").stdout)
    return any(it["pod"] == "pod-a" and it["state"] == "down" for it in status["members"])


def pods_that_write(desk: Desk) -> int:
    return sum(member["slots"] > 0 for member in desk.status()["members"])


def test_a_dead_writer_is_replaced_and_comes_back_under_a_new_term(founded: Desk) -> None:
    key = next(key for key in KEYS if founded.place("b", key)[0] == "pod-a")
    _, term = founded.place("b", key)
    founded.hosts["a"].kill()
    pod, later = founded.place("b", key)
    assert (pod, later > term) == ("pod-b", True)
    status = founded.quorum("status", name="b")
    assert status.returncode == 0, "two of three voters are a majority"
    assert "refused" in status.stdout, "the voter beside it does not answer"
    founded.start("a")
    until(lambda: pods_that_write(founded) == 2, "it joined again")
    pod, last = founded.place("b", key)
    assert (pod, last > later) == ("pod-a", True)
    log = founded.hosts["b"].printed()
    assert "writer gone pod=pod-a" in log
    assert "INFO    lease held pod=pod-b" in log


def test_a_lost_voter_is_replaced_while_writes_go_on(founded: Desk) -> None:
    founded.hosts["witness"].kill()
    founded.start("spare")
    before = founded.status()
    old, new = founded.voter("witness"), founded.voter("spare")
    assert [voter["answers"] for voter in before["voters"]] == [True, True, False]
    replaced = founded.quorum("replace-voter", old, new)
    assert replaced.returncode == 0, replaced.stderr
    after = founded.status()
    named = {voter["address"] for voter in after["voters"] if voter["is_voter"]}
    assert named == {founded.voter("a"), founded.voter("b"), new}
    until(lambda: get(founded.hosts["spare"].addresses["admin"], "/readyz")[0] == 200, "it votes")
    founded.start("witness")
    answer = until(lambda: not_named(founded), "the old one learns that it is out")
    assert "hashroute quorum replace-voter" in answer
    assert founded.place("a", KEYS[0]) == founded.place("b", KEYS[0])
    assert founded.quorum("replace-voter", "127.0.0.1:1", new).returncode == 1
    assert founded.quorum("replace-voter", new, "127.0.0.1:1").returncode == 2


def not_named(desk: Desk) -> str | None:
    status, text = get(desk.hosts["witness"].addresses["admin"], "/readyz")
    return text if status == 503 and "does not name this voter" in text else None


def test_without_a_majority_nothing_is_written_and_the_commands_say_so(founded: Desk) -> None:
    founded.hosts["witness"].kill()
    founded.hosts["b"].kill()
    until(lambda: founded.quorum("status").returncode == 1, "the lease has ended")
    text = founded.quorum("status").stdout
    assert "1 of 3 voters answer, and a majority is 2" in text
    admin = founded.hosts["a"].addresses["admin"]
    until(lambda: get(admin, "/readyz")[0] == 503, "it is not ready for writes")
    assert founded.quorum("drain", "pod-a", "--timeout-seconds", "2").returncode in {1, 2}
    founded.hosts["a"].kill()
    assert founded.quorum("status").returncode == 2


def test_the_commands_of_a_sidecar_change_the_record_for_all(founded: Desk) -> None:
    assert founded.control("a", "reweight", "pod-a", "3").returncode == 0
    until(lambda: weight_of(founded, "b", "pod-a") == 3, "the other sidecar has heard of it")
    assert founded.control("b", "add", "pod-c", "--grpc", "127.0.0.1:1").returncode == 1
    reload = founded.control("a", "reload")
    assert reload.returncode == 0, reload.stdout
    assert "pods.pod-a.weight: the quorum's record counts" in reload.stdout
    assert "`hashroute reweight pod-a 1`" in reload.stdout
    text = founded.control("b", "status").stdout
    assert "quorum desk-7  epoch" in text
    assert "3 of 3 voters connected  pod-b holds its lease" in text
    node = json.loads(founded.control("b", "status", "--json").stdout)["quorum"]
    assert node["member"]["pod"] == "pod-b"
    founded.hosts["a"].kill()
    founded.start("a")
    until(lambda: pods_that_write(founded) == 2, "it joined again")
    assert weight_of(founded, "b", "pod-a") == 3, "its file does not undo what was agreed"


def weight_of(desk: Desk, name: str, pod: str) -> float:
    view = json.loads(desk.control(name, "view", "--json").stdout)
    return next(it["weight"] for it in view["pods"] if it["id"] == pod)


def test_a_witness_shows_its_figures_and_stops_in_good_order(founded: Desk) -> None:
    witness = founded.hosts["witness"]
    admin = witness.addresses["admin"]
    assert get(admin, "/readyz")[0] == 200
    metrics = get(admin, "/metrics")[1]
    assert 'hashroute_voter_sync_seconds{quantile="0.99"}' in metrics
    assert "hashroute_voter_is_voter 1.0" in metrics
    member = get(founded.hosts["a"].addresses["admin"], "/metrics")[1]
    assert "hashroute_lease_held 1.0" in member
    witness.process.send_signal(signal.SIGHUP)
    until(lambda: "not reloaded" in witness.printed(), "it says that there is nothing to reload")
    second = founded.run("voter", "--config", str(founded.file("witness")))
    assert second.returncode == 2
    assert "not started" in second.stderr
    witness.terminate()
    assert witness.exit_code() == 0
    assert "stopped" in witness.printed()
    founded.start("witness")
    admin = founded.hosts["witness"].addresses["admin"]
    until(lambda: get(admin, "/readyz")[0] == 200, "it votes again, by what its disk says")


def test_a_sidecar_does_not_take_the_file_of_a_witness(desk: Desk) -> None:
    desk.write_files()
    done = desk.run("proxy", "--config", str(desk.file("witness")))
    assert done.returncode == 2
    assert "hashroute voter" in done.stderr
    done = desk.run("voter", "--config", str(desk.file("a")))
    assert done.returncode == 2
    assert "hashroute proxy" in done.stderr


def test_a_member_that_guards_nothing_does_not_start(desk: Desk) -> None:
    text = desk.text("a")
    desk.write_files(a=text.replace("[guard]", "[unread]").partition("[unread]")[0])
    done = desk.run("proxy", "--config", str(desk.file("a")))
    assert done.returncode == 2
    assert "this sidecar would hold the lease of pod-a" in done.stderr
