"""What a real voter process promised is never forgotten: SIGKILL under votes, damaged disks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.integration.quorum_desk import Host, free_ports
from tests.integration.wire_voter import Books, Conversation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = 5
VOTES_UNDER_WAY = 8
RUN_SECONDS_MAX = 120
"""A command is a process of its own; on a busy machine it takes seconds to start."""


class LoneVoter:
    """The one voter of a cluster of one: `hashroute voter`, and its disk."""

    def __init__(self, directory: Path, cluster: str = "desk-7") -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.data = directory / "state"
        self.file = directory / f"{cluster}.toml"
        self.file.write_text(
            f'[pods.pod-a]\ngrpc = "127.0.0.1:9"\n[quorum]\ncluster = "{cluster}"\n'
            f'voters = ["{self.address}"]\nlisten = "{self.address}"\ndata = "{self.data}"\n'
            'force = true\npriority = "ordinary"\n'
            'lease = { ttl = "30ms", renewal_interval = "10ms", margin = "1ms" }\n'
        )
        self.host: Host | None = None

    def start(self) -> None:
        self.host = Host("voter", self.file)

    def kill(self) -> None:
        assert self.host is not None
        self.host.kill()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hashroute", *words, "--config", str(self.file)],
            capture_output=True, check=False, text=True, timeout=RUN_SECONDS_MAX,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip

    def found(self) -> None:
        self.start()
        done = self.run("quorum", "init")
        assert done.returncode == 0, done.stderr

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.data.glob("voter-state.?"))}

    def damage(self, change) -> None:
        for path in self.data.glob("voter-state.?"):
            path.write_bytes(change(path.read_bytes()))

    def talk(self, books: Books) -> Conversation:
        return Conversation(self.address, "desk-7", books)

    def close(self) -> None:
        if self.host is not None:
            self.host.close()


@pytest.fixture
def voter(tmp_path: Path) -> Iterator[LoneVoter]:
    voter = LoneVoter(tmp_path)
    yield voter
    voter.close()


def check_remembered(voter: LoneVoter, books: Books) -> None:
    """Asks the voter anew: its promise and its vote have to be there, or later ones."""
    conversation = voter.talk(books)
    if books.promised > 1:
        kind, said = conversation.ask(books.promised - 1)
        assert kind == "outbid", f"{books.promised} was promised, and is forgotten"
        assert said.promised.round >= books.promised
    accepted = books.accepted
    kind, said = conversation.ask(books.promised + 2 * VOTES_UNDER_WAY)
    assert kind == "promised"
    assert said.accepted_in.round >= accepted, f"the vote for {accepted} is forgotten"
    if said.accepted_in.round:
        assert said.accepted.view.pods[0].weight == said.accepted_in.round, "of another ballot"
    conversation.close()


def vote_until_killed(voter: LoneVoter, books: Books, dice: random.Random) -> None:
    """Asks for promises and votes, several under way at a time, and kills the voter meanwhile."""
    conversation = voter.talk(books)
    number = books.promised + 1
    ends_after = books.answers + dice.randrange(4, 60)
    for ahead in range(VOTES_UNDER_WAY):
        conversation.prepare(number + ahead)
        conversation.accept(number + ahead)
    number += VOTES_UNDER_WAY
    killer: threading.Timer | None = None
    for kind, _ in conversation.answers():
        if kind in {"accepted", "guarded"}:
            conversation.prepare(number)
            conversation.accept(number)
            number += 1
        if killer is None and books.answers >= ends_after:
            # Not in step with the answers: at any moment of the next votes.
            killer = threading.Timer(dice.uniform(0, 0.02), voter.kill)
            killer.start()
    assert killer is not None, "the conversation ended before the voter was killed"
    killer.join()
    conversation.close()


@pytest.mark.timeout(600)
def test_a_voter_that_is_killed_under_votes_forgets_nothing_it_answered(voter: LoneVoter) -> None:
    dice, books = random.Random(20261128), Books()
    voter.found()
    for _ in range(KILLS):
        before = books.answers
        vote_until_killed(voter, books, dice)
        assert books.answers > before
        voter.start()
        check_remembered(voter, books)
    assert books.accepted > 0


@pytest.mark.timeout(600)
def test_a_voter_whose_disk_is_damaged_does_not_start_and_says_what_to_do(
    voter: LoneVoter,
) -> None:
    voter.found()
    books = Books()
    conversation = voter.talk(books)
    assert conversation.ask(5)[0] == "promised"
    conversation.close()
    voter.kill()
    whole = voter.files()
    assert len(whole) == 4
    for change, because in (
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda _: b"", "less than its head"),
        (lambda text: text[:40] + bytes([text[40] ^ 1]) + text[41:], "checksum does not match"),
        (lambda text: bytes(len(text)), "does not begin as a voter's state does"),
    ):
        voter.damage(change)
        damaged = voter.files()
        done = voter.run("voter")
        assert done.returncode == 2, done.stdout + done.stderr
        assert because in done.stderr
        assert f"the voter's state {voter.data} is damaged" in done.stderr
        assert "hashroute quorum replace-voter" in done.stderr
        assert voter.files() == damaged, "never reset"
        for name, text in whole.items():
            (voter.data / name).write_bytes(text)
    # A file that is cut short, gone or bad beside a whole twin costs nothing.
    (voter.data / "voter-state.0").write_bytes(whole["voter-state.0"][:40])
    (voter.data / "voter-state.2").unlink()
    voter.start()
    check_remembered(voter, books)
    assert len(voter.files()) == 4, "and is made good"


def test_a_voter_does_not_take_the_disk_of_another_cluster_or_release(
    voter: LoneVoter, tmp_path: Path
) -> None:
    voter.found()
    voter.kill()
    other = LoneVoter(tmp_path, "desk-8")
    done = other.run("voter")
    assert done.returncode == 2
    assert 'is of cluster "desk-7"' in done.stderr.replace("\\", ""), done.stderr
    assert "quorum.cluster" in done.stderr
    whole = voter.files()
    (voter.data / "voter-state.1").unlink()
    (voter.data / "voter-state.1").symlink_to(tmp_path)
    done = voter.run("voter")
    assert done.returncode == 2
    assert "voter-state.1" in done.stderr
    (voter.data / "voter-state.1").unlink()
    (voter.data / "voter-state.1").write_bytes(whole["voter-state.1"])
    voter.start()
