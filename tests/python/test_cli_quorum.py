"""`hashroute quorum` against a double: what the commands ask for, print, and how they exit."""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hashroute.cli import main
from hashroute.cli.quorum import COMMANDS, _operator
from hashroute.errors import ChangeRefusedError, DeadlineExceededError, UnavailableError

from tests.python.quorum_double import ADDRESSES, CLUSTER_ID, ClusterDouble, OperatorDouble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = f"""\
[pods.pod-a]
grpc = "127.0.0.1:50051"
[pods.pod-b]
grpc = "127.0.0.1:50052"
[quorum]
cluster = "desk-7"
voters = {json.dumps(ADDRESSES)}
listen = "127.0.0.1:9012"
data = "voter"
lease = "tight"
[quorum.groups.fix]
candidates = ["pod-a", "pod-b"]
"""
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")


class Desk:
    """A cluster, a file that names it, and the commands against it."""

    def __init__(self, file: Path) -> None:
        self.cluster = ClusterDouble()
        self.told: list[dict[str, Any]] = []
        self.file = file
        file.write_text(FILE)

    def operator(self, settings_json: str) -> OperatorDouble:
        self.told.append(json.loads(settings_json))
        return OperatorDouble(self.cluster, settings_json)

    def run(self, *arguments: str) -> Result:
        environment = {"HASHROUTE_CONFIG": str(self.file)}
        arguments = ("quorum", *arguments)
        return CliRunner().invoke(main, [*arguments], env=environment, prog_name="hashroute")

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(tmp_path / "hashroute.toml")
    monkeypatch.setattr(_operator, "native", desk.operator)
    return desk


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_exit_codes(desk: Desk, name: str) -> None:
    text = desk.run(name, "--help").stdout
    assert f"hashroute quorum {name}" in text.partition("Examples:")[2]
    assert [line.split()[0] for line in text.splitlines()[-3:]] == ["0", "1", "2"]


def test_status_shows_voters_writers_groups_and_holds(desk: Desk) -> None:
    result = desk.run("status")
    assert result.exit_code == 0
    parts = result.stdout.strip().split("\n\n")
    assert parts[0].startswith("desk-7  epoch 1  digest ")
    assert "lease 300 ms, renewed each 50 ms  a new writer within 480 ms  embedded" in parts[0]
    assert parts[0].splitlines()[1:] == ["writable: every slot and group has a writer"]
    voters = [line.split() for line in parts[1].splitlines()]
    assert voters[1] == [
        *(ADDRESSES[0], "pod-a", "ffffffff", "yes", "1"),
        *("0.4", "ms", "1.2", "ms", "pod-a,", "pod-b"),
    ]
    assert voters[3][:2] == [ADDRESSES[2], "witness"]
    writers = [line.split() for line in parts[2].splitlines()]
    assert writers[1][:3] == ["pod-a", "active", "32,838"]
    assert writers[1][-3:] == ["held", "240", "ms"]
    groups = parts[3].splitlines()
    assert groups[1].split()[:3] == ["fix", "pod-a", "1"]
    assert MOMENT.search(groups[1])
    assert groups[1].endswith("pod-a > pod-b")
    assert "Z, 90 s ago" in groups[1]
    assert parts[4] == "no router follows the record"


def test_status_for_scripts_says_who_writes_what_under_which_term_and_since_when(
    desk: Desk,
) -> None:
    desk.run("move", "fix", "pod-b")
    facts = desk.json("status")
    assert (facts["holds"], facts["reasons"], facts["epoch"]) == (True, [], 2)
    assert facts["groups"][0]["leader"] == "pod-b"
    assert (facts["groups"][0]["term"], facts["groups"][0]["since_ms"]) == (2, 500.0)
    by_pod = {member["pod"]: member for member in facts["members"]}
    assert by_pod["pod-a"]["slots"] + by_pod["pod-b"]["slots"] == 65536
    assert (by_pod["pod-a"]["term_max"], by_pod["pod-a"]["since_ms"]) == (1, 91_000.0)
    assert by_pod["pod-b"]["groups"] == ["fix"]
    assert by_pod["pod-a"]["holds_lease"] is True
    assert facts["recovery_promise_ms"] == 480.0
    assert [voter["is_voter"] for voter in facts["voters"]] == [True] * 3


def test_since_when_is_what_the_process_that_remembers_longest_says(desk: Desk) -> None:
    desk.run("move", "fix", "pod-b")
    told = desk.cluster.describe

    def restarted(address: str) -> dict[str, Any]:
        answer = told(address)
        if address != ADDRESSES[0]:  # the others know only the record that they began with
            answer["snapshot"]["installed"] = [{"epoch": 2, "ms_ago": 5.0}]
        return answer

    desk.cluster.describe = restarted
    facts = desk.json("status")
    assert facts["groups"][0]["since_ms"] == 500.0
    assert facts["members"][0]["since_ms"] == 91_000.0


