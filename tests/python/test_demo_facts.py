"""The demo's analysis, verdicts, tables and report, each on a recording made to show one thing."""

import json
import math
import random
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hashroute import Pod, Ring
from hashroute.demo import analysis, promises, report, series
from hashroute.demo.analysis import facts
from hashroute.demo.records import (
    Answer,
    ClientTotals,
    Event,
    Kind,
    Path,
    PodSample,
    Recording,
    RingInForce,
    Sample,
    Stall,
    Transport,
)
from hashroute.demo.run import as_json
from hashroute.demo.symbols import Symbols
from hashroute.demo.tables import tables
from hashroute.demo.timeline import JOINS_LATER, RACKS, SCRIPT

SYMBOLS = Symbols.load()
DURATION = 30.0
RATE = 100.0
CALM_SECONDS = 0.001
SIDECAR_SECONDS = 0.0003
# How long the sidecar of these recordings needs to find a frozen pod down.
FROZEN_FOUND_SECONDS = 0.2


def pods_of(names):
    return [Pod(name, zone=RACKS[name]) for name in names]


@cache
def changes():
    """The rings of the run with the act that each follows on; None for the first."""
    first = Ring(pods_of(name for name in RACKS if name != JOINS_LATER))
    drained = first.with_state("pod-a", "draining")
    return (first, None), (drained, Kind.DRAIN), (drained.add(*pods_of([JOINS_LATER])), Kind.ADD)


@cache
def events():
    """The script, each act done in 20 ms; a process that starts takes half a second."""
    moved = {
        kind: before.plan(after).moved_slots for (before, _), (after, kind) in pairwise(changes())
    }
    return tuple(
        Event(
            act.kind,
            act.pod,
            at=act.at * DURATION,
            done_at=act.at * DURATION + (0.5 if act.kind is Kind.RESTART else 0.02),
            moved_slots=moved.get(act.kind),
        )
        for act in SCRIPT.acts
    )


@cache
def rings():
    began = {event.kind: event.at for event in events()}
    return tuple(
        RingInForce(
            ring,
            at=began.get(kind, 0.0),
            done_at=began.get(kind, 0.0) + 0.05,
            sidecar_digest=ring.digest,
            client_digests=dict.fromkeys(("model-1", "model-2"), ring.digest),
        )
        for ring, kind in changes()
    )


def out_at(at):
    """The pods that are out at a moment, with the moment that they went."""
    out = {}
    for event in events():
        if event.at <= at and event.kind in {Kind.KILL, Kind.FREEZE}:
            out[event.pod] = event
        if event.done_at <= at and event.kind in {Kind.RESTART, Kind.RESUME}:
            out.pop(event.pod, None)
    return out


def answers():
    """A run as it should be: the next preference serves while the owner is out, and a freeze is
    found at once."""
    dice = random.Random(7)
    draws = SYMBOLS.draws(7)
    at, number = 0.0, 0
    while (at := at + dice.expovariate(RATE)) < DURATION:
        number += 1
        symbol = next(draws)
        ring, out = ring_at(at), out_at(at)
        served = next(pod for pod in ring.preference(symbol, 4) if pod not in out)
        compares = any(a * DURATION <= at < b * DURATION for a, b in SCRIPT.compared)
        path = Path.DIRECT if compares and number // 2 % 2 else Path.SIDECAR
        latency = CALM_SECONDS * dice.uniform(0.8, 1.2)
        latency += SIDECAR_SECONDS if path is Path.SIDECAR else 0.0
        frozen = out.get(ring.owner(symbol))
        if frozen is not None and frozen.kind is Kind.FREEZE:
            latency += max(0.0, frozen.at + FROZEN_FOUND_SECONDS - at)
        transport = list(Transport)[number % 2]
        named = served if transport is Transport.GRPC and path is Path.SIDECAR else ""
        yield Answer(
            at, latency, f"model-{1 + number % 2}", transport, path, symbol, "OK", served, named
        )


def ring_at(at):
    return [follows.ring for follows in rings() if follows.at <= at][-1]


def samples(asked):
    """What the sidecar says ten times a second; it counts a failover for each key off its owner."""
    for tick in range(int(DURATION * 10) + 1):
        at = tick / 10
        ring, out = ring_at(at), out_at(at)
        away = [a for a in asked if a.intended_at <= at and a.pod != _owner(a)]
        pods = {
            pod.id: PodSample(
                state=pod.state,
                health="down" if pod.id in out else "up",
                in_flight=1,
                spills=0,
                failovers=sum(a.pod == pod.id for a in away),
            )
            for pod in ring.pods
        }
        yield Sample(at, ring.epoch, ring.digest, retries=0, pods=pods)


