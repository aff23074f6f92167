"""``hashroute plan``: what a change of the pods would move."""

from __future__ import annotations

import re
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
    from collections.abc import Sequence

    from hashroute import Ring

ALL = "all"
SHARES_SHOWN_MAX = 8
"""More shares than this fit no line; then those in the middle are left out."""


def _slots_per_step(_context: click.Context, _parameter: click.Parameter, value: str) -> int | None:
    if value == ALL:
        return None
    # Python's own int() takes signs, spaces and underscores too.
    if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise click.BadParameter(f"{value!r} is neither a number from 1 to 999999999 nor {ALL!r}")
    return int(value)


@click.command(
    epilog=epilog(
        """
hashroute plan --config hashroute.toml --add pod-e
hashroute plan --remove pod-b --slots-per-step 256
hashroute plan --add pod-e=2 --weight pod-a=0.5 --json
hashroute plan --config hashroute.toml --add pod-e --svg plan.svg
hashroute plan --add pod-e --warm-up-steps 8 --slots-per-step all
hashroute plan --add pod-e --done 5
hashroute plan --add pod-e --done 5 --undo
hashroute plan --down pod-b
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
@click.option("--down", "failed", multiple=True, metavar="ID", help="A pod that fails.")
@click.option(
    "--slots-per-step",
    default="1024",
    show_default=True,
    callback=_slots_per_step,
    metavar="N|all",
    help="The most slots that one step may move. A pod that fails is no matter of steps: its "
    "slots move in the first.",
)
@click.option(
    "--warm-up-steps",
    default=1,
    show_default=True,
    type=click.IntRange(1, 2**32 - 1),
    help="In how many steps, at least, a pod that joins takes its share.",
)
@click.option(
    "--done",
    metavar="STEPS",
    default=None,
    type=click.IntRange(0),
    help="So many steps were made already, as before a crash: show what is left.",
)
@click.option(
    "--undo",
    "back",
    is_flag=True,
    help="Show the way back: from where --done steps lead, or from the end, to the start.",
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
    failed: tuple[str, ...],
    slots_per_step: int | None,
    warm_up_steps: int,
    done: int | None,
    back: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show what a change of the pods would move, before it is made. Nothing is changed.

    The options that name pods may be repeated; together they are one change. Beside the slots
    that move stands the least that any assignment would have to move. The imbalance is the
    largest share as a multiple of the fair one, which the pod has by its weight alone.

    A plan depends on the pods before, the pods after and its limits alone, so the same command
    with --done shows where a plan that was cut off stands, and with --undo the way back from there.
    """
    if not (added or removed or drained or weights or failed):
        raise click.UsageError("say what changes: --add, --remove, --drain, --down or --weight")
    before = load_ring(file, control)
    from hashroute.cli._plan_facts import Way, facts_of
    from hashroute.errors import FewSlotsWarning, HashrouteError, UnknownPodError

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FewSlotsWarning)
            after = _changed(
                before,
                added=added,
                removed=removed,
                drained=drained,
                weights=weights,
                failed=failed,
            )
        steps = before.plan(after, slots_per_step=slots_per_step, warm_up_steps=warm_up_steps)
    except UnknownPodError as error:
        raise click.UsageError(str(error)) from error
    except HashrouteError as error:
        raise Failed(str(error)) from error
    for advice in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"warning: {advice}", err=True)
    planned = len(steps.steps)
    if done is not None and done > planned:
        raise click.BadParameter(f"the plan has {planned:,} steps", param_hint="--done")
    reached = done if done is not None else planned if back else 0
    limits = {"slots_per_step": slots_per_step, "warm_up_steps": warm_up_steps}
    facts = facts_of(Way(before, after, steps, reached, back)) | limits
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
    *,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    drained: tuple[str, ...],
    weights: tuple[str, ...],
    failed: tuple[str, ...],
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
    for pod in failed:
        ring = ring.with_state(pod, "down")
    for pod in removed:
        ring = ring.remove(pod)
    return ring


def _show(facts: dict[str, Any]) -> None:
    moved, least, steps = facts["moved_slots"], facts["least_slots"], facts["steps"]
    against = f"{moved / least:.3f} times the least" if least else "nothing had to move"
    if facts["back"]:
        click.echo(f"back          from step {facts['steps_done']:,} to the start")
    elif facts["steps_done"]:
        click.echo(f"done          {facts['steps_done']:,} of {facts['steps_planned']:,} steps")
    click.echo(f"moved slots   {moved:,} of {facts['slots']:,} ({facts['moved_share']:.2%})")
    click.echo(f"least         {least:,} ({against})")
    if sum(steps) > moved:
        click.echo(f"moves         {sum(steps):,} (some slots move twice on the way)")
    click.echo(f"steps         {len(steps):,} of at most {max(steps, default=0):,} slots")
    if facts["warm_up_steps"] > 1 and steps:
        for pod, shares in facts["joining"].items():
            click.echo(f"warm-up       {pod}: {_progress(shares)}")
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
    heads = ("pod", "share now" if facts["steps_done"] else "share before", "after", "change")
    click.echo(table((*heads, "fair share after"), rows, right={1, 2, 3, 4}))


def _progress(shares: Sequence[float]) -> str:
    shown = [f"{share:.2%}" for share in shares]
    if len(shown) > SHARES_SHOWN_MAX:
        half = SHARES_SHOWN_MAX // 2
        shown[half:-half] = ["…"]
    return ", ".join(shown)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
