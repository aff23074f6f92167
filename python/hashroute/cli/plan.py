"""``hashroute plan``: what a change of the pods would move."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hashroute.cli._common import (
    CouldNotRun,
    Failed,
    epilog,
    json_option,
    load_ring,
    print_json,
    ring_options,
    table,
    weight_of,
)

if TYPE_CHECKING:
    from hashroute import Plan, Ring


@click.command(
    epilog=epilog(
        """
hashroute plan --config hashroute.toml --add pod-e
hashroute plan --remove pod-b --slots-per-step 256
hashroute plan --add pod-e=2 --weight pod-a=0.5 --json
hashroute plan --config hashroute.toml --add pod-e --svg plan.svg
""",
        held="the plan is shown",
        failed="there is no plan of such steps, or no pod would be left",
        unknown="the configuration has errors, no sidecar answers, or wrong usage",
    )
)
@ring_options
@click.option("--add", "added", multiple=True, metavar="ID[=WEIGHT]", help="A pod that joins.")
@click.option("--remove", "removed", multiple=True, metavar="ID", help="A pod that leaves.")
@click.option("--drain", "drained", multiple=True, metavar="ID", help="A pod that drains.")
@click.option("--weight", "weights", multiple=True, metavar="ID=W", help="Another weight.")
@click.option(
    "--slots-per-step",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="The most slots that one step may move.",
)
@click.option(
    "--svg",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw shares and steps into this file, for a browser or a ticket.",
)
@json_option
def plan(
    *,
    file: Path | None,
    control: str,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    drained: tuple[str, ...],
    weights: tuple[str, ...],
    slots_per_step: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show what a change of the pods would move, before it is made. Nothing is changed.

    The options may be repeated; together they are one change. Beside the slots that move stands
    the least that any assignment would have to move. The imbalance is the largest share as a
    multiple of the fair one, which the pod has by its weight alone.
    """
    if not (added or removed or drained or weights):
        raise click.UsageError("say what changes: --add, --remove, --drain or --weight")
    before = load_ring(file, control)
    from hashroute.errors import FewSlotsWarning, HashrouteError, UnknownPodError

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FewSlotsWarning)
            after = _changed(before, added, removed, drained, weights)
        steps = before.plan(after, slots_per_step=slots_per_step)
    except UnknownPodError as error:
        raise click.UsageError(str(error)) from error
    except HashrouteError as error:
        raise Failed(str(error)) from error
    for advice in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"warning: {advice}", err=True)
    facts = _facts(before, after, steps)
    if picture is not None:
        from hashroute.cli._plan_picture import svg

        try:
            picture.write_text(svg(facts), encoding="utf-8")
        except OSError as error:
            raise CouldNotRun(f"cannot write {picture}: {error.strerror}") from error
    if as_json:
        print_json(facts)
    else:
        _show(facts)


def _changed(
    ring: Ring,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    drained: tuple[str, ...],
    weights: tuple[str, ...],
) -> Ring:
    for text in added:
        pod, separator, weight = text.partition("=")
        ring = ring.add(pod, weight=weight_of(weight, "--add") if separator else 1.0)
    for text in weights:
        pod, separator, weight = text.partition("=")
        if not separator:
            raise click.BadParameter(f"{text!r} is not ID=W", param_hint="--weight")
        ring = ring.reweight(pod, weight_of(weight, "--weight"))
    for pod in drained:
        ring = ring.with_state(pod, "draining")
    for pod in removed:
        ring = ring.remove(pod)
    return ring


def _facts(before: Ring, after: Ring, steps: Plan) -> dict[str, Any]:
    return {
        "slots": before.slots,
        "moved_slots": steps.moved_slots,
        "moved_share": steps.moved_slots / before.slots,
        "least_slots": steps.least_slots,
        "steps": [len(step.moves) for step in steps.steps],
        "digest_before": before.digest,
        "digest_after": after.digest,
        "shares_before": before.shares(),
        "shares_after": after.shares(),
        "fair_shares_after": _fair_shares(after),
        "imbalance_before": _imbalance(before),
        "imbalance_after": _imbalance(after),
        "imbalance_max": 1 + after.epsilon,
    }


def _fair_shares(ring: Ring) -> dict[str, float]:
    weights = {pod.id: pod.weight for pod in ring.pods if pod.state in {"joining", "active"}}
    total = math.fsum(weights.values())
    return {pod: weight / total for pod, weight in weights.items()}


def _imbalance(ring: Ring) -> float:
    shares = ring.shares()
    return max(shares.get(pod, 0.0) / fair for pod, fair in _fair_shares(ring).items())


def _show(facts: dict[str, Any]) -> None:
    moved, least, steps = facts["moved_slots"], facts["least_slots"], facts["steps"]
    against = f"{moved / least:.3f} times the least" if least else "nothing had to move"
    click.echo(f"moved slots   {moved:,} of {facts['slots']:,} ({facts['moved_share']:.2%})")
    click.echo(f"least         {least:,} ({against})")
    click.echo(f"steps         {len(steps):,} of at most {max(steps, default=0):,} slots")
    click.echo(
        f"imbalance     {facts['imbalance_after']:.4f} after, {facts['imbalance_before']:.4f} "
        f"before (at most {facts['imbalance_max']:g}, rounded up to whole slots)"
    )
    before, after, fair = (
        facts[name] for name in ("shares_before", "shares_after", "fair_shares_after")
    )
    rows = [
        (
            pod,
            _percent(before.get(pod)),
            _percent(after.get(pod)),
            f"{after.get(pod, 0.0) - before.get(pod, 0.0):+.2%}",
            _percent(fair.get(pod)),
        )
        for pod in sorted({*before, *after})
    ]
    click.echo()
    heads = ("pod", "share before", "after", "change", "fair share after")
    click.echo(table(heads, rows, right={1, 2, 3, 4}))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
