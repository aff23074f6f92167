"""How each error of the quorum is met, on real nodes where that can be; for `test_errors.py`."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import hashroute.pod
from hashroute import Pod, _hashroute
from hashroute.cluster import Lease, Tls, node_settings
from hashroute.errors import of_code

from tests.integration.clusters import CLUSTER, Cluster, free_address, lease_json

GROUPS = {"gateway": ["pod-a"]}


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def voter(data: Path, cluster: str = CLUSTER) -> _hashroute.Node:
    settings = node_settings(
        cluster=cluster,
        voters=["127.0.0.1:1"],
        tls=None,
        stale_after_seconds=1.0,
        listen="127.0.0.1:0",
        data=data,
        force=True,
    )
    return _hashroute.Node(settings)


def operator(voters: list[str], tls=None, timeout_ms: int = 2_000) -> _hashroute.Operator:
    settings = {"cluster": CLUSTER, "voters": voters, "tls": tls, "timeout_ms": timeout_ms}
    return _hashroute.Operator(json.dumps(settings))


def found(voters: list[str], pods: tuple[str, ...] = ("pod-a",)) -> None:
    view = hashroute.Ring(pods).to_json()
    operator(voters).found(view, json.dumps(lease_json("slow")), "{}")


def changed(**change) -> None:
    """Asks a cluster for a change: one voter, one member, and a group that has no leader yet."""
    with directory() as data, Cluster(data, groups=GROUPS) as cluster:
        cluster.join("pod-b")
        cluster.change(**change)


def changed_by_a_member(pod: str, **change) -> None:
    with directory() as data, Cluster(data, groups=GROUPS) as cluster:
        cluster.join(pod)._node.change(json.dumps(change), 5.0)


def unfounded_change() -> None:
    with directory() as data, contextlib.closing(_Voter(data)) as running:
        change = {"replace_voter": {"old": running.address, "new": running.address}}
        operator([running.address]).change(json.dumps(change))


def founded_twice() -> None:
    with directory() as data, contextlib.closing(_Voter(data)) as running:
        found([running.address])
        found([running.address], pods=("pod-z",))


def founded_on_one_process() -> None:
    with directory() as data, contextlib.closing(_Voter(data)) as running:
        port = running.address.rpartition(":")[2]
        found([running.address, f"localhost:{port}", running.address])


def replaced_by_itself() -> None:
    with directory() as data, Cluster(data) as cluster:
        [address] = cluster.addresses
        cluster.change(replace_voter={"old": address, "new": address})


class _Voter:
    def __init__(self, data: Path) -> None:
        self._node = voter(data)
        self.address = self._node.address

    def close(self) -> None:
        self._node.stop(0.0)


def disk_that_is_a_file() -> None:
    with directory() as data:
        (data / "voter").write_text("no directory", "utf-8")
        voter(data / "voter")


def disk_that_is_damaged() -> None:
    with directory() as data:
        _Voter(data).close()
        for file in data.iterdir():
            if file.is_file():
                file.write_bytes(b"\xff" * max(64, file.stat().st_size))
        voter(data)


def disk_of_two() -> None:
    with directory() as data, contextlib.closing(_Voter(data)):
        voter(data)


def disk_of_another_cluster() -> None:
    with directory() as data:
        _Voter(data).close()
        voter(data, cluster="another")


def joined(**arguments) -> None:
    hashroute.pod.join(cluster=CLUSTER, voters=["127.0.0.1:1"], pod=Pod("pod-a"), **arguments)


def refused(word: str) -> None:
    _hashroute.raise_error_reply(_hashroute.refusal_frame(word, 9, "the text"))


def only_said(code: str):
    """For what needs a fault in the middle of a change: the class is made as the extension does."""

    def say() -> None:
        raise of_code(code, "the text")

    return say


REACHED = {
    **{
        word.replace("-", "_"): lambda word=word: refused(word)
        for word in ("not-owner", "stale-term", "behind", "moving", "no-lease")
    },
    "untagged": lambda: _hashroute.Tag.from_frame(b"hashroute/1"),
    "setting": lambda: hashroute.pod.join(cluster="", voters=[], pod=Pod("pod-a")),
    "lease_unsafe": lambda: joined(lease=Lease(ttl_seconds=0.1)),
    "tls": lambda: joined(tls=Tls(ca="none", certificate="none", key="none")),
    "quorum_unreachable": lambda: operator([free_address()]).change('{"drain": {"pod": "pod-a"}}'),
    "change_malformed": lambda: operator([free_address()]).change("{}"),
    "no_record": unfounded_change,
    "founded_already": founded_twice,
    "same_voter": founded_on_one_process,
    "already_a_voter": replaced_by_itself,
    "unknown_voter": lambda: changed(replace_voter={"old": "127.0.0.1:1", "new": "127.0.0.1:2"}),
    "unknown_group": lambda: changed_by_a_member("pod-b", lead={"group": "no", "leader": "pod-b"}),
    "no_other_candidate": lambda: changed_by_a_member(
        "pod-a", lead={"group": "gateway", "leader": None}
    ),
    "duplicate_group": lambda: changed(add_group={"name": "gateway", "candidates": ["pod-b"]}),
    "not_a_candidate": lambda: changed(lead={"group": "gateway", "leader": "pod-b"}),
    "no_writer": lambda: changed(lead={"group": "gateway", "leader": "pod-a"}),
    "disk": disk_that_is_a_file,
    "disk_damaged": disk_that_is_damaged,
    "disk_in_use": disk_of_two,
    "other_cluster": disk_of_another_cluster,
    **{
        code: only_said(code)
        for code in (
            "voters",
            "already_writer",
            "not_the_leader",
            "no_other_candidate",
            "voters_unheard",
            "changes_waiting",
            "not_agreed",
            "record_malformed",
            "change_refused",
            "change_unknown",
            "not_a_voter",
            "found_refused",
            "not_the_leader",
            "voters_unheard",
            "stalls_too_long",
        )
    },
}
