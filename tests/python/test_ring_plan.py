"""Plans through `Ring.plan`: what every step keeps to, what cannot be, and the way back."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import hashroute
import pytest
from hashroute import Plan, Pod, Ring, Step
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.python.test_ring_properties import ceilings, held, owners_by_slot

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")

ZONES = ["rack-1", "rack-2", "rack-3", None]
PODS = st.lists(
    st.builds(
        Pod,
        st.sampled_from([f"pod-{number:02}" for number in range(16)]),
        st.sampled_from([0.3, 1.0, 1.0, 1.0, 2.0, 7.5]),
        st.sampled_from(ZONES),
        st.sampled_from(["active", "active", "active", "joining", "draining", "down"]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda pod: pod.id,
).filter(lambda pods: any(pod.state in {"active", "joining"} for pod in pods))
LIMITS = st.fixed_dictionaries(
    {
        "slots_per_step": st.one_of(st.none(), st.integers(1, 80)),
        "warm_up_steps": st.integers(1, 9),
    }
)


@st.composite
def changes(draw) -> tuple[Ring, Ring]:
    """Two rings that share parameters, and as many pods as chance will have it."""
    parameters = {
        "slots": 2 ** draw(st.integers(4, 9)),
        "epsilon": draw(st.sampled_from([0.02, 1])),
    }
    return Ring(draw(PODS), **parameters), Ring(draw(PODS), **parameters)


def limits_of(pods: Iterable[Pod], like: Ring) -> Counter[str]:
    """The load bound of each of these pods in a ring with the parameters of ``like``."""
    owning = [pod for pod in pods if pod.state in {"active", "joining"}]
    if not owning:
        return Counter()
    return Counter(ceilings(Ring(owning, slots=like.slots, epsilon=like.epsilon)))


def tables(plan: Plan, ring: Ring) -> list[list[str]]:
    return [plan.apply(ring, steps=done) for done in range(len(plan.steps) + 1)]


def made(owners: list[str], steps: tuple[Step, ...]) -> list[str]:
    """The table after these steps, each move of which must find what it expects."""
    owners = list(owners)
    for step in steps:
        assert step.moves
        assert len({move.slot for move in step.moves}) == len(step.moves)
        for move in step.moves:
            assert owners[move.slot] == move.source
            owners[move.slot] = move.target
    return owners


def failed_pods(before: Ring, after: Ring) -> set[str]:
    owned = before.shares()
    return {pod.id for pod in after.pods if pod.state == "down" and owned.get(pod.id)}


@given(change=changes(), limits=LIMITS)
@settings(deadline=None)
def test_every_step_keeps_to_the_bound_and_the_limits_and_leaves_failed_pods_alone(change, limits):
    before, after = change
    try:
        plan = before.plan(after, **limits)
    except hashroute.PlanError:
        assume(False)
    assert made(owners_by_slot(before), plan.steps) == owners_by_slot(after)

    failed = failed_pods(before, after)
    bounds = limits_of(before.pods, before) | limits_of(after.pods, after)
    if failed:
        left = [pod for pod in before.pods if pod.id not in failed]
        bounds |= limits_of(left, before)
    on_the_way = [Counter(owners) for owners in tables(plan, before)]
    planned = on_the_way[1:] if failed else on_the_way
    newcomers = {pod for pod, count in held(after).items() if not planned[0][pod]}
    share = {pod: -(-held(after)[pod] // limits["warm_up_steps"]) for pod in newcomers}
    for counts in on_the_way:
        assert all(count <= bounds[pod] for pod, count in counts.items())
    assert not any(failed & counts.keys() for counts in on_the_way[1:])
    for had, has in pairwise(planned):
        assert all(has[pod] - had[pod] <= max(share[pod], 1) for pod in newcomers)
    budget = limits["slots_per_step"] or before.slots
    for step in plan.steps[1:] if failed else plan.steps:
        assert len(step.moves) <= budget


@given(change=changes(), limits=LIMITS, part=st.floats(0, 1))
@settings(deadline=None)
def test_a_plan_is_resumed_and_undone_from_any_step(change, limits, part):
    before, after = change
    try:
        plan = before.plan(after, **limits)
    except hashroute.PlanError:
        assume(False)
    done = round(part * len(plan.steps))
    reached = made(owners_by_slot(before), plan.steps[:done])
    # Another process knows the two rings, the limits and the number of steps, and nothing else.
    again = Ring.from_json(before.to_json()).plan(Ring.from_json(after.to_json()), **limits)
    assert again == plan
    assert again.apply(before, steps=done) == reached
    assert made(reached, again.steps[done:]) == owners_by_slot(after)
    back = plan.undo(steps=done)
    assert made(reached, back) == owners_by_slot(before)
    passed = [made(reached, back[:count]) for count in range(done + 1)]
    assert passed == tables(plan, before)[done::-1]


def test_a_joining_pod_takes_its_share_over_as_many_steps_as_asked():
    ring = Ring([f"pod-{number}" for number in range(4)])
    wider = ring.add("pod-new")
    plan = ring.plan(wider, slots_per_step=None, warm_up_steps=8)
    assert len(plan.steps) == 8
    shares = [owners.count("pod-new") / ring.slots for owners in tables(plan, ring)]
    even = [step / 8 * wider.shares()["pod-new"] for step in range(9)]
    assert shares == pytest.approx(even, abs=8 / ring.slots)


def test_a_budget_smaller_than_the_share_of_a_warm_up_step_makes_it_more_steps():
    ring = Ring(["pod-a", "pod-b"], slots=1024, epsilon=0.25)
    plan = ring.plan(ring.add("pod-c"), slots_per_step=10, warm_up_steps=2)
    assert [len(step.moves) for step in plan.steps[:-1]] == [10] * (len(plan.steps) - 1)


def test_a_warm_up_is_for_pods_that_own_nothing_yet():
    ring = Ring({"pod-a": 1.0, "pod-b": 0.25})
    assert (
        len(ring.plan(ring.reweight("pod-b", 1), slots_per_step=None, warm_up_steps=9).steps) == 1
    )


def test_a_failure_is_one_step_whatever_the_budget():
    ring = Ring([f"pod-{number}" for number in range(4)])
    plan = ring.plan(ring.with_state("pod-0", "down"), slots_per_step=10, warm_up_steps=5)
    assert [len(step.moves) for step in plan.steps] == [plan.moved_slots]
    assert plan.moved_slots >= held(ring)["pod-0"] > 10


def test_the_rest_of_a_change_follows_a_failure_in_its_own_steps():
    ring = Ring([f"pod-{number}" for number in range(4)])
    after = ring.with_state("pod-0", "down").add("pod-new")
    plan = ring.plan(after, slots_per_step=None, warm_up_steps=4)
    shares = [owners.count("pod-new") for owners in tables(plan, ring)]
    assert shares[:2] == [0, 0]
    assert len(plan.steps) == 5
    assert plan.steps[0] == ring.plan(ring.with_state("pod-0", "down")).steps[0]


def test_when_everybody_failed_whoever_is_new_takes_over_in_one_step():
    ring = Ring([Pod("old-1"), Pod("old-2"), Pod("spare", state="draining")])
    after = (
        ring.with_state("spare", "active").with_state("old-1", "down").with_state("old-2", "down")
    )
    (step,) = ring.plan(after, slots_per_step=1, warm_up_steps=9).steps
    assert {move.target for move in step.moves} == {"spare"}


def test_no_zone_gives_more_than_half_of_a_step():
    pods = [Pod(f"{zone}-{number}", zone=zone) for zone in "AB" for number in range(4)]
    ring = Ring(pods, slots=4096, epsilon=0.25)
    emptied = ring
    for pod in pods[:4]:
        emptied = emptied.with_state(pod.id, "draining")
    plan = ring.plan(emptied, slots_per_step=100)
    for step in plan.steps:
        assert sum(move.source.startswith("A") for move in step.moves) <= 50
    # Without zones nothing would hold the steps back.
    alone = Ring([pod.id for pod in pods], slots=4096, epsilon=0.25)
    assert len(plan.steps) > alone.slots / 2 / 100 * 1.5


def test_a_plan_that_cannot_exist_says_why_and_what_would_help():
    pods = [f"pod-{number}" for number in range(8)]
    ring, other = (Ring(pods, slots=64, epsilon=0, seed=seed) for seed in (0, 1))
    with pytest.raises(
        hashroute.PlanError, match=r"no plan: (\d) full pods.*allow \1 slots"
    ) as caught:
        ring.plan(other, slots_per_step=1)
    assert caught.value.code == "no_slack"
    (needed,) = [int(word) for word in str(caught.value).split() if word.isdigit()][:1]
    assert ring.plan(other, slots_per_step=max(needed, 8)).moved_slots > 0


@pytest.mark.parametrize(
    ("limits", "expected", "code"),
    [
        ({"slots_per_step": 0}, hashroute.PlanError, "zero_slots_per_step"),
        ({"slots_per_step": -1}, hashroute.ParameterError, "parameter"),
        ({"slots_per_step": 2**32}, hashroute.ParameterError, "parameter"),
        ({"slots_per_step": 1.5}, hashroute.ArgumentTypeError, "argument_type"),
        ({"warm_up_steps": 0}, hashroute.PlanError, "zero_warm_up_steps"),
        ({"warm_up_steps": -1}, hashroute.ParameterError, "parameter"),
        ({"warm_up_steps": 2**32}, hashroute.ParameterError, "parameter"),
        ({"warm_up_steps": None}, hashroute.ArgumentTypeError, "argument_type"),
        ({"warm_up_steps": "3"}, hashroute.ArgumentTypeError, "argument_type"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(limits, expected, code):
    ring = Ring(["pod-a", "pod-b"])
    for after in (ring.add("pod-c"), ring.with_state("pod-a", "down")):
        with pytest.raises(expected, match=next(iter(limits))) as caught:
            ring.plan(after, **limits)
        assert caught.value.code == code


def test_a_plan_names_its_two_rings_and_is_refused_for_others():
    ring = Ring(["pod-a", "pod-b"])
    wider = ring.add("pod-c")
    plan = ring.plan(wider)
    assert (plan.digest_before, plan.digest_after) == (ring.digest, wider.digest)
    assert plan.apply(ring) == owners_by_slot(wider)
    for other in (wider, Ring(["pod-a", "pod-z"]), Ring(["pod-a", "pod-b"], slots=1024)):
        with pytest.raises(hashroute.PlanError, match=f"{ring.digest}.*{other.digest}") as caught:
            plan.apply(other)
        assert caught.value.code == "other_ring"
    with pytest.raises(hashroute.ArgumentTypeError, match="not list"):
        plan.apply(["pod-a", "pod-b"])


@pytest.mark.parametrize("steps", [-1, 99, 2**70])
def test_a_plan_has_no_more_steps_than_it_has(steps):
    ring = Ring(["pod-a", "pod-b"])
    plan = ring.plan(ring.add("pod-c"))
    for call in (lambda: plan.apply(ring, steps=steps), lambda: plan.undo(steps=steps)):
        with pytest.raises(hashroute.ParameterError, match=rf"0 \.\. {len(plan.steps)}"):
            call()
    with pytest.raises(hashroute.ArgumentTypeError, match="not str"):
        plan.undo(steps="all")


def test_a_plan_is_a_value():
    ring = Ring(["pod-a", "pod-b"])
    plan = ring.plan(ring.add("pod-c"))
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301
    assert len({plan, ring.plan(ring.add("pod-c"))}) == 1
    with pytest.raises(AttributeError):
        plan.moved_slots = 0
