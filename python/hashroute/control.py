"""A running sidecar under control: what is in force, and each way to change it.

:class:`Controller` joins the configuration file, the ring and the native sidecar. Changes are made
one after another; readers never wait for them. The file is the truth: what is changed here lasts
until the next reload, which says what it undid.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hashroute._release import release
from hashroute._ring import Pod, Ring
from hashroute.config import (
    ConfigurationFileError,
    Finding,
    Loaded,
    load,
    read_pod,
    settings_of,
    view_of,
)
from hashroute.errors import HashrouteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from hashroute._ring import PodState

__all__ = ["Change", "Controller", "NativeSidecar", "Reload", "movement"]


class NativeSidecar(Protocol):
    """The native data plane, as far as it is controlled from here."""

    def addresses(self) -> dict[Any, str | None]:
        """Returns the addresses that it listens on, by transport."""

    def apply(self, settings_json: str) -> None:
        """Puts new settings in force, whole or not at all."""

    def snapshot(self) -> str:
        """Returns all figures at this moment as JSON."""

    def stop(self, grace_seconds: float) -> bool:
        """Stops; returns whether all requests in flight finished within the grace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change of the view did.

    Attributes:
        epoch_before: epoch of the view before.
        epoch: epoch of the view now; the same if nothing changed.
        moved_slots: slots that have another owner.
        least_slots: the fewest that any assignment would have had to move.
        shares: the part of the slots that each pod owns now.
    """

    epoch_before: int
    epoch: int
    moved_slots: int
    least_slots: int
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What a reload did.

    Attributes:
        applied: whether the file is in force now; if not, nothing was changed.
        findings: all errors and warnings, also the reason if the file was refused for another.
        change: what it did to the view; None if the view stayed as it was.
        undone: changes made at runtime that the file undid, in words.
    """

    applied: bool
    findings: tuple[Finding, ...] = ()
    change: Change | None = None
    undone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _InForce:
    """What is in force, replaced as a whole so that a reader sees one moment."""

    loaded: Loaded
    ring: Ring
    touched: frozenset[str] = frozenset()
    """Pods that were changed since the file was read."""


class Controller:
    """The control of one sidecar. All methods may be called from any thread.

    Args:
        loaded: the configuration to begin with; its view has epoch 1.
        start: starts the native sidecar with settings as JSON.

    Raises:
        ConfigurationError: no ring can be built of these pods.
        StartError: the native sidecar cannot start.
    """

    def __init__(self, loaded: Loaded, start: Callable[[str], NativeSidecar]) -> None:
        ring = Ring.from_json(json.dumps(view_of(loaded.configuration, epoch=1)))
        self._lock = threading.Lock()
        self._in_force = _InForce(loaded, ring)
        self._started_seconds = time.monotonic()
        self._sidecar = start(_settings(loaded, ring))
        self._listening = {
            transport: address
            for transport, address in self._sidecar.addresses().items()
            if address is not None
        }
        self.is_stopping = False
        """Whether the sidecar is on its way out, so that nothing new should be sent to it."""

    @property
    def loaded(self) -> Loaded:
        """The configuration in force, as the file says it."""
        return self._in_force.loaded

    @property
    def ring(self) -> Ring:
        """The ring in force."""
        return self._in_force.ring

    @property
    def listening(self) -> Mapping[str, str]:
        """The addresses that are listened on: grpc, zmq, admin, control."""
        return self._listening

    def listens(self, name: str, address: str) -> None:
        """Notes an address that the host itself listens on."""
        self._listening = {**self._listening, name: address}

    def snapshot(self) -> dict[str, Any]:
        """Returns the figures of the native sidecar at this moment."""
        snapshot: dict[str, Any] = json.loads(self._sidecar.snapshot())
        return snapshot

    def status(self) -> dict[str, Any]:
        """Returns the snapshot with what the host knows: addresses, uptime, release."""
        return {
            **self.snapshot(),
            "listen": dict(self._listening),
            "uptime_seconds": time.monotonic() - self._started_seconds,
            "version": release(),
        }

    def drain(self, pod: str, *, undo: bool = False) -> Change:
        """Gives the slots of ``pod`` to the others, or with ``undo`` makes it active again.

        Raises:
            UnknownPodError: the view holds no such pod.
            EmptyViewError: no other pod owns slots.
        """
        state: PodState = "active" if undo else "draining"

        def drained(ring: Ring) -> Ring:
            return ring if ring.pod(pod).state == state else ring.with_state(pod, state)

        return self._change(pod, drained)

    def add(self, pod: str, values: Mapping[str, Any]) -> Change:
        """Adds ``pod`` with the ``values`` that its table in the file would have.

        Raises:
            ConfigurationError: a value is wrong, or there is no address for what is served.
            DuplicatePodError: the view holds this pod already.
        """
        section = read_pod(pod, values, self.loaded.configuration)
        written = section.model_dump(mode="json")
        added = Pod(
            pod,
            weight=section.weight,
            zone=section.zone,
            state=section.state,
            grpc=written["grpc"],
            zmq=written["zmq"],
        )
        return self._change(pod, lambda ring: ring.add(added))

    def remove(self, pod: str) -> Change:
        """Removes ``pod`` from the view.

        Raises:
            UnknownPodError: the view holds no such pod.
            EmptyViewError: no other pod owns slots.
        """
        return self._change(pod, lambda ring: ring.remove(pod))

    def reweight(self, pod: str, weight: float) -> Change:
        """Gives ``pod`` another weight.

        Raises:
            UnknownPodError: the view holds no such pod.
            WeightError: the weight is none.
        """

        def reweighted(ring: Ring) -> Ring:
            return ring if ring.pod(pod).weight == weight else ring.reweight(pod, weight)

        return self._change(pod, reweighted)

    def reload(self) -> Reload:
        """Reads the configuration file again and puts it in force, or changes nothing."""
        with self._lock:
            before = self._in_force
            try:
                loaded = load(before.loaded.file)
            except ConfigurationFileError as error:
                return Reload(applied=False, findings=error.findings or (_unreadable(error),))
            fixed = _fixed(before.loaded, loaded)
            if fixed:
                return Reload(applied=False, findings=(*loaded.warnings, *fixed))
            try:
                ring = _next_ring(before.ring, loaded)
                self._sidecar.apply(_settings(loaded, ring))
            except HashrouteError as error:
                return Reload(applied=False, findings=(*loaded.warnings, _refused(error)))
            self._in_force = _InForce(loaded, ring)
        return Reload(
            applied=True,
            findings=loaded.warnings,
            change=None if ring is before.ring else _difference(before.ring, ring),
            undone=_undone(before, ring),
        )

    def stop(self, grace_seconds: float) -> bool:
        """Stops the sidecar; returns whether all requests in flight finished within the grace."""
        self.is_stopping = True
        return self._sidecar.stop(grace_seconds)

    def close(self) -> None:
        """Stops the sidecar at once, unless it was stopped before."""
        if not self.is_stopping:
            self.stop(0.0)

    def _change(self, pod: str, change: Callable[[Ring], Ring]) -> Change:
        with self._lock:
            before = self._in_force
            ring = change(before.ring)
            if ring is not before.ring:
                self._sidecar.apply(_settings(before.loaded, ring))
                self._in_force = _InForce(before.loaded, ring, before.touched | {pod})
        return _difference(before.ring, ring)


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


