"""The ring: which pod owns which key. Immutable values over the extension's assignment."""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypeAlias

from hashroute._hashroute import Ring as NativeRing
from hashroute._hashroute import View
from hashroute._plan import Move, Plan, Step
from hashroute.errors import ArgumentTypeError, FewSlotsWarning, UnknownPodError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Key", "Move", "Plan", "Pod", "PodState", "Pods", "Ring", "Step"]

PodState = Literal["joining", "active", "draining", "down"]
"""``joining`` and ``active`` pods own slots; ``draining`` and ``down`` ones own none."""

SLOTS_DEFAULT = 65_536
EPSILON_DEFAULT = 0.05
# One step then moves 1.6 % of the default slots: small beside what a pod's cache can absorb.
SLOTS_PER_STEP_DEFAULT = 1_024
# A notebook keeps what a cell shows: of a large ring it shows a screen or two.
HTML_ROWS_MAX = 64


@dataclass(frozen=True, slots=True)
class Pod:
    """One server process: its id, how much it should own, and where it answers.

    Args:
        id: 1 to 255 bytes of UTF-8, unique in the view. The mapping depends on it: a pod that
            comes back under its old id gets its old keys back.
        weight: its share of the keys relative to the other pods; positive, finite, at most 1.1e6,
            kept to six decimals.
        zone: what fails together with it: a rack, a power feed. Preference lists alternate zones.
        state: ``joining`` and ``active`` pods own slots; ``draining`` and ``down`` ones own none.
        grpc: ``host:port`` of its gRPC server.
        zmq: ``tcp://host:port`` of its ZeroMQ socket.
    """

    id: str
    weight: float = 1.0
    zone: str | None = None
    state: PodState = "active"
    grpc: str | None = None
    zmq: str | None = None


Key: TypeAlias = str | bytes | bytearray | memoryview | SupportsIndex
"""A ``str`` is its UTF-8 bytes, an ``int`` its 8 bytes little-endian, bytes-like are themselves."""

Pods: TypeAlias = Iterable[str | Pod] | Mapping[str, float]
"""Ids, :class:`Pod` objects, or a mapping from id to weight."""


