"""Whom a router follows that is told the control address of a sidecar."""

from __future__ import annotations

import contextlib
import json
from concurrent import futures

import grpc
import pytest
from hashroute._proto.v1 import control_pb2, control_pb2_grpc
from hashroute._sources import QuorumSource, SidecarSource, source_behind

VOTER = "127.0.0.1:2379"


class Control(control_pb2_grpc.ControlServicer):
    """A sidecar that says this of its quorum."""

    def __init__(self, quorum):
        self._quorum = quorum

    def GetStatus(self, _request, _context):  # noqa: N802 - the name of the method
        quorum = {} if self._quorum is None else {"quorum": json.dumps(self._quorum)}
        return control_pb2.GetStatusResponse(status=control_pb2.Status(**quorum))


@contextlib.contextmanager
def followed(quorum):
    """What is followed behind such a sidecar."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    control_pb2_grpc.add_ControlServicer_to_server(Control(quorum), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    source = None
    try:
        source = source_behind(f"127.0.0.1:{port}", None, 30.0, 1.0)
        yield source
    finally:
        if source is not None:
            source.close()
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("engine", "voters", "kind"),
    [
        ("embedded", None, QuorumSource),
        ("etcd", None, SidecarSource),
        ("etcd", 1, SidecarSource),
        ("etcd", 3, QuorumSource),
    ],
)
def test_voters_of_ours_are_followed_themselves_and_etcd_through_the_sidecar(engine, voters, kind):
    record = None if voters is None else {"voters": [{"address": VOTER}] * voters}
    quorum = {"cluster": "desk-7", "engine": engine, "record": record}
    with followed({**quorum, "voters": [{"address": VOTER}]}) as source:
        assert type(source) is kind


def test_a_sidecar_without_a_quorum_is_followed_itself():
    with followed(None) as source:
        assert type(source) is SidecarSource
