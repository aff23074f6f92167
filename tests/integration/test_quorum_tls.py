"""Mutual TLS by configuration file, on real processes: who may take part, and who is told what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hashroute import Router
from hashroute.cluster import Tls
from hashroute.errors import HashrouteError, UnavailableError

from tests.integration.authority import Authority
from tests.integration.processes import until
from tests.integration.quorum_desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Files = dict[str, str] | None


class TlsDesk(Desk):
    """The cluster `desk-7` with a certificate for each process."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ours, self.theirs = (Authority(directory / name) for name in ("ours", "theirs"))
        for name in ("a", "b", "witness", "spare", "client"):
            self.ours.sign(name)
        self.theirs.sign("spare")
        self.ours.sign("old", ends="20210101000000Z")
        self.shown: dict[str, Files] = {}

    def text(self, name: str) -> str:
        files = self.shown.get(name, self.ours.files(name))
        if files is None:
            return super().text(name)
        table = ", ".join(f"{key} = {json.dumps(path)}" for key, path in files.items())
        return super().text(name).replace("force = true\n", f"force = true\ntls = {{ {table} }}\n")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[TlsDesk]:
    desk = TlsDesk(tmp_path)
    yield desk
    desk.close()


def router(desk: TlsDesk, files: Files) -> Router:
    tls = None if files is None else Tls(**files)
    voters = [desk.voter(name) for name in ("a", "b", "witness")]
    return Router.connect(voters, cluster="desk-7", tls=tls, timeout_seconds=4.0, health=None)


@pytest.mark.timeout(600)
def test_a_cluster_with_certificates_works_and_takes_nobody_else(desk: TlsDesk) -> None:
    desk.found()
    assert desk.place("a", "EURUSD") == desk.place("b", "EURUSD")
    leader, _ = desk.place("a")
    other = "pod-b" if leader == "pod-a" else "pod-a"
    assert desk.quorum("move", "fix", other).returncode == 0
    assert desk.place("b")[0] == other
    assert desk.status()["degraded"] == []
    with router(desk, desk.ours.files("client")) as followed:
        assert {pod.id for pod in followed.ring.pods} == {"pod-a", "pod-b"}

    # Each is consistent in itself; the cluster does not take it, and it does not take the cluster.
    strangers: dict[str, tuple[Files, str]] = {
        "another authority": (desk.theirs.files("spare"), "certificate"),
        "in the clear": (None, "quorum.tls"),
    }
    for files, word in strangers.values():
        with pytest.raises(UnavailableError) as failed:
            router(desk, files)
        assert word in str(failed.value), str(failed.value)
        desk.shown["spare"] = files
        desk.write_files()
        done = desk.quorum("status", name="spare")
        assert done.returncode == 2, done.stdout
        assert word in done.stderr, done.stderr
        # A witness and a sidecar run, for the others may be at fault; they say what is wrong.
        desk.start("spare")
        until(lambda word=word: word in desk.hosts["spare"].printed(), "the witness says it")
        desk.hosts["spare"].kill()
        desk.hosts["b"].terminate()
        desk.hosts["b"].exit_code()
        desk.shown["b"] = files
        desk.write_files()
        desk.start("b")
        until(lambda word=word: word in desk.control("b", "status").stdout, "the sidecar says it")
        assert "holds no lease" in desk.control("b", "status").stdout
        desk.hosts["b"].terminate()
        desk.hosts["b"].exit_code()
        del desk.shown["b"], desk.shown["spare"]
        desk.write_files()
        desk.start("b")
    until(lambda: desk.quorum("status").returncode == 0, "with its own it takes part again")


@pytest.mark.timeout(600)
def test_files_that_cannot_be_right_keep_a_process_from_starting(desk: TlsDesk) -> None:
    cases: tuple[tuple[dict[str, str], str], ...] = (
        (desk.ours.files("old"), "the certificate has expired: get a new one"),
        (desk.theirs.files("spare", ca=desk.ours.ca), "is not signed by the authority in"),
        (
            desk.ours.files("spare") | {"key": desk.ours.files("a")["key"]},
            "not the key of the certificate",
        ),
        (desk.ours.files("spare") | {"key": str(desk.directory / "gone.key")}, "cannot be read"),
    )
    for files, because in cases:
        desk.shown = {"spare": files, "a": files}
        desk.write_files()
        for command, name in (("voter", "spare"), ("proxy", "a")):
            done = desk.run(command, "--config", str(desk.file(name)))
            assert done.returncode == 2, done.stdout + done.stderr
            assert f"quorum.tls: {desk.directory}" in done.stderr
            assert because in done.stderr
        with pytest.raises(HashrouteError, match=because):
            router(desk, files)