class Ring(NativeRing):
    """An immutable map from keys to pods.

    Equal pods and parameters give equal rings in every process, on every platform and in every
    language, whatever the order in which the pods were named (P1). A change makes another ring;
    only keys of the pods concerned move, plus what the load bound forces (P2). No pod owns more
    than (1 + epsilon) times its fair share of the slots, rounded up (P3).

    Rings compare and hash by their pods and parameters; the epoch, which only counts changes, is
    left out. They can be pickled and shared between threads.

    Args:
        pods: ids, :class:`Pod` objects, or a mapping from id to weight; in any order.
        slots: M, how finely the keys are cut: a power of two from 2 to 2**24 and at least the
            number of pods. Changing it moves keys. With about 256 a pod, changes move close to
            the least.
        epsilon: how far above its fair share a pod may own; 0 to 10.
        seed: enters the hash of the pod ids, so rings of other seeds are independent of this one.

    Raises:
        EmptyViewError, DuplicatePodError, PodIdError, WeightError, ParameterError,
        TooManyPodsError, ArgumentTypeError: each a :class:`ConfigurationError`.

    Warns:
        FewSlotsWarning: fewer than 256 slots a pod, or so few that a light pod owns none.
    """

    __slots__ = ()

    def __new__(
        cls,
        pods: Pods,
        *,
        slots: int = SLOTS_DEFAULT,
        epsilon: float = EPSILON_DEFAULT,
        seed: int = 0,
    ) -> Self:
        """Builds the assignment; about 3 ms at 65,536 slots, without the interpreter lock."""
        view = View(_pods(pods), slots=slots, epsilon=epsilon, seed=seed)
        return cls._of(view)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the ring that :meth:`to_json` described, with the same epoch.

        Raises:
            ViewFormatError: the text is not a view; it says where.
            ConfigurationError: it is one that cannot be built.
        """
        return cls._of(View.from_json(text))

    def to_json(self) -> str:
        """Returns the view as JSON: what decides the mapping, not the table."""
        return self.view.to_json()

    @property
    def epoch(self) -> int:
        """The number of the view: 1 for a new ring, one more for each change of it."""
        return self.view.epoch

    @property
    def slots(self) -> int:
        """M, the number of slots."""
        return self.view.slots

    @property
    def epsilon(self) -> float:
        """How far above its fair share a pod may own."""
        return self.view.epsilon

    @property
    def seed(self) -> int:
        """The seed of the pod ids' hash."""
        return self.view.seed

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All pods of the view, sorted by id; :meth:`owner_indices` counts in this order."""
        return tuple(Pod(*fields) for fields in self.view.pods())

    def pod(self, pod: str) -> Pod:
        """Returns the pod of this id.

        Raises:
            UnknownPodError: the view holds no such pod.
        """
        for fields in self.view.pods():
            if fields[0] == pod:
                return Pod(*fields)
        raise UnknownPodError(
            f"the view holds no pod {pod!r}; it holds {', '.join(repr(p.id) for p in self.pods)}",
            pod=pod,
        )

    def add(self, pod: str | Pod, *, weight: float = 1.0, zone: str | None = None) -> Self:
        """Returns the ring with one more pod, at the next epoch.

        ``weight`` and ``zone`` describe a pod that is given by its id.

        Raises:
            DuplicatePodError: the view holds this id already.
        """
        added = pod if isinstance(pod, Pod) else Pod(pod, weight=weight, zone=zone)
        return self._of(self.view.with_pod(added), self)

    def remove(self, pod: str) -> Self:
        """Returns the ring without this pod, at the next epoch.

        Raises:
            UnknownPodError: the view holds no such pod.
            EmptyViewError: it is the last one that owns slots.
        """
        return self._of(self.view.without_pod(pod), self)

    def reweight(self, pod: str, weight: float) -> Self:
        """Returns the ring in which this pod has another weight, at the next epoch.

        Raises:
            UnknownPodError: the view holds no such pod.
            WeightError: the weight is not finite, not positive, or too large.
        """
        return self._of(self.view.with_weight(pod, weight), self)

    def with_state(self, pod: str, state: PodState) -> Self:
        """Returns the ring in which this pod is in another state, at the next epoch.

        Raises:
            UnknownPodError: the view holds no such pod.
            EmptyViewError: no pod that owns slots would be left.
        """
        return self._of(self.view.with_state(pod, state), self)

    def plan(
        self,
        to: Ring,
        *,
        slots_per_step: int | None = SLOTS_PER_STEP_DEFAULT,
        warm_up_steps: int = 1,
    ) -> Plan:
        """Returns the steps that turn this ring's table into that of ``to``.

        Each step leaves a table in which no pod is above its load bound, the larger of its two
        for a pod that is in both rings. A pod that owns slots here and is ``down`` in ``to`` has
        failed: its slots go to those that are left in the first step, whatever the limits below,
        and the rest of the change follows. (Then the bound among those that are left counts too.)

        Args:
            to: the ring to arrive at.
            slots_per_step: the most moves in a step; None asks for a single step. From one zone
                come at most half of them, so that no zone is emptied at once.
            warm_up_steps: in how many steps, at least, a pod takes its share that owns nothing
                here: none of them gives it more than its share divided by this, rounded up.
                Fewer slots a step may make it more steps.

        Raises:
            PlanError: the rings differ in slots, or no plan of such steps exists; it says why.
            ParameterError, ArgumentTypeError: a limit is not an int of at least 1.
        """
        if not isinstance(to, Ring):
            raise ArgumentTypeError(f"to must be the Ring to arrive at, not {type(to).__name__}")
        plan = self.plan_to(to, slots_per_step, warm_up_steps)
        return Plan(
            steps=tuple(Step(tuple(map(Move._make, moves))) for moves in plan.steps()),
            moved_slots=plan.moved_slots,
            least_slots=plan.least_slots,
            digest_before=self.digest,
            digest_after=to.digest,
        )

    @classmethod
    def _of(cls, view: View, before: Ring | None = None) -> Self:
        ring = super().__new__(cls, view, before)
        for advice in view.advice():
            warnings.warn(advice, FewSlotsWarning, stacklevel=3)
        return ring

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ring):
            return NotImplemented
        return self.view.same_mapping(other.view)

    def __hash__(self) -> int:
        return hash((self.slots, self.digest))

    def __repr__(self) -> str:
        return (
            f"<Ring of {len(self.pods)} pods, slots={self.slots}, epsilon={self.epsilon}, "
            f"seed={self.seed}, epoch={self.epoch}, digest={self.digest}>"
        )

    def _repr_html_(self) -> str:
        """Returns a table of the pods and their shares, which notebooks show."""
        shares = self.shares()
        widest = max(shares.values())
        pods = self.pods
        rows = [_html_row(pod, shares.get(pod.id, 0.0), widest) for pod in pods[:HTML_ROWS_MAX]]
        if len(pods) > HTML_ROWS_MAX:
            more = f"and {len(pods) - HTML_ROWS_MAX:,} more, as <code>shares()</code> has them"
            rows.append(f'<tr><td colspan="6" style="text-align:left">{more}</td></tr>')
        heads = ("pod", "state", "zone", "weight", "share", "")
        return (
            f"<table><caption>Ring of {len(pods):,} pods: {self.slots:,} slots, "
            f"epsilon {self.epsilon:g}, seed {self.seed}, epoch {self.epoch}, "
            f"digest <code>{self.digest}</code></caption>"
            f"<thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self).from_json, (self.to_json(),))


def _html_row(pod: Pod, share: float, widest: float) -> str:
    # A middle blue is seen on light and on dark notebooks.
    bar = f'<div style="width:{share / widest * 12:.2f}em;height:.8em;background:#4a90d9"></div>'
    texts = "".join(
        f'<td style="text-align:left">{html.escape(text)}</td>'
        for text in (pod.id, pod.state, pod.zone or "")
    )
    return f"<tr>{texts}<td>{pod.weight:g}</td><td>{share:.2%}</td><td>{bar}</td></tr>"


def _pods(pods: Pods) -> list[Pod]:
    if isinstance(pods, Mapping):
        return [Pod(pod, weight) for pod, weight in pods.items()]
    if isinstance(pods, str | bytes) or not isinstance(pods, Iterable):
        raise ArgumentTypeError(
            "pods must be ids, Pod objects or a mapping from id to weight, not one "
            f"{type(pods).__name__}; write Ring(['pod-a', 'pod-b'])"
        )
    return [pod if isinstance(pod, Pod) else Pod(pod) for pod in pods]
