"""From what a run recorded to the facts that it shows: pure functions, nothing is measured here."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from hashroute.demo.facts import (
    AddedLatency,
    EventFacts,
    Facts,
    Latency,
    PodFacts,
    Requests,
    Stalls,
)
from hashroute.demo.records import (
    OK,
    Answer,
    Event,
    Kind,
    Path,
    Recording,
    Sample,
    Stall,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hashroute import Ring
    from hashroute.demo.symbols import Symbols

# A request is late if it took longer than this many times what 99 of 100 take in calm …
LATE_CALM_FACTOR = 4.0
# … but what nobody would notice is never late, and what outlasts most of the health timeout always
# is.
LATE_SECONDS_MIN = 0.025
LATE_TIMEOUT_FRACTION = 2 / 3
# Late requests further apart than this are not of one episode: the later ones are not the event's
# doing.
EPISODE_GAP_SECONDS = 0.5


def facts(recording: Recording, symbols: Symbols) -> Facts:
    """Returns the facts of `recording`."""
    threshold = late_seconds(recording)
    windows = event_windows(recording)
    return Facts(
        duration_seconds=recording.duration_seconds,
        rate=recording.rate,
        requests=_requests(recording),
        late_seconds=threshold,
        pods=_pods(recording, symbols),
        events=tuple(_event(recording, event, end, threshold) for event, end in windows),
        added=tuple(_added(recording, transport) for transport in Transport),
        stalls=_stalls(recording.stalls),
    )


def percentile(values: Sequence[float], fraction: float) -> float:
    """Returns the smallest of `values` that at least `fraction` of them do not exceed.

    NaN if there are no values.
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def latency(answers: Iterable[Answer]) -> Latency:
    """Returns the latencies of the good ones among `answers`."""
    seconds = [answer.latency_seconds for answer in answers if answer.code == OK]
    return Latency(len(seconds), percentile(seconds, 0.50), percentile(seconds, 0.99))


def late_seconds(recording: Recording) -> float:
    """Returns the latency above which a request of this run is late."""
    calm = latency(answer for answer in compared(recording) if answer.path is Path.SIDECAR).p99
    ceiling = recording.health_timeout_seconds * LATE_TIMEOUT_FRACTION
    wanted = ceiling if math.isnan(calm) else LATE_CALM_FACTOR * calm
    return min(max(wanted, LATE_SECONDS_MIN), ceiling)


def compared(recording: Recording) -> list[Answer]:
    """Returns the answers of the time in which requests went both ways and all was warm."""
    spans = [(max(start, recording.warm_until), end) for start, end in recording.compared]
    return [
        answer
        for answer in recording.answers
        if any(start <= answer.intended_at < end for start, end in spans)
    ]


def event_windows(recording: Recording) -> list[tuple[Event, float]]:
    """Returns each event with the moment at which the next one begins, or the requests end."""
    ends = [event.at for event in recording.events[1:]] + [recording.duration_seconds]
    return list(zip(recording.events, ends, strict=True))


def stalled_seconds(stalls: Iterable[Stall], start: float, end: float) -> float:
    """Returns how long the worst of the processors stalled between `start` and `end`."""
    overlaps: dict[int, float] = {}
    for stall in stalls:
        overlap = min(end, stall.at + stall.seconds) - max(start, stall.at)
        if overlap > 0:
            overlaps[stall.cpu] = overlaps.get(stall.cpu, 0.0) + overlap
    return max(overlaps.values(), default=0.0)


def is_late(answer: Answer, stalls: Iterable[Stall], threshold: float) -> bool:
    """Returns whether `answer` took longer than `threshold`, net of the machine's own stalls."""
    if answer.latency_seconds <= threshold:
        return False
    stalled = stalled_seconds(stalls, answer.intended_at, answer.answered_at)
    return answer.latency_seconds - stalled > threshold


def _requests(recording: Recording) -> Requests:
    first, last = recording.samples[0], recording.samples[-1]
    return Requests(
        sent=sum(totals.sent for totals in recording.totals.values()),
        answered=sum(answer.code == OK for answer in recording.answers),
        failed=Counter(answer.code for answer in recording.answers if answer.code != OK),
        unmatched=sum(totals.unmatched for totals in recording.totals.values()),
        retried=last.retries - first.retries,
        detours=last.detours - first.detours,
    )


def _pods(recording: Recording, symbols: Symbols) -> tuple[PodFacts, ...]:
    answered = Counter(
        answer.pod
        for answer in recording.answers
        if answer.code == OK and answer.path is Path.SIDECAR
    )
    start, end = recording.rings[0].ring.shares(), recording.rings[-1].ring.shares()
    expected = _expected_shares(recording, symbols)
    return tuple(
        PodFacts(
            pod=pod,
            rack=rack,
            slot_share_start=start.get(pod, 0.0),
            slot_share_end=end.get(pod, 0.0),
            requests=answered[pod],
            request_share=answered[pod] / max(1, answered.total()),
            expected_share=expected.get(pod, 0.0),
        )
        for pod, rack in recording.racks.items()
    )