@pytest.mark.parametrize(
    ("unreachable", "exit_code"), [(ADDRESSES[:1], 0), (ADDRESSES[1:], 1), (ADDRESSES, 2)]
)
def test_status_holds_while_a_majority_answers(
    desk: Desk, unreachable: tuple[str, ...], exit_code: int
) -> None:
    desk.cluster.unreachable.update(unreachable)
    result = desk.run("status")
    assert result.exit_code == exit_code
    if exit_code == 1:
        assert "not writable: 1 of 3 voters answer, and a majority is 2" in result.stdout
        assert f"Start {ADDRESSES[1]} and {ADDRESSES[2]} again" in result.stdout
    elif exit_code == 2:
        assert "no voter of desk-7 answers: 127.0.0.1:9010: connection refused" in result.stderr
    else:
        assert "connection refused" in result.stdout
        assert "degraded: 1 of 3 voters does not answer: one more lost and nobody" in result.stdout
        assert f"`hashroute quorum replace-voter {ADDRESSES[0]} NEW_ADDRESS`" in result.stdout


def test_status_does_not_hold_if_a_writer_has_no_lease_or_a_group_no_leader(desk: Desk) -> None:
    desk.cluster.without_lease.add("pod-b")
    (reason,) = desk.json("status", exit_code=1)["reasons"]
    assert reason.startswith("pod-b holds no lease, and writes nothing: see its log")
    desk.cluster.without_lease.clear()
    desk.cluster.record["groups"][0]["leader"] = None
    assert "fix has no leader" in desk.json("status", exit_code=1)["reasons"][0]
    desk.cluster.record = None
    assert "not founded yet" in desk.json("status", exit_code=1)["reasons"][0]


def test_a_member_without_a_voter_beside_it_counts_by_the_voters_it_talks_to(desk: Desk) -> None:
    del desk.cluster.members[ADDRESSES[1]]
    facts = desk.json("status")
    assert facts["members"][1]["holds_lease"] is None
    assert facts["members"][1]["attends"] == 3
    assert "not asked" in desk.run("status").stdout
    desk.cluster.unreachable.update(ADDRESSES[:1])
    assert desk.json("status")["members"][0]["attends"] == 2


def test_a_voter_whose_disk_was_lost_is_named_with_the_remedy(desk: Desk) -> None:
    desk.cluster.ids[ADDRESSES[2]] = "0" * 32
    result = desk.run("status")
    assert result.exit_code == 0, "two of three still answer"
    command = f"hashroute quorum replace-voter {ADDRESSES[2]} {ADDRESSES[2]}"
    assert command in result.stdout
    assert "has no vote: the record does not name it" in result.stdout


def test_voters_of_the_record_are_asked_although_the_file_does_not_know_them(desk: Desk) -> None:
    new = "127.0.0.1:9099"
    assert desk.json("replace-voter", ADDRESSES[2], new)["epoch"] == 2
    desk.cluster.unreachable.add(ADDRESSES[2])
    facts = desk.json("status")
    named = [voter["address"] for voter in facts["voters"] if voter["is_voter"]]
    assert named == [*ADDRESSES[:2], new]
    assert all(voter["answers"] for voter in facts["voters"] if voter["is_voter"])


def test_what_does_not_work_is_said_with_what_to_do_although_everybody_can_write(
    desk: Desk,
) -> None:
    desk.run("drain", "pod-b")
    assert desk.json("status")["degraded"] == [
        "pod-b drains: its restart ends that, or `hashroute quorum drain pod-b --undo`"
    ]
    assert desk.cluster.record is not None
    desk.cluster.record["view"]["pods"][1]["state"] = "down"
    result = desk.run("status")
    assert result.exit_code == 0
    assert "degraded: pod-b is down: others write what it wrote. Start it" in result.stdout
    assert result.stdout.index("degraded") < result.stdout.index(ADDRESSES[0]), "first of all"


def test_a_witness_is_shown_as_one_and_not_as_a_router(desk: Desk) -> None:
    desk.cluster.routers = {"rack-3:7": 1}
    assert "no router follows the record" in desk.run("status").stdout
    facts = desk.json("status")
    assert [voter["process"] for voter in facts["voters"]] == ["pod-a", "pod-b", "witness"]
    assert facts["routers"] == []
    last = desk.run("members").stdout.splitlines()[-1]
    assert last.split() == ["witness", "votes", "at", f"{ADDRESSES[2]},", "epoch", "1"]


