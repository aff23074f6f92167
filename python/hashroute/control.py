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
from typing import TYPE_CHECKING, Any, Final, Protocol

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
from hashroute.errors import ConfigurationError, EmptyViewError, HashrouteError
from hashroute.reloads import fixed, refused, undone, unlike_the_record, unreadable
from hashroute.views import ViewInForce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hashroute._ring import PodState

__all__ = ["Change", "Controller", "NativeSidecar", "Reload"]

PATIENCE_SECONDS: Final = 5.0
"""How long a change of the record may take: many times what it takes where voters answer."""

_ARRIVAL_SECONDS_MAX: Final = 2.0
"""How long a record that was agreed on may take to arrive here, which is a round trip."""

_POLL_SECONDS: Final = 0.005


class NativeSidecar(Protocol):
    """The native data plane, as far as it is controlled from here."""

    def addresses(self) -> dict[Any, str | None]:
        """Returns the addresses that it listens on, by transport."""

    def apply(self, settings_json: str) -> None:
        """Puts new settings in force, whole or not at all."""

    def snapshot(self) -> str:
        """Returns all figures at this moment as JSON."""

    def change(self, change_json: str, patience_seconds: float) -> int:
        """Makes one change of the quorum's record; returns the epoch of the record with it."""

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
        self._recorded: ViewInForce | None = None
        self._started_seconds = time.monotonic()
        settings = settings_of(loaded, json.loads(ring.to_json()))
        # What a running node was told is fixed, also what the file said of the pods then.
        self._node_settings = settings["quorum"]
        self._sidecar = start(json.dumps(settings))
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
    def has_quorum(self) -> bool:
        """Whether the record of a quorum counts, and not the file."""
        return self._node_settings is not None

    @property
    def ring(self) -> Ring:
        """The ring in force.

        Raises:
            EmptyViewError: no pod owns slots, as in a cluster that no process has joined yet.
        """
        ring = self.view().ring
        if ring is None:
            raise EmptyViewError("no pod owns slots: no process of one has joined the cluster")
        return ring

    def view(self) -> ViewInForce:
        """Returns the view in force: that of the record, or of the file and what was changed since.

        Before a record is known, the file's view is what requests are routed by.
        """
        record = self._record()
        if record is None:
            return ViewInForce.of_ring(self._in_force.ring)
        recorded = self._recorded
        if recorded is None or recorded.epoch != record["view"]["epoch"]:
            recorded = self._recorded = ViewInForce.of_document(record["view"])
        return recorded

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
            ChangeRefusedError: the quorum did not agree, or there is nothing to undo: no process
                of the pod is there.
        """
        state: PodState = "active" if undo else "draining"
        if self.has_quorum:
            is_so = self.view().pod(pod)["state"] == state
            change = "activate" if undo else "drain"
            return self._agree(None if is_so else {change: {"pod": pod}})

        def drained(ring: Ring) -> Ring:
            return ring if ring.pod(pod).state == state else ring.with_state(pod, state)

        return self._change(pod, drained)

    def add(self, pod: str, values: Mapping[str, Any]) -> Change:
        """Adds ``pod`` with the ``values`` that its table in the file would have.

        Raises:
            ConfigurationError: a value is wrong, or there is no address for what is served.
            DuplicatePodError: the view holds this pod already.
        """
        if self.has_quorum:
            raise ConfigurationError(
                f"{pod} is added when its process joins: start it with [quorum] and pod = "
                f'"{pod}". Under a quorum whoever owns slots has a process that holds a lease'
            )
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
            ChangeRefusedError: the quorum did not agree.
        """
        if self.has_quorum:
            self.view().pod(pod)
            return self._agree({"remove": {"pod": pod}})
        return self._change(pod, lambda ring: ring.remove(pod))

    def reweight(self, pod: str, weight: float) -> Change:
        """Gives ``pod`` another weight.

        Raises:
            UnknownPodError: the view holds no such pod.
            WeightError: the weight is none.
            ChangeRefusedError: the quorum did not agree.
        """
        if self.has_quorum:
            Ring({pod: weight})  # raises what is wrong with the weight
            is_so = self.view().pod(pod)["weight"] == weight
            return self._agree(None if is_so else {"reweight": {"pod": pod, "weight": weight}})

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
                return Reload(applied=False, findings=error.findings or (unreadable(error),))
            kept = fixed(before.loaded, loaded)
            if kept:
                return Reload(applied=False, findings=(*loaded.warnings, *kept))
            record = self._record()
            try:
                ring = before.ring if self.has_quorum else _next_ring(before.ring, loaded)
                self._apply(loaded, ring, record)
            except HashrouteError as error:
                return Reload(applied=False, findings=(*loaded.warnings, refused(error)))
            self._in_force = _InForce(loaded, ring)
        if record is not None:
            unlike = unlike_the_record(loaded.configuration, record)
            return Reload(applied=True, findings=(*loaded.warnings, *unlike))
        return Reload(
            applied=True,
            findings=loaded.warnings,
            change=None if ring is before.ring else _between(before.ring, ring),
            undone=undone(before.ring, ring, before.touched),
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
                self._apply(before.loaded, ring, None)
                self._in_force = _InForce(before.loaded, ring, before.touched | {pod})
        return _between(before.ring, ring)

    def _agree(self, change: Mapping[str, Any] | None) -> Change:
        """Makes a change of the record; None is for what is so already."""
        with self._lock:
            before = self.view()
            if change is not None:
                epoch = self._sidecar.change(json.dumps(change), PATIENCE_SECONDS)
                self._await_epoch(epoch)
        return _difference(before, self.view())

    def _await_epoch(self, epoch: int) -> None:
        """Waits until the record of ``epoch`` is here; not for ever, for it holds all the same."""
        latest = time.monotonic() + _ARRIVAL_SECONDS_MAX
        while time.monotonic() < latest:
            record = self._record()
            if record is not None and record["epoch"] >= epoch:
                return
            time.sleep(_POLL_SECONDS)

    def _record(self) -> dict[str, Any] | None:
        if not self.has_quorum:
            return None
        record: dict[str, Any] | None = self.snapshot()["quorum"]["record"]
        return record

    def _apply(self, loaded: Loaded, ring: Ring, record: Mapping[str, Any] | None) -> None:
        view = json.loads(ring.to_json()) if record is None else record["view"]
        settings = settings_of(loaded, view) | {"quorum": self._node_settings}
        self._sidecar.apply(json.dumps(settings))


def _between(before: Ring, after: Ring) -> Change:
    return _difference(ViewInForce.of_ring(before), ViewInForce.of_ring(after))


def _difference(before: ViewInForce, after: ViewInForce) -> Change:
    moved, least = after.movement_from(before)
    return Change(
        epoch_before=before.epoch,
        epoch=after.epoch,
        moved_slots=moved,
        least_slots=least,
        shares=after.shares(),
    )


def _next_ring(ring: Ring, loaded: Loaded) -> Ring:
    """The ring of a file at the next epoch, or the same one if the file describes it."""
    same_epoch = Ring.from_json(json.dumps(view_of(loaded.configuration, epoch=ring.epoch)))
    if same_epoch.to_json() == ring.to_json():
        return ring
    return Ring.from_json(json.dumps(view_of(loaded.configuration, epoch=ring.epoch + 1)))
