"""Whether the promises that the demo exercises held, and what each was judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashroute.demo.records import OK, Answer, Event, Kind, Path, Recording, RingInForce

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hashroute import Ring
    from hashroute.demo.facts import EventFacts, Facts

# P2: how much more than the least a change of the view may move.
MOVED_TO_LEAST_MAX = 1.05
# P6: how long a frozen pod may hold up the requests for its keys, at the default health settings.
FROZEN_SECONDS_MAX = 0.300
RETURNS = {Kind.KILL: Kind.RESTART, Kind.FREEZE: Kind.RESUME}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one promise held in this run.

    Attributes:
        promise: Its number in the design, such as `P1`.
        title: The promise in a few words.
        held: Whether it held.
        judged: What was looked at, and what was found.
    """

    promise: str
    title: str
    held: bool
    judged: str


def verdicts(recording: Recording, facts: Facts) -> tuple[Verdict, ...]:
    """Returns a verdict on each promise that the run exercised: all but P4, single writer."""
    return (
        _determinism(recording, facts),
        _bounded_movement(facts),
        _bounded_load(recording),
        _nothing_lost(recording, facts),
        _recovery_dead(facts),
        _recovery_frozen(facts),
    )


def _determinism(recording: Recording, facts: Facts) -> Verdict:
    digests = [
        {follows.ring.digest, follows.sidecar_digest, *follows.client_digests.values()}
        for follows in recording.rings
    ]
    agreeing = sum(len(distinct) == 1 for distinct in digests)
    judged = [a for a in recording.answers if a.code == OK and a.path is Path.SIDECAR]
    away = sum(not _by_owner(recording, answer) for answer in judged)
    unforeseen = sum(not _foreseen(recording, answer) for answer in judged)
    misnamed = sum(answer.named_pod not in {"", answer.pod} for answer in judged)
    return Verdict(
        promise="P1",
        title="Determinism",
        held=agreeing == len(digests) and away <= facts.requests.detours and misnamed == 0,
        judged=(
            "The sidecar, the demo and each model server, every one handed the pods in another "
            f"order, computed one digest in {agreeing} of {len(digests)} rings. "
            f"{len(judged) - away:,} of {len(judged):,} answers came from the owner of the key. "
            f"Of the other {away:,} all but {unforeseen:,} came from the next on the preference "
            "list while the owner was out; the sidecar itself accounts for "
            f"{facts.requests.detours:,} failovers, retries and spills, and no more may have "
            f"gone elsewhere. {misnamed} carried another pod's name in x-hashroute-pod."
        ),
    )


def _bounded_movement(facts: Facts) -> Verdict:
    changes = [event for event in facts.events if event.event.moved_slots is not None]
    ratio = max((event.moved_to_least for event in changes), default=1.0)
    moved = ", ".join(
        f"{event.event.kind} {event.event.pod} {event.moved_slots:,} of {event.least_slots:,}"
        for event in changes
    )
    return Verdict(
        promise="P2",
        title="Bounded movement",
        held=ratio <= MOVED_TO_LEAST_MAX,
        judged=(
            f"Slots that the sidecar moved against the least possible: {moved}; worst ratio "
            f"{ratio:.3f}, at most {MOVED_TO_LEAST_MAX:.2f}. A pod that dies or freezes moves "
            "none: its own slots fall through to their next preference."
        ),
    )


def _bounded_load(recording: Recording) -> Verdict:
    worst = max(_fullness(follows.ring) for follows in recording.rings)
    return Verdict(
        promise="P3",
        title="Bounded load",
        held=worst <= 1.0,
        judged=(
            f"In {len(recording.rings)} rings no pod may own more slots than (1 + epsilon) times "
            "its weighted "
            f"fair share, rounded up; the fullest pod owned {worst:.1%} of that."
        ),
    )


def _nothing_lost(recording: Recording, facts: Facts) -> Verdict:
    requests = facts.requests
    failed = sum(requests.failed.values())
    ended = len(recording.answers)
    return Verdict(
        promise="P5",
        title="Nothing silently lost or doubled",
        held=ended == requests.sent and requests.unmatched == 0 and failed == 0,
        judged=(
            f"{requests.sent:,} requests were sent and {ended:,} ended; {failed} in an error, "
            f"{requests.unmatched} replies too many."
        ),
    )


