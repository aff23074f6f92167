"""The recording cut along time: what the pictures, on paper and in the terminal, are drawn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from hashroute.demo.analysis import percentile
from hashroute.demo.records import OK, Answer, Kind, Path, Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Condition(StrEnum):
    """What a pod really was, whether or not anybody knew."""

    SERVING = "serving"
    DEAD = "dead"
    FROZEN = "frozen"
    DRAINED = "drained"
    OUTSIDE = "not in the ring"


CONDITION_AFTER = {
    Kind.KILL: Condition.DEAD,
    Kind.RESTART: Condition.SERVING,
    Kind.FREEZE: Condition.FROZEN,
    Kind.RESUME: Condition.SERVING,
    Kind.DRAIN: Condition.DRAINED,
    Kind.ADD: Condition.SERVING,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the run in which one word holds."""

    start: float
    end: float
    word: str


@dataclass(frozen=True, slots=True)
class Bin:
    """One stretch of the run.

    Attributes:
        start: When it begins.
        rates: Answers a second, by the pod that gave them.
        failed: Requests that ended in an error.
        p50: Median latency of the answers through the sidecar that were asked for here, in seconds;
            NaN if none.
        p99: Their 99th percentile.
    """

    start: float
    rates: dict[str, float]
    failed: int
    p50: float
    p99: float


def bins(recording: Recording, seconds: float) -> list[Bin]:
    """Returns the run in stretches of `seconds`; the rest that fills none is left out."""
    count = int(recording.duration_seconds / seconds)
    answered = _grouped(recording.answers, count, seconds, key=lambda a: a.answered_at)
    asked = _grouped(recording.answers, count, seconds, key=lambda a: a.intended_at)
    return [_bin(index * seconds, seconds, answered[index], asked[index]) for index in range(count)]


def conditions(recording: Recording, pod: str) -> list[Span]:
    """Returns what `pod` was over the whole run, without gaps."""
    turns = list(_turns(recording, pod))
    ends = [start for start, _ in turns[1:]] + [recording.duration_seconds]
    return [
        Span(start, end, word)
        for (start, word), end in zip(turns, ends, strict=True)
        if end > start
    ]


def seen_health(recording: Recording, pod: str) -> list[Span]:
    """Returns what the sidecar took `pod` for while it was in the ring.

    One of its words for health, or `drained` once it owned nothing.
    """
    spans: list[Span] = []
    for sample, following in pairwise([*recording.samples, None]):
        if sample is None or pod not in sample.pods:
            continue
        seen = sample.pods[pod]
        word = "drained" if seen.state in {"draining", "down"} else seen.health
        end = recording.duration_seconds if following is None else following.at
        if spans and spans[-1].word == word and spans[-1].end == sample.at:
            spans[-1] = Span(spans[-1].start, end, word)
        else:
            spans.append(Span(max(0.0, sample.at), end, word))
    return [span for span in spans if span.end > span.start]


def _turns(recording: Recording, pod: str) -> Iterator[tuple[float, Condition]]:
    in_first_ring = pod in {member.id for member in recording.rings[0].ring.pods}
    yield 0.0, Condition.SERVING if in_first_ring else Condition.OUTSIDE
    for event in recording.events:
        if event.pod == pod:
            after = CONDITION_AFTER[event.kind]
            yield event.done_at if after is Condition.SERVING else event.at, after


def _grouped(
    answers: Iterable[Answer], count: int, seconds: float, *, key: Callable[[Answer], float]
) -> list[list[Answer]]:
    groups: list[list[Answer]] = [[] for _ in range(count)]
    for answer in answers:
        index = int(key(answer) / seconds)
        if 0 <= index < count:
            groups[index].append(answer)
    return groups


def _bin(start: float, seconds: float, answered: Sequence[Answer], asked: Sequence[Answer]) -> Bin:
    by_pod = Counter(answer.pod for answer in answered if answer.code == OK)
    through = [
        answer.latency_seconds
        for answer in asked
        if answer.code == OK and answer.path is Path.SIDECAR
    ]
    return Bin(
        start=start,
        rates={pod: count / seconds for pod, count in by_pod.items()},
        failed=sum(answer.code != OK for answer in answered),
        p50=percentile(through, 0.50),
        p99=percentile(through, 0.99),
    )
