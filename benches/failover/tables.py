"""The tables of the time to a new writer, from the figures of a run."""

from __future__ import annotations

from typing import Any

from benches.failover.blocks import FAULTS, Sample
from tests.soak.nemesis import summary

Document = dict[str, Any]
Table = tuple[list[str], list[list[str]]]


def failovers(document: Document) -> Table:
    """A row for each setting, idle and busy; a cell for each kind of fault, and for all of them."""
    cells: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for sample in document["faults"]:
        row = cells.setdefault(_about(sample), {kind: [] for kind in FAULTS})
        row[sample["kind"]].append(sample["ms"])
    headings = ["engine", "lease", "priority", "busy beside it", *FAULTS, "of how many each"]
    rows = []
    for about, row in cells.items():
        times = "/".join(sorted({str(len(sample)) for sample in row.values()}))
        rows.append([*about, *(_cell(row[kind]) for kind in FAULTS), times])
    return headings, rows


def peer(document: Document) -> Table:
    """A kill of the owner by etcd's own lease, beside a kill of our writer in the same clusters."""
    rows = []
    for busy in sorted({sample["busy"] for sample in document["peer"]}):
        owners = [sample for sample in document["peer"] if sample["busy"] == busy]
        ours = [
            sample["ms"]
            for sample in document["faults"]
            if sample["engine"] == "etcd" and sample["kind"] == "kill -9" and sample["busy"] == busy
        ]
        ttls = "/".join(sorted({str(sample["ttl_seconds"]) for sample in owners}))
        times = [sample["ms"] for sample in owners]
        rows.append([str(busy), f"etcd's lease of {ttls} s", _cell(times), str(len(times))])
        rows.append([str(busy), "hashroute on the same etcd", _cell(ours), str(len(ours))])
    return ["busy beside it", "kill -9 of the owner, on etcd", "p50 / p99 / worst", "times"], rows


def moves(document: Document) -> Table:
    """A row for each setting: the longest write of each move, and of as long a time before it."""
    rows = []
    cells: dict[tuple[str, ...], list[Sample]] = {}
    for sample in document["moves"]:
        cells.setdefault(_about(sample), []).append(sample)
    for about, found in cells.items():
        before = [longest for move in found for longest in move["before_longest_ms"]]
        usual = summary([move["before_p50_ms"] for move in found])["p50"]
        slow = summary([move["before_p99_ms"] for move in found])["p50"]
        refused, unknown = (sum(move[word] for move in found) for word in ("refused", "unknown"))
        rows.append(
            [
                *about,
                _cell([move["longest_ms"] for move in found], digits=1),
                _cell(before, digits=1),
                f"{usual:.1f} / {slow:.1f}",
                f"{refused} / {unknown} of {sum(move['writes'] for move in found)}",
                str(len(found)),
            ]
        )
    headings = [
        "engine", "lease", "priority", "busy beside it", "longest write of a move",
        "longest of as long a time before", "writes before: p50 / p99",
        "refused / unknown", "moves",
    ]  # fmt: skip
    return headings, rows


def _about(sample: Sample) -> tuple[str, ...]:
    return tuple(str(sample[word]) for word in ("engine", "lease", "priority", "busy"))


def _cell(sample: list[float], digits: int = 0) -> str:
    """The median, the 99th percentile and the worst; of few times the last two are one."""
    if not sample:
        return "none"
    found = summary(sample)
    return " / ".join(f"{found[word]:.{digits}f}" for word in ("p50", "p99", "worst"))
