"""``hashroute plan``: what a change of the pods would move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hashroute.cli._common import (
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
    from pathlib import Path

    from hashroute import Plan, Ring


@click.command(
    epilog=epilog(
        """
hashroute plan --config hashroute.toml --add pod-e
hashroute plan --remove pod-b --slots-per-step 256
hashroute plan --add pod-e=2 --weight pod-a=0.5 --json
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
    as_json: bool,
) -> None:
    """Show what a change of the pods would move, before it is made. Nothing is changed.

    The options may be repeated; together they are one change. Beside the slots that move stands
    the least that any assignment would have to move.
    """
    if not (added or removed or drained or weights):
        raise click.UsageError("say what changes: --add, --remove, --drain or --weight")
    before = load_ring(file, control)
    from hashroute.errors import HashrouteError, UnknownPodError

    try:
        after = _changed(before, added, removed, drained, weights)
        steps = before.plan(after, slots_per_step=slots_per_step)
    except UnknownPodError as error:
        raise click.UsageError(str(error)) from error
    except HashrouteError as error:
        raise Failed(str(error)) from error
    if as_json:
        print_json(_facts(before, after, steps))
    else:
        _show(before, after, steps)


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
    }


def _show(before: Ring, after: Ring, steps: Plan) -> None:
    moved, least = steps.moved_slots, steps.least_slots
    against = f"{moved / least:.3f} times the least" if least else "nothing had to move"
    click.echo(f"moved slots   {moved:,} of {before.slots:,} ({moved / before.slots:.2%})")
    click.echo(f"least         {least:,} ({against})")
    largest = max((len(step.moves) for step in steps.steps), default=0)
    click.echo(f"steps         {len(steps.steps)} of at most {largest:,} slots")
    shares_before, shares_after = before.shares(), after.shares()
    rows = [
        (
            pod,
            _percent(shares_before.get(pod)),
            _percent(shares_after.get(pod)),
            f"{shares_after.get(pod, 0.0) - shares_before.get(pod, 0.0):+.2%}",
        )
        for pod in sorted({*shares_before, *shares_after})
    ]
    click.echo()
    click.echo(table(("pod", "share before", "after", "change"), rows, right={1, 2, 3}))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