def _owner(answer):
    return ring_at(answer.intended_at).owner(answer.symbol)


@pytest.fixture(scope="module")
def recording():
    """A run in which everything held."""
    asked = tuple(answers())
    return Recording(
        racks=RACKS,
        duration_seconds=DURATION,
        warm_until=SCRIPT.warm * DURATION,
        compared=tuple((a * DURATION, b * DURATION) for a, b in SCRIPT.compared),
        rate=RATE,
        answers=asked,
        events=events(),
        rings=rings(),
        samples=tuple(samples(asked)),
        stalls=(Stall(0, 5.0, 0.02), Stall(1, 5.01, 0.004)),
        totals={
            name: ClientTotals(sent=sum(a.client == name for a in asked), unmatched=0)
            for name in ("model-1", "model-2")
        },
        health_timeout_seconds=0.15,
    )


def event_facts(recording, kind):
    found = facts(recording, SYMBOLS)
    return next(event for event in found.events if event.event.kind is kind)


def broken(recording):
    """The titles of the promises that did not hold."""
    found = facts(recording, SYMBOLS)
    return [v.title for v in promises.verdicts(recording, found) if not v.held]


def changed(recording, change):
    """The recording with each answer replaced by what `change` makes of it; None leaves it as it
    is."""
    return replace(recording, answers=tuple(change(a) or a for a in recording.answers))


def test_a_good_run_keeps_every_promise(recording):
    assert broken(recording) == []


def test_every_pod_gets_its_share(recording):
    found = facts(recording, SYMBOLS)
    assert sum(pod.request_share for pod in found.pods) == pytest.approx(1)
    assert sum(pod.expected_share for pod in found.pods) == pytest.approx(1)
    assert [pod.slot_share_start > 0 for pod in found.pods] == [True, True, True, True, False]
    assert [pod.slot_share_end > 0 for pod in found.pods] == [False, True, True, True, True]


def test_a_freeze_is_over_when_the_last_late_answer_has_come(recording):
    freeze = event_facts(recording, Kind.FREEZE)
    assert FROZEN_FOUND_SECONDS - 0.03 < freeze.recovery_seconds < FROZEN_FOUND_SECONDS + 0.03
    assert freeze.late > 0
    assert freeze.failed == 0


def test_what_happened_before_and_long_after_an_event_is_not_its_doing(recording):
    freeze = next(event for event in recording.events if event.kind is Kind.FREEZE)
    far = freeze.done_at + FROZEN_FOUND_SECONDS + analysis.EPISODE_GAP_SECONDS + 0.2
    slow = changed(
        recording,
        lambda a: replace(a, latency_seconds=0.09) if far < a.intended_at < far + 0.5 else None,
    )
    assert event_facts(slow, Kind.FREEZE).late > event_facts(recording, Kind.FREEZE).late
    assert (
        event_facts(slow, Kind.FREEZE).recovery_seconds
        == event_facts(recording, Kind.FREEZE).recovery_seconds
    )


def test_a_pod_is_back_when_it_answers_for_its_own_keys_again(recording):
    for kind in (Kind.RESTART, Kind.RESUME, Kind.ADD):
        assert event_facts(recording, kind).back_seconds > 0
    assert event_facts(recording, Kind.KILL).back_seconds is None


def test_added_latency_is_the_difference_of_the_two_ways(recording):
    for added in facts(recording, SYMBOLS).added:
        assert added.direct.count > 100
        assert added.sidecar.count > 100
        assert added.p50 == pytest.approx(SIDECAR_SECONDS, rel=0.3)


def test_answers_while_it_was_cold_are_not_compared(recording):
    assert all(a.intended_at >= recording.warm_until for a in analysis.compared(recording))


@pytest.mark.parametrize(
    ("calm", "late"),
    [(0.001, analysis.LATE_SECONDS_MIN), (0.015, 0.060), (0.500, 0.100)],
)
def test_late_follows_from_the_calm_within_bounds(recording, calm, late):
    steady = changed(recording, lambda a: replace(a, latency_seconds=calm))
    assert analysis.late_seconds(steady) == pytest.approx(late)


def test_percentiles_are_values_that_were_seen():
    assert analysis.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert analysis.percentile([1.0], 0.99) == 1.0
    assert analysis.percentile(list(range(1, 101)), 0.99) == 99
    assert math.isnan(analysis.percentile([], 0.5))