def _expected_shares(recording: Recording, symbols: Symbols) -> dict[str, float]:
    names = list(symbols)
    ends = [follows.at for follows in recording.rings[1:]] + [recording.duration_seconds]
    shares: dict[str, float] = {}
    for follows, end in zip(recording.rings, ends, strict=True):
        part = (end - max(0.0, follows.at)) / recording.duration_seconds
        for symbol, owner in zip(names, follows.ring.owners(names), strict=True):
            shares[owner] = shares.get(owner, 0.0) + part * symbols.volume_share(symbol)
    return shares


def _event(recording: Recording, event: Event, end: float, threshold: float) -> EventFacts:
    ended = [answer for answer in recording.answers if event.at <= answer.answered_at < end]
    touched = _touched_keys(recording, event)
    # A request that was under way when the event struck is the first to feel it.
    felt = [
        answer
        for answer in recording.answers
        if event.at <= answer.answered_at
        and answer.intended_at < end
        and answer.path is Path.SIDECAR
        and touched(answer.symbol)
    ]
    episode = _episode(felt, event, recording.stalls, threshold)
    recovery = max((answer.answered_at for answer in episode), default=event.at) - event.at
    moved, least = _moved(recording, event)
    retries = [sample_before(recording, moment).retries for moment in (event.at, end)]
    return EventFacts(
        event=event,
        moved_slots=moved,
        least_slots=least,
        requests=len(ended),
        failed=sum(answer.code != OK for answer in ended),
        retried=retries[1] - retries[0],
        late=sum(is_late(answer, recording.stalls, threshold) for answer in ended),
        late_after_done=sum(answer.intended_at >= event.done_at for answer in episode),
        recovery_seconds=recovery,
        stall_seconds=stalled_seconds(recording.stalls, event.at, event.at + recovery),
        back_seconds=_back_seconds(felt, event),
    )


def _episode(
    felt: Iterable[Answer], event: Event, stalls: Sequence[Stall], threshold: float
) -> list[Answer]:
    """Returns the late ones among `felt` that follow on the event without a gap."""
    episode: list[Answer] = []
    calm_from = event.done_at
    for answer in felt:
        if not is_late(answer, stalls, threshold):
            continue
        if answer.intended_at - calm_from > EPISODE_GAP_SECONDS:
            break
        episode.append(answer)
        calm_from = max(calm_from, answer.answered_at)
    return episode


def _touched_keys(recording: Recording, event: Event) -> Callable[[str], bool]:
    """Returns whether a symbol is one that the event may disturb: its pod's own."""
    before, after = _rings_around(recording, event)
    ring = after if event.kind is Kind.ADD else before
    return lambda symbol: ring.owner(symbol) == event.pod


def _moved(recording: Recording, event: Event) -> tuple[int, int]:
    """Returns the slots that the event moved, and the fewest that it could have."""
    before, after = _rings_around(recording, event)
    if event.moved_slots is not None:
        return event.moved_slots, before.plan(after).least_slots
    # The ring stays as it is: the pod's own slots fall through to their next preference, or return
    # from it.
    own = round(before.shares()[event.pod] * before.slots)
    return own, own


def _rings_around(recording: Recording, event: Event) -> tuple[Ring, Ring]:
    """Returns the rings in force just before the event and once it was done."""
    before = [follows.ring for follows in recording.rings if follows.at < event.at]
    after = [follows.ring for follows in recording.rings if follows.at <= event.done_at]
    return before[-1], after[-1]


def _back_seconds(felt: Iterable[Answer], event: Event) -> float | None:
    """Returns how long after a pod could serve again its first own answer came."""
    if event.kind not in {Kind.RESTART, Kind.RESUME, Kind.ADD}:
        return None
    own = [a.answered_at for a in felt if a.pod == event.pod and a.intended_at >= event.done_at]
    return min(own) - event.done_at if own else None


def sample_before(recording: Recording, moment: float) -> Sample:
    """Returns the last sample taken at or before `moment`, or else the first one."""
    before = [sample for sample in recording.samples if sample.at <= moment]
    return before[-1] if before else recording.samples[0]


def _added(recording: Recording, transport: Transport) -> AddedLatency:
    mine = [answer for answer in compared(recording) if answer.transport is transport]
    return AddedLatency(
        transport=transport,
        direct=latency(answer for answer in mine if answer.path is Path.DIRECT),
        sidecar=latency(answer for answer in mine if answer.path is Path.SIDECAR),
    )


def _stalls(stalls: Sequence[Stall]) -> Stalls:
    return Stalls(
        count=len(stalls),
        longest_seconds=max((stall.seconds for stall in stalls), default=0.0),
        total_seconds=sum(stall.seconds for stall in stalls),
    )