def test_what_a_cluster_promises_is_the_worst_of_its_processes(desk: Desk) -> None:
    told = desk.cluster.describe

    def slow_witness(address: str) -> dict[str, Any]:
        answer = told(address)
        if address == ADDRESSES[2]:
            answer["snapshot"]["recovery_promise_ms"] = 900.0
        return answer

    desk.cluster.describe = slow_witness
    assert desk.json("status")["recovery_promise_ms"] == 900.0


def test_stale_routers_and_warnings_are_shown(desk: Desk) -> None:
    desk.cluster.routers = {"desk:17": 0, "desk:18": 1}
    desk.cluster.warnings[ADDRESSES[0]] = ["the disk took 80 ms: move quorum.data"]
    text = desk.run("status").stdout
    assert "2 routers follow the record, 1 stale: desk:17 (epoch 0)" in text
    assert "warning: 127.0.0.1:9010: the disk took 80 ms: move quorum.data" in text


def test_status_watch_goes_on_through_an_outage(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = [lambda: desk.cluster.unreachable.update(ADDRESSES)]
    events += [desk.cluster.unreachable.clear, None]
    module = import_module("hashroute.cli.quorum.status")

    def turn(_: float) -> None:
        event = events.pop(0)
        if event is None:
            raise KeyboardInterrupt
        event()

    monkeypatch.setattr(module.time, "sleep", turn)
    result = desk.run("status", "--watch", "--json")
    looks = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [look["holds"] for look in looks] == [True, False, True]
    assert "no voter of desk-7 answers" in looks[1]["reasons"][0]


def test_members_shows_leases_and_what_was_refused(desk: Desk) -> None:
    lines = [line.split() for line in desk.run("members").stdout.splitlines()]
    assert lines[1] == [
        *("pod-a", "active", "0000000000000001", "3", "held", "240", "ms", "1.8", "ms"),
        *("480", "ms", "40", "not-owner", "3"),
    ]
    assert [member["pod"] for member in desk.json("members")] == ["pod-a", "pod-b"]


def test_init_founds_what_the_file_describes_once(desk: Desk) -> None:
    desk.cluster.record = None
    record = desk.json("init")
    assert record["cluster_id"] == CLUSTER_ID
    assert record["lease"]["ttl_ms"] == 150
    assert record["groups"][0]["candidates"] == ["pod-a", "pod-b"]
    assert [pod["state"] for pod in record["view"]["pods"]] == ["down", "down"]
    assert desk.told[-1] == {
        "cluster": "desk-7",
        "voters": [*ADDRESSES],
        "tls": None,
        "timeout_ms": 5000,
    }
    again = desk.run("init")
    assert again.exit_code == 0
    assert f"desk-7 is founded: cluster id {CLUSTER_ID}" in again.stdout
    assert "no pod owns slots: no process of one has joined" in desk.run("status").stdout


def test_init_refuses_a_lease_that_a_voters_machine_cannot_keep(desk: Desk) -> None:
    desk.cluster.record = None
    desk.cluster.worst_lately_ms = 38.0
    result = desk.run("init")
    assert result.exit_code == 1
    assert "127.0.0.1:9010: the longest stall of the last ten minutes there was 38 ms" in (
        result.stderr
    )
    assert "only above 152 ms" in result.stderr
    assert desk.cluster.record is None
    desk.file.write_text(FILE.replace('lease = "tight"', 'lease = "tight"\nforce = true'))
    assert desk.run("init").exit_code == 0


def test_init_cannot_run_without_every_voter(desk: Desk) -> None:
    desk.cluster.unreachable.add(ADDRESSES[1])
    result = desk.run("init")
    assert result.exit_code == 2
    assert "127.0.0.1:9011 does not answer" in result.stderr


@pytest.mark.parametrize(
    ("command", "change", "text"),
    [
        (
            ("move", "fix", "pod-b"),
            {"lead": {"group": "fix", "leader": "pod-b"}},
            "pod-b leads fix (epoch 2)",
        ),
        (
            ("drain", "pod-a"),
            {"drain": {"pod": "pod-a"}},
            "pod-a writes nothing any more (epoch 2)",
        ),
        (
            ("drain", "pod-a", "--undo"),
            {"activate": {"pod": "pod-a"}},
            "pod-a is active again (epoch 2)",
        ),
        (
            ("step-down", "fix"),
            {"lead": {"group": "fix", "leader": None}},
            "pod-b leads fix (epoch 2)",
        ),
        (
            ("step-down", "pod-a"),
            {"lead": {"group": "fix", "leader": None}},
            "pod-b leads fix (epoch 2)",
        ),
        (
            ("replace-voter", ADDRESSES[2], "127.0.0.1:9099"),
            {"replace_voter": {"old": ADDRESSES[2], "new": "127.0.0.1:9099"}},
            "the voter at 127.0.0.1:9099 has the place of 127.0.0.1:9012 (epoch 2)",
        ),
        (
            ("add-group", "risk", "pod-b", "pod-a"),
            {"add_group": {"name": "risk", "candidates": ["pod-b", "pod-a"]}},
            "risk is a group of pod-b, pod-a (epoch 2)",
        ),
    ],
)
def test_a_change_is_made_and_its_epoch_shown(desk: Desk, command, change, text: str) -> None:
    result = desk.run(*command)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == text
    assert desk.cluster.changes == [change]


@pytest.mark.parametrize(
    ("command", "because"),
    [
        (("move", "nope", "pod-a"), "no group 'nope'"),
        (("move", "fix", "pod-x"), "not a candidate"),
        (("drain", "pod-x"), "no pod 'pod-x'"),
        (
            ("step-down", "nope"),
            "no group and no pod 'nope' in desk-7; there are fix",
        ),
        (("step-down", "pod-b"), "pod-b leads no group"),
        (("replace-voter", "9.9.9.9:9", "8.8.8.8:8"), "no voter 9.9.9.9:9"),
    ],
)
def test_a_refused_change_does_not_hold(desk: Desk, command, because: str) -> None:
    result = desk.run(*command)
    assert result.exit_code == 1, result.output
    assert because in result.stderr
    assert desk.cluster.record["epoch"] == 1


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ChangeRefusedError("not agreed in 3 tries"), 1),
        (DeadlineExceededError("no answer within 5000 ms: whether it is made is not known"), 2),
        (UnavailableError("no process that can change the record can be reached"), 2),
    ],
)
def test_what_became_of_a_change_is_in_the_exit_code(desk: Desk, error, exit_code: int) -> None:
    desk.cluster.refuses = error
    result = desk.run("drain", "pod-a")
    assert result.exit_code == exit_code
    assert str(error) in result.stderr