def test_only_the_part_of_a_stall_inside_counts_and_only_the_worst_processor():
    stalls = [Stall(0, 1.0, 0.2), Stall(0, 2.0, 0.1), Stall(1, 1.1, 0.25)]
    assert analysis.stalled_seconds(stalls, 0.0, 3.0) == pytest.approx(0.3)
    assert analysis.stalled_seconds(stalls, 1.1, 1.3) == pytest.approx(0.2)
    assert analysis.stalled_seconds(stalls, 3.0, 4.0) == 0.0


def first_after(recording, at):
    return next(a for a in recording.answers if a.intended_at > at and a.path is Path.SIDECAR)


@pytest.mark.parametrize(
    ("title", "change"),
    [
        ("Nothing silently lost or doubled", {"code": "UNAVAILABLE", "pod": ""}),
        ("Determinism", {"named_pod": "pod-x"}),
        ("Determinism", {"pod": "pod-e"}),
    ],
)
def test_one_bad_answer_breaks_a_promise(recording, title, change):
    victim = first_after(recording, 3.0)
    spoiled = changed(recording, lambda a: replace(a, **change) if a is victim else None)
    assert broken(spoiled) == [title]


def test_a_request_without_an_end_breaks_a_promise(recording):
    assert broken(replace(recording, answers=recording.answers[:-1])) == [
        "Nothing silently lost or doubled"
    ]


def test_an_answer_too_many_breaks_a_promise(recording):
    totals = dict(recording.totals)
    totals["model-1"] = replace(totals["model-1"], unmatched=1)
    assert broken(replace(recording, totals=totals)) == ["Nothing silently lost or doubled"]


@pytest.mark.parametrize("change", [{"sidecar_digest": "0"}, {"client_digests": {"model-1": "0"}}])
def test_another_digest_breaks_a_promise(recording, change):
    last = replace(recording.rings[-1], **change)
    assert broken(replace(recording, rings=(*recording.rings[:-1], last))) == ["Determinism"]


def test_an_answer_by_another_pod_must_be_on_the_sidecars_account(recording):
    victim = first_after(recording, 3.0)
    other = recording.rings[0].ring.preference(victim.symbol, 2)[1]
    away = changed(
        recording, lambda a: replace(a, pod=other, named_pod="") if a is victim else None
    )
    assert broken(away) == ["Determinism"]
    last = recording.samples[-1]
    for counted in (
        replace(last, retries=last.retries + 1),
        replace(last, pods=last.pods | {other: replace(last.pods[other], spills=1)}),
    ):
        assert broken(replace(away, samples=(*recording.samples[:-1], counted))) == []


def test_retries_are_those_that_the_sidecar_counted_since_the_event(recording):
    freeze = next(event for event in recording.events if event.kind is Kind.FREEZE)
    retried = tuple(replace(s, retries=9 if s.at > freeze.at else 2) for s in recording.samples)
    counted = replace(recording, samples=retried)
    assert event_facts(counted, Kind.FREEZE).retried == 7
    assert event_facts(counted, Kind.KILL).retried == 0


def test_a_drained_pod_that_goes_on_answering_breaks_a_promise(recording):
    drained = next(event for event in recording.events if event.kind is Kind.DRAIN)
    ring = recording.rings[0].ring
    stale = changed(
        recording,
        lambda a: (
            replace(a, pod="pod-a", named_pod="")
            if a.intended_at > drained.at + 0.1 and ring.owner(a.symbol) == "pod-a"
            else None
        ),
    )
    assert broken(stale) == ["Determinism"]


