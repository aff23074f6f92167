"""A voter alone: what it is started with, and what it refuses to be started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hashroute.errors import StartError

from tests.python.node_double import WITNESS, voter_of
from tests.python.quorum_double import ADDRESSES

if TYPE_CHECKING:
    from pathlib import Path


def test_the_node_is_started_with_the_quorum_of_the_file_and_stopped_once(tmp_path: Path) -> None:
    voter, node = voter_of(tmp_path / "witness.toml")
    assert node.told["listen"] == ADDRESSES[2]
    assert node.told["data"] == str(tmp_path / "voter")
    assert node.told["pod"] is None
    assert [pod["id"] for pod in node.told["view"]["pods"]] == ["pod-a", "pod-b"]
    voter.listens("admin", "127.0.0.1:9002")
    assert voter.status()["listen"] == {"quorum": ADDRESSES[2], "admin": "127.0.0.1:9002"}
    assert voter.stop(2.5)
    voter.close()
    assert node.stopped_with == 2.5


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (WITNESS + 'pod = "pod-a"\n', "a voter alone writes nothing.*`hashroute proxy`"),
        (
            "[listen]\ngrpc = '127.0.0.1:1'\n" + WITNESS.partition("listen =")[0],
            r"needs a table \[quorum\] with listen and data",
        ),
        (
            "[listen]\ngrpc = '127.0.0.1:1'\n" + WITNESS.partition("[quorum]")[0],
            r"needs a table \[quorum\]",
        ),
    ],
)
def test_a_file_that_is_not_a_voters_starts_nothing(
    tmp_path: Path, text: str, because: str
) -> None:
    with pytest.raises(StartError, match=because):
        voter_of(tmp_path / "witness.toml", text)
