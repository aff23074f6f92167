"""``hashroute reweight``: another weight for a pod."""

from __future__ import annotations

import click

from hashroute.cli._common import (
    UNREACHED,
    call,
    control_option,
    epilog,
    json_option,
    show_change,
    stub,
)


@click.command(
    epilog=epilog(
        """
hashroute plan --weight pod-a=0.5
hashroute reweight pod-a 0.5
""",
        held="the pod has this weight",
        failed="no such pod, or no such weight",
        unknown=UNREACHED,
    )
)
@click.argument("pod")
@click.argument("weight", type=float)
@control_option
@json_option
def reweight(pod: str, weight: float, control: str, *, as_json: bool) -> None:
    """Change how much POD owns relative to the others.

    It lasts until the next reload; to keep it, write it into the configuration too. Under a quorum
    the record is changed, for every router, and it lasts.
    """
    from hashroute._proto.v1 import control_pb2 as pb

    with stub(control) as service:
        request = pb.ReweightPodRequest(id=pod, weight=weight)
        answer = call(service.ReweightPod, request, control)
        slots = call(service.GetView, pb.GetViewRequest(), control).view.slots
    show_change(f"{pod} has weight {weight:g}", answer.change, slots, as_json=as_json)
