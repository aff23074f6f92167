"""``hashroute remove``: a pod less."""

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
hashroute drain --wait-seconds 30 pod-b && hashroute remove pod-b
""",
        held="the pod is gone from the view",
        failed="no such pod, or no other one owns slots",
        unknown=UNREACHED,
    )
)
@click.argument("pod")
@control_option
@json_option
def remove(pod: str, control: str, *, as_json: bool) -> None:
    """Remove POD from a running sidecar; requests that it has in flight are not cut off.

    It lasts until the next reload; to keep it, remove the pod from the configuration too. Under a
    quorum the record is changed, for every router, and it lasts.
    """
    from hashroute._proto.v1 import control_pb2 as pb

    with stub(control) as service:
        answer = call(service.RemovePod, pb.RemovePodRequest(id=pod), control)
        slots = call(service.GetView, pb.GetViewRequest(), control).view.slots
    show_change(f"{pod} removed", answer.change, slots, as_json=as_json)
