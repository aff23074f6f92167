"""``hashroute drain``: let a pod finish what it has and give it nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hashroute.cli._common import (
    UNREACHED,
    Failed,
    as_exit,
    call,
    control_option,
    epilog,
    json_option,
    show_change,
    stub,
)

if TYPE_CHECKING:
    from hashroute._proto.v1.control_pb2_grpc import ControlStub

POLL_MS = 100


@click.command(
    epilog=epilog(
        """
hashroute drain pod-b
hashroute drain --wait-seconds 30 pod-b && ssh rack-2 systemctl stop features
hashroute drain --undo pod-b
""",
        held="the pod drains (with --wait-seconds: it has finished)",
        failed="no such pod, no other one owns slots, or it has not finished in time",
        unknown=UNREACHED,
    )
)
@click.argument("pod")
@control_option
@click.option("--undo", is_flag=True, help="Make it active again instead.")
@click.option(
    "--wait-seconds",
    type=click.FloatRange(0, min_open=True),
    help="Wait until it has no request in flight, at most this long.",
)
@json_option
def drain(pod: str, control: str, wait_seconds: float | None, *, undo: bool, as_json: bool) -> None:
    """Let POD finish what it has and give it nothing new.

    Its slots go to the others at once. It lasts until the next reload; to keep it, write
    state = "draining" into the configuration. Under a quorum it hands over all that it writes, for
    every router, until --undo or until its next process joins.
    """
    from hashroute._proto.v1 import control_pb2 as pb

    with stub(control) as service:
        slots = call(service.GetView, pb.GetViewRequest(), control).view.slots
        answer = call(service.DrainPod, pb.DrainPodRequest(id=pod, undo=undo), control)
        done = f"{pod} is active again" if undo else f"{pod} drains"
        show_change(done, answer.change, slots, as_json=as_json)
        if wait_seconds is not None and not undo:
            _wait(service, pod, wait_seconds, control)


def _wait(service: ControlStub, pod: str, wait_seconds: float, control: str) -> None:
    import grpc

    from hashroute._proto.v1 import control_pb2 as pb

    seen = "the sidecar did not say how many requests are in flight"
    request = pb.WatchStatusRequest(interval_ms=POLL_MS)
    watch = service.WatchStatus(request, timeout=wait_seconds)
    try:
        for answer in watch:
            in_flight = (sum(one.in_flight.values()) for one in answer.status.pods if one.id == pod)
            left = sum(in_flight)
            if left == 0:
                watch.cancel()
                return
            seen = f"{left} requests in flight"
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
            raise as_exit(error, control) from error
    raise Failed(f"{pod} has not finished in {wait_seconds:g} s ({seen}); it goes on draining")
