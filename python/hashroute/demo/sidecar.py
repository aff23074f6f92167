"""The sidecar as the demo sees it: the configuration it is started with, and its control API."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from hashroute._proto.v1 import control_pb2, control_pb2_grpc
from hashroute.demo.processes import READY_SECONDS_MAX, DemoError
from hashroute.demo.records import PodSample, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hashroute import Pod
    from hashroute.demo.processes import Child, Ports

# The defaults, written out because the verdicts rest on them.
HEALTH_INTERVAL_SECONDS = 0.050
HEALTH_TIMEOUT_SECONDS = 0.150
POLL_SECONDS = 0.02
CALL_SECONDS_MAX = 5.0

CONFIGURATION = """\
# Written by `hashroute demo`; `hashroute check FILE` explains any line of it.
[listen]
grpc = "{grpc}"
zmq = "{zmq}"
admin = "{admin}"
control = "{control}"

# The pods and the model servers know nothing of hashroute: the key is read from the request.
[[routes]]
match = "/hashroute.demo.v1.FeatureService/*"
key = ["field:1"]
on_missing = "reject"
idempotent = true

[zmq]
key_frame = 0
idempotent = true

[health]
interval = "{interval_ms:.0f}ms"
timeout = "{timeout_ms:.0f}ms"
"""

POD_CONFIGURATION = """
[pods.{pod.id}]
grpc = "{pod.grpc}"
zmq = "{pod.zmq}"
zone = "{pod.zone}"
"""


class Sidecar:
    """A `hashroute proxy` process.

    Args:
        ports: Hands out its addresses.

    Attributes:
        grpc: Where it takes gRPC requests, `HOST:PORT`.
        zmq: Where it takes ZeroMQ requests, `tcp://HOST:PORT`.
        admin: Where its admin pages are, `HOST:PORT`.
        control: Where its control API is, `HOST:PORT`.
    """

    def __init__(self, ports: Ports) -> None:
        self.grpc = ports.address()
        self.zmq = f"tcp://{ports.address()}"
        self.admin = ports.address()
        self.control = ports.address()
        self._channel = aio.insecure_channel(self.control)
        self._stub = control_pb2_grpc.ControlStub(self._channel)

    def configuration(self, pods: Iterable[Pod]) -> str:
        """Returns the configuration file for these pods."""
        head = CONFIGURATION.format(
            grpc=self.grpc,
            zmq=self.zmq,
            admin=self.admin,
            control=self.control,
            interval_ms=HEALTH_INTERVAL_SECONDS * 1e3,
            timeout_ms=HEALTH_TIMEOUT_SECONDS * 1e3,
        )
        return head + "".join(POD_CONFIGURATION.format(pod=pod) for pod in pods)

    async def ready(self, process: Child) -> None:
        """Waits until it answers and finds every pod up.

        Args:
            process: The process that was started for it.

        Raises:
            DemoError: It ended, or took too long.
        """
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                while not await self._finds_every_pod_up():
                    if not process.is_alive:
                        raise process.ended_early()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise process.failure(
                f"did not find every pod up within {READY_SECONDS_MAX:.0f} s"
            ) from None

    async def sample(self, start: float) -> Sample:
        """Returns what it says of itself now; times count from `start`, on the monotonic clock.

        Raises:
            DemoError: The control API failed.
        """
        with _answering():
            status = await self._status()
        return Sample(
            at=time.monotonic() - start,
            epoch=status.epoch,
            digest=status.digest,
            retries=status.totals.retries,
            pods={
                pod.id: PodSample(
                    state=pod.state,
                    health=pod.health,
                    in_flight=sum(pod.in_flight.values()),
                    spills=pod.spills,
                    failovers=pod.failovers,
                )
                for pod in status.pods
            },
        )

    async def drain(self, pod: str) -> int:
        """Drains a pod and returns the number of slots that moved.

        Raises:
            DemoError: The control API failed.
        """
        request = control_pb2.DrainPodRequest(id=pod)
        with _answering():
            response = await self._stub.DrainPod(request, timeout=CALL_SECONDS_MAX)
        return response.change.moved_slots

    async def add(self, pod: Pod) -> int:
        """Adds a pod and returns the number of slots that moved.

        Raises:
            DemoError: The control API failed.
        """
        addresses = control_pb2.Addresses(grpc=pod.grpc, zmq=pod.zmq)
        added = control_pb2.Pod(id=pod.id, weight=pod.weight, zone=pod.zone, addresses=addresses)
        request = control_pb2.AddPodRequest(pod=added)
        with _answering():
            response = await self._stub.AddPod(request, timeout=CALL_SECONDS_MAX)
        return response.change.moved_slots

    async def close(self) -> None:
        """Closes the connection to its control API."""
        await self._channel.close()

    async def _finds_every_pod_up(self) -> bool:
        try:
            status = await self._status()
        except aio.AioRpcError as error:
            # Nothing listens yet: the one error that waiting mends.
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
        return all(pod.health == "up" for pod in status.pods)

    async def _status(self) -> control_pb2.Status:
        request = control_pb2.GetStatusRequest()
        return (await self._stub.GetStatus(request, timeout=CALL_SECONDS_MAX)).status


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Says which door was closed, if the control API fails."""
    try:
        yield
    except aio.AioRpcError as error:
        raise DemoError(
            f"the sidecar's control API failed: {error.code().name}: {error.details()}"
        ) from error