def test_a_cluster_can_be_named_without_a_file(desk: Desk) -> None:
    options = ("--target", ADDRESSES[1], "--cluster", "desk-7", "--timeout-seconds", "0.5")
    facts = desk.json("status", *options)
    assert [voter["answers"] for voter in facts["voters"]] == [True] * 3, "the others were found"
    assert desk.told[0] == {
        "cluster": "desk-7",
        "voters": [ADDRESSES[1]],
        "tls": None,
        "timeout_ms": 500,
    }


def test_a_process_that_says_nothing_of_this_cluster_counts_as_none(desk: Desk) -> None:
    result = desk.run("status", "--target", ADDRESSES[0], "--cluster", "desk-8")
    assert result.exit_code == 2
    assert "belongs to cluster 'desk-7'" in result.stderr
    told = desk.cluster.describe
    desk.cluster.describe = lambda address: (
        told(address) | ({"snapshot": None} if address == ADDRESSES[2] else {})
    )
    assert "shows no figures that this release can read" in desk.run("status").stdout


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("[listen]\ngrpc = '127.0.0.1:1'\n[pods.a]\ngrpc = 'a:1'", "has no table [quorum]"),
        ("[listen]\ngrpc = 5", "listen.grpc"),
    ],
)
def test_a_file_that_names_no_cluster_could_not_run(desk: Desk, text: str, because: str) -> None:
    desk.file.write_text(text)
    for command in (("status",), ("init",), ("drain", "a")):
        result = desk.run(*command)
        assert result.exit_code == 2
        assert because in result.stderr


def test_which_cluster_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HASHROUTE_CONFIG", raising=False)
    for arguments, because in (
        (("status",), "which cluster?"),
        (("status", "--target", "a:1"), "give the name of its cluster"),
        (("init",), "Missing option '--config'"),
    ):
        result = CliRunner().invoke(main, ["quorum", *arguments], prog_name="hashroute")
        assert result.exit_code == 2
        assert because in result.stderr


def test_the_certificates_of_the_file_are_used(desk: Desk) -> None:
    line = 'tls = { ca = "ca.pem", certificate = "c.pem", key = "k.pem" }\n[quorum.groups.fix]'
    desk.file.write_text(FILE.replace("[quorum.groups.fix]", line))
    assert desk.run("members").exit_code == 0
    assert desk.told[0]["tls"]["ca"] == str(desk.file.parent / "ca.pem")
