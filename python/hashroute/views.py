"""The view in force, also one of which no pod owns slots: a cluster begins with such a one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hashroute._ring import Ring
from hashroute.errors import EmptyViewError, UnknownPodError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["ViewInForce", "movement"]


@dataclass(frozen=True, slots=True)
class ViewInForce:
    """A view in its JSON form, and its ring unless no pod may own slots."""

    document: Mapping[str, Any]
    ring: Ring | None

    @classmethod
    def of_ring(cls, ring: Ring) -> ViewInForce:
        """Returns the view of a ring."""
        return cls(json.loads(ring.to_json()), ring)

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> ViewInForce:
        """Returns the view that ``document`` describes."""
        try:
            return cls(document, Ring.from_json(json.dumps(document)))
        except EmptyViewError:
            return cls(document, None)

    @property
    def epoch(self) -> int:
        """Its number."""
        epoch: int = self.document["epoch"]
        return epoch

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Its pods, in the JSON form of a view."""
        pods: list[dict[str, Any]] = self.document["pods"]
        return pods

    def pod(self, pod_id: str) -> dict[str, Any]:
        """Returns one pod.

        Raises:
            UnknownPodError: the view holds no such pod.
        """
        for pod in self.pods:
            if pod["id"] == pod_id:
                return pod
        known = ", ".join(pod["id"] for pod in self.pods)
        raise UnknownPodError(f"no pod {pod_id!r} in the view: it holds {known}", pod=pod_id)

    @property
    def digest(self) -> str:
        """The digest of its ring; empty if no pod owns slots."""
        return "" if self.ring is None else self.ring.digest

    def shares(self) -> dict[str, float]:
        """Returns the part of the slots that each pod owns."""
        if self.ring is None:
            return dict.fromkeys((pod["id"] for pod in self.pods), 0.0)
        return self.ring.shares()

    def movement_from(self, before: ViewInForce) -> tuple[int, int]:
        """Returns how many slots have another owner now, and how few any ring would have moved."""
        if before.ring is None or self.ring is None:
            # Either nobody owned anything, or nobody does any more.
            slots = int(self.document["slots"])
            moved = 0 if before.ring is self.ring else slots
            return moved, moved
        return movement(before.ring, self.ring)


def movement(before: Ring, after: Ring) -> tuple[int, int]:
    """Returns how many slots have another owner, and how few any assignment could have moved.

    Rings of different numbers of slots are compared slot by slot of the finer one.
    """
    import numpy as np  # a quarter of a second, and no sidecar that changes nothing needs it

    slots = max(before.slots, after.slots)
    ids = sorted({pod.id for ring in (before, after) for pod in ring.pods})
    owners_before, owners_after = (_owners(ring, ids, slots) for ring in (before, after))
    counts = [np.bincount(owners, minlength=len(ids)) for owners in (owners_before, owners_after)]
    gains = np.maximum(counts[1] - counts[0], 0)
    return int(np.count_nonzero(owners_before != owners_after)), int(gains.sum())


def _owners(ring: Ring, ids: list[str], slots: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    import numpy as np

    place = {pod: index for index, pod in enumerate(ids)}
    places = np.array([place[pod.id] for pod in ring.pods], dtype=np.int64)
    # A slot is the high bits of a hash, so each of a coarser ring is a run of finer ones.
    return np.repeat(places[ring.table], slots // ring.slots)