def _recovery_dead(facts: Facts) -> Verdict:
    kills = [event for event in facts.events if event.event.kind is Kind.KILL]
    late = sum(event.late_after_done for event in kills)
    return Verdict(
        promise="P6",
        title="Recovery: dead process",
        held=late == 0,
        judged=(
            f"Of the requests for the dead pod's keys sent once the process was gone, {late} were "
            "late (over "
            f"{facts.late_seconds * 1e3:.0f} ms net of machine stalls); the next one already went "
            "elsewhere."
            if late == 0
            else f"{late} requests for the dead pod's keys, sent once the process was gone, were "
            "late "
            f"(over {facts.late_seconds * 1e3:.0f} ms net of machine stalls); none may be."
        ),
    )


def _recovery_frozen(facts: Facts) -> Verdict:
    freezes = [event for event in facts.events if event.event.kind is Kind.FREEZE]
    return Verdict(
        promise="P6",
        title="Recovery: frozen process",
        held=all(_within(event) for event in freezes),
        judged="; ".join(
            f"{event.event.pod}: the last late answer came {event.recovery_seconds * 1e3:.0f} ms "
            "after the freeze, "
            f"the machine itself stalled for {event.stall_seconds * 1e3:.0f} ms of them; the rule "
            "is "
            f"at most {FROZEN_SECONDS_MAX * 1e3:.0f} ms plus the stalls"
            for event in freezes
        )
        + ".",
    )


def _within(event: EventFacts) -> bool:
    return event.recovery_seconds <= FROZEN_SECONDS_MAX + event.stall_seconds


def _fullness(ring: Ring) -> float:
    """Returns the slots of the fullest pod against its bound; above 1.0 the bound is broken."""
    shares = ring.shares()
    owning = [pod for pod in ring.pods if shares[pod.id]]
    weight_total = sum(pod.weight for pod in owning)
    return max(
        round(shares[pod.id] * ring.slots)
        / math.ceil((1 + ring.epsilon) * ring.slots * pod.weight / weight_total)
        for pod in owning
    )


def _by_owner(recording: Recording, answer: Answer) -> bool:
    """Returns whether the owner answered, in any of the rings that may have been followed."""
    return any(
        follows.ring.owner(answer.symbol) == answer.pod
        for follows in _rings_during(recording, answer)
    )


def _foreseen(recording: Recording, answer: Answer) -> bool:
    """Returns whether the pod that answered is one that the preference list names for that time.

    While a pod is out, or may not be known to be back, the list may be walked past it; while the
    ring changes, the ring before and the one after may both be followed.
    """
    out = set(_pods_out(recording, answer))
    for follows in _rings_during(recording, answer):
        for pod in follows.ring.preference(answer.symbol, len(follows.ring.pods)):
            if pod == answer.pod:
                return True
            if pod not in out:
                break
    return False


def _rings_during(recording: Recording, answer: Answer) -> Iterator[RingInForce]:
    """Yields the rings that may have been followed between the request and its answer."""
    successors: Iterable[RingInForce | None] = [*recording.rings[1:], None]
    for follows, successor in zip(recording.rings, successors, strict=True):
        ends = math.inf if successor is None else successor.done_at
        if follows.at <= answer.answered_at and answer.intended_at <= ends:
            yield follows


def _pods_out(recording: Recording, answer: Answer) -> Iterator[str]:
    """Yields the pods that may have been taken for down between the request and its answer."""
    for event in recording.events:
        if event.kind in RETURNS and event.at <= answer.answered_at:
            back = _known_back(recording, event)
            if answer.intended_at <= back:
                yield event.pod


def _known_back(recording: Recording, event: Event) -> float:
    """Returns when the sidecar was first seen to find the pod up, once it was back."""
    returns = [
        other.done_at
        for other in recording.events
        if other.kind is RETURNS[event.kind] and other.pod == event.pod and other.at >= event.at
    ]
    if not returns:
        return math.inf
    return min(
        (
            sample.at
            for sample in recording.samples
            if sample.at >= returns[0] and sample.pods[event.pod].health == "up"
        ),
        default=math.inf,
    )