def _difference(before: Ring, after: Ring) -> Change:
    moved, least = movement(before, after)
    return Change(
        epoch_before=before.epoch,
        epoch=after.epoch,
        moved_slots=moved,
        least_slots=least,
        shares=after.shares(),
    )


def _settings(loaded: Loaded, ring: Ring) -> str:
    return json.dumps(settings_of(loaded, json.loads(ring.to_json())))


def _next_ring(ring: Ring, loaded: Loaded) -> Ring:
    """The ring of a file at the next epoch, or the same one if the file describes it."""
    same_epoch = Ring.from_json(json.dumps(view_of(loaded.configuration, epoch=ring.epoch)))
    if same_epoch.to_json() == ring.to_json():
        return ring
    return Ring.from_json(json.dumps(view_of(loaded.configuration, epoch=ring.epoch + 1)))


def _fixed(before: Loaded, after: Loaded) -> list[Finding]:
    """What the file changes and a running sidecar cannot: callers are connected on these terms."""
    was, now = (one.configuration.model_dump(mode="json") for one in (before, after))
    return [
        Finding(
            severity="error",
            code="fixed_setting",
            key=(section, name),
            message="cannot change while the sidecar runs: callers are connected on these terms",
            expected=json.dumps(old or ""),
            got=json.dumps(now[section][name] or ""),
            suggestion="set it back, or start another sidecar and stop this one",
        )
        for section in ("listen", "limits")
        for name, old in was[section].items()
        if old != now[section][name] and name != "shutdown_grace"
    ]


def _unreadable(error: ConfigurationFileError) -> Finding:
    return Finding(severity="error", code="unreadable", key=(), message=str(error))


def _refused(error: HashrouteError) -> Finding:
    return Finding(severity="error", code=error.code, key=(), message=str(error))


def _undone(before: _InForce, ring: Ring) -> tuple[str, ...]:
    """What became of the pods that were changed at runtime, where the file says otherwise."""
    was = {pod.id: pod for pod in before.ring.pods}
    now = {pod.id: pod for pod in ring.pods}
    texts: list[str] = []
    for pod in sorted(before.touched):
        if pod not in now and pod in was:
            texts.append(f"{pod}: added at runtime, gone again")
        elif pod in now and pod not in was:
            texts.append(f"{pod}: removed at runtime, back again")
        elif pod in now:
            texts += [
                f"{pod}: {field} {old} at runtime, {new} again"
                for field in ("state", "weight", "zone", "grpc", "zmq")
                if (old := getattr(was[pod], field)) != (new := getattr(now[pod], field))
            ]
    return tuple(texts)