def test_moving_more_than_the_least_breaks_a_promise(recording):
    greedy = tuple(
        replace(event, moved_slots=event.moved_slots * 11 // 10) if event.moved_slots else event
        for event in recording.events
    )
    assert broken(replace(recording, events=greedy)) == ["Bounded movement"]


def test_a_pod_above_its_bound_breaks_a_promise(recording):
    class Overfull:
        def __init__(self, ring):
            self._ring = ring

        def __getattr__(self, name):
            return getattr(self._ring, name)

        def shares(self):
            return {**self._ring.shares(), "pod-d": 0.3}

    last = replace(recording.rings[-1], ring=Overfull(recording.rings[-1].ring))
    overfull = replace(recording, rings=(*recording.rings[:-1], last))
    found = facts(recording, SYMBOLS)
    held = {v.title: v.held for v in promises.verdicts(overfull, found)}
    assert not held["Bounded load"]


def slow_after(recording, kind, seconds):
    """The recording in which the keys of the pod concerned wait `seconds` right after an event."""
    event = next(event for event in recording.events if event.kind is kind)
    ring = recording.rings[0].ring
    return event, changed(
        recording,
        lambda a: (
            replace(a, latency_seconds=max(a.latency_seconds, event.at + seconds - a.intended_at))
            if event.at <= a.intended_at < event.at + seconds and ring.owner(a.symbol) == event.pod
            else None
        ),
    )


@pytest.mark.parametrize(
    ("kind", "title"),
    [(Kind.KILL, "Recovery: dead process"), (Kind.FREEZE, "Recovery: frozen process")],
)
def test_a_slow_recovery_breaks_a_promise_unless_the_machine_stalled_for_it(recording, kind, title):
    event, slow = slow_after(recording, kind, 0.4)
    assert broken(slow) == [title]
    stalled = replace(slow, stalls=(Stall(0, event.at, 0.4),))
    assert broken(stalled) == []


def test_a_frozen_pod_may_cost_the_machines_stalls_on_top(recording):
    event, slow = slow_after(recording, Kind.FREEZE, 0.4)
    for stalled, titles in ((0.05, ["Recovery: frozen process"]), (0.15, [])):
        stalls = (Stall(0, event.at + 0.01, stalled),)
        assert broken(replace(slow, stalls=stalls)) == titles


def test_conditions_follow_the_events(recording):
    words = {pod: [span.word for span in series.conditions(recording, pod)] for pod in RACKS}
    assert words == {
        "pod-a": ["serving", "drained"],
        "pod-b": ["serving", "dead", "serving"],
        "pod-c": ["serving", "frozen", "serving"],
        "pod-d": ["serving"],
        "pod-e": ["not in the ring", "serving"],
    }


def test_what_the_sidecar_saw_follows_the_samples(recording):
    words = {pod: [span.word for span in series.seen_health(recording, pod)] for pod in RACKS}
    assert words == {
        "pod-a": ["up", "drained"],
        "pod-b": ["up", "down", "up"],
        "pod-c": ["up", "down", "up"],
        "pod-d": ["up"],
        "pod-e": ["up"],
    }


def test_bins_hold_every_answer_once(recording):
    cut = series.bins(recording, 0.5)
    answered = sum(sum(one.rates.values()) for one in cut) * 0.5
    inside = sum(answer.answered_at < DURATION for answer in recording.answers)
    assert answered == pytest.approx(inside)


def test_every_row_of_every_table_fits_its_columns(recording):
    for table in tables(facts(recording, SYMBOLS)):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}


@pytest.fixture(scope="module")
def page(recording):
    found = facts(recording, SYMBOLS)
    return report.page(recording, found, promises.verdicts(recording, found))


def test_the_report_needs_nothing_beside_itself(page):
    assert not re.findall(r"""(?:src|href)\s*=|@import|url\(|https?://""", page)


def test_the_picture_shows_every_pod_and_every_event(page):
    picture = ET.fromstring(  # noqa: S314  # our own page
        page[page.index("<svg") : page.index("</svg>") + 6]
    )
    words = {text.text for text in picture.iter("text")}
    assert words >= set(RACKS)
    assert words >= {f"{act.kind} {act.pod}" for act in SCRIPT.acts}
    assert words >= {"dead", "frozen", "drained", "not in the ring"}


def test_the_report_says_which_promise_did_not_hold(recording):
    failing = replace(recording, answers=recording.answers[:-1])
    found = facts(failing, SYMBOLS)
    text = report.page(failing, found, promises.verdicts(failing, found))
    assert "Did not hold: P5 (Nothing silently lost or doubled)" in text


def test_json_holds_the_facts_and_the_verdicts(recording, tmp_path):
    quiet = replace(recording, compared=())
    found = facts(quiet, SYMBOLS)
    told = json.loads(as_json(found, promises.verdicts(quiet, found), tmp_path / "index.html"))
    assert told["held"] is True
    assert told["requests"]["sent"] == len(recording.answers)
    assert [event["kind"] for event in told["events"]] == [act.kind for act in SCRIPT.acts]
    assert told["added"][0]["direct"] == {"count": 0, "p50": None, "p99": None}
    assert [verdict["promise"] for verdict in told["promises"]] == [
        "P1",
        "P2",
        "P3",
        "P5",
        "P6",
        "P6",
    ]
