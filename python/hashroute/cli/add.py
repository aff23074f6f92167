"""``hashroute add``: a pod more."""

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
hashroute add pod-e --grpc 127.0.0.1:50055 --zmq tcp://127.0.0.1:5555 --zone rack-2
""",
        held="the pod is in the view",
        failed="there is such a pod already, or a value is wrong",
        unknown=UNREACHED,
    )
)
@click.argument("pod")
@control_option
@click.option("--grpc", metavar="HOST:PORT", help="Its gRPC server.")
@click.option("--zmq", metavar="tcp://HOST:PORT", help="Its ZeroMQ socket.")
@click.option("--weight", type=float, help="How much it owns relative to the others; 1 if absent.")
@click.option("--zone", help="What fails together with it.")
@json_option
def add(
    *,
    pod: str,
    control: str,
    grpc: str | None,
    zmq: str | None,
    weight: float | None,
    zone: str | None,
    as_json: bool,
) -> None:
    """Add POD to a running sidecar; it gets its share of the slots at once.

    It lasts until the next reload; to keep it, write it into the configuration too. Under a quorum
    it is refused: a pod is added when its process joins.
    """
    from hashroute._proto.v1 import control_pb2 as pb

    added = pb.Pod(id=pod, weight=weight, zone=zone, addresses=pb.Addresses(grpc=grpc, zmq=zmq))
    with stub(control) as service:
        answer = call(service.AddPod, pb.AddPodRequest(pod=added), control)
        slots = call(service.GetView, pb.GetViewRequest(), control).view.slots
    show_change(f"{pod} added", answer.change, slots, as_json=as_json)
