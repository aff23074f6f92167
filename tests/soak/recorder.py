"""Who owned what, as the voters agreed on it: one line for each term of each slot.

A program: ``python -m tests.soak.recorder CONFIG LOG [TIMELINE]``. It follows the record as a
router does, and writes ``{"term", "resource", "owner"}`` down whenever a slot has a term that was
not seen before. If TIMELINE is given, it keeps that (:mod:`tests.soak.timeline`). It gives way to
those whom it watches: it has no real-time priority, and a low one otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from hashroute import _hashroute
from hashroute.config import load
from hashroute.config.settings import node_settings_of

from tests.soak import timeline

NICE = 10
"""A tenth of what another process gets: enough to see every record also beside busy processes."""


def main(config: str, log: str, own: str | None = None) -> None:
    """Follows until it is ended."""
    os.nice(NICE)
    settings = {**node_settings_of(load(Path(config))), "priority": "ordinary"}
    node = _hashroute.Node(json.dumps(settings))
    if own is not None:
        timeline.keep(node.snapshot, Path(own))
    seen: np.ndarray | None = None
    epoch = 0
    print("ready", flush=True)
    with Path(log).open("a", buffering=1, encoding="utf-8") as stream:
        while True:
            if node.wait_for_epoch(epoch, 1.0) <= epoch:
                continue
            view, terms = node.view(), np.array(node.terms())
            if view is None or node.epoch != view.epoch:
                continue  # another record came in between
            epoch = view.epoch
            try:
                ring = _hashroute.Ring(view)
            except ValueError:  # no pod owns anything
                continue
            pods, table = [pod[0] for pod in view.pods()], ring.table
            fresh = np.arange(len(terms)) if seen is None else np.flatnonzero(terms != seen)
            for slot in fresh.tolist():
                owner = pods[table[slot]]
                line = {"term": int(terms[slot]), "resource": str(slot), "owner": owner}
                stream.write(json.dumps(line) + "\n")
            seen = terms


if __name__ == "__main__":
    main(*sys.argv[1:])
