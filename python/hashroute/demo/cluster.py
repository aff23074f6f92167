"""The demo's cast as real processes: feature pods, the sidecar, model servers, a ticker."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from hashroute import Pod, Ring
from hashroute.demo.links import DEADLINE_SECONDS
from hashroute.demo.records import ClientTotals
from hashroute.demo.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from pathlib import Path

    from hashroute.demo.processes import Child, Children, Ports, Talker
    from hashroute.demo.recorder import Recorder

T = TypeVar("T")

MODEL_SERVERS = ("model-1", "model-2")
# A reply from a model server that is asked for its digest; it only has a ring to build.
FOLLOW_SECONDS_MAX = 5.0


class ModelServerProcess:
    """A model server as the demo sees it."""

    def __init__(self, child: Talker) -> None:
        self.child = child
        self._followed: asyncio.Queue[str] = asyncio.Queue()
        self._totals: asyncio.Future[ClientTotals] = asyncio.get_running_loop().create_future()

    async def follow(self, ring: Ring) -> str:
        """Has it follow the pods of `ring`; returns the digest that it computed by itself.

        Raises:
            DemoError: It did not answer.
        """
        self.child.tell({"follow": [asdict(pod) for pod in ring.pods]})
        return await self._in_time(self._followed.get(), FOLLOW_SECONDS_MAX)

    async def finished(self) -> ClientTotals:
        """Returns what it counted, once its last request has ended.

        Raises:
            DemoError: It did not come to an end, although each request has a deadline.
        """
        return await self._in_time(self._totals, 2 * DEADLINE_SECONDS)

    async def listen(self, recorder: Recorder) -> None:
        """Takes down what it says until it ends."""
        async for message in self.child.said():
            match message:
                case {"answers": rows}:
                    recorder.answered(self.child.name, rows)
                case {"followed": digest}:
                    self._followed.put_nowait(digest)
                case {"totals": {"sent": sent, "unmatched": unmatched}}:
                    self._totals.set_result(ClientTotals(sent=sent, unmatched=unmatched))
                case _:
                    raise AssertionError(f"not a message from a model server: {message}")

    async def _in_time(self, answer: Awaitable[T], seconds: float) -> T:
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            raise self.child.failure(f"did not answer within {seconds:.0f} s") from None


class Cluster:
    """All processes of one run.

    Args:
        children: Starts and ends them.
        ports: Hands out their addresses.
        racks: The rack of every pod.
        joins_later: The pod that runs from the start but is not in the first ring.
        directory: Where the sidecar's configuration is written.

    Attributes:
        ring: The demo's own ring; it follows each change that the sidecar is asked to make.
        sidecar: The control API of the sidecar.
        model_servers: The clients, once started.
    """

    def __init__(
        self,
        children: Children,
        ports: Ports,
        *,
        racks: Mapping[str, str],
        joins_later: str,
        directory: Path,
    ) -> None:
        self._children = children
        self._seats = {
            name: Pod(name, zone=rack, grpc=ports.address(), zmq=f"tcp://{ports.address()}")
            for name, rack in racks.items()
        }
        self._configuration = directory / "hashroute.toml"
        self._pods: dict[str, Child] = {}
        self.ring = Ring([pod for name, pod in self._seats.items() if name != joins_later])
        self.sidecar = Sidecar(ports)
        self.model_servers: list[ModelServerProcess] = []

    async def start(self) -> None:
        """Starts everything and returns once each part is ready and the sidecar finds every pod up.

        Raises:
            DemoError: A process did not start.
        """
        await asyncio.gather(*(self._start_pod(name) for name in self._seats))
        self._configuration.write_text(self.sidecar.configuration(self.ring.pods), "utf-8")
        command = [sys.executable, "-m", "hashroute", "proxy", "--config", str(self._configuration)]
        proxy = await self._children.start("sidecar", _module("tether", *command))
        await self.sidecar.ready(proxy)
        self._ticker = await self._children.start_talker("ticker", _module("ticker"))
        servers = (self._start_model_server(name, seed) for seed, name in enumerate(MODEL_SERVERS))
        self.model_servers = list(await asyncio.gather(*servers))

    def pod(self, name: str) -> Child:
        """Returns the process of a pod."""
        return self._pods[name]

    async def listen(self, recorder: Recorder) -> None:
        """Takes down what the processes say, until it is cancelled.

        Raises:
            DemoError: One of them ended that should not have.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._children.watch())
            group.create_task(_listen(self._ticker, recorder))
            for server in self.model_servers:
                group.create_task(server.listen(recorder))

    async def restart(self, name: str) -> None:
        """Starts a killed pod again at the addresses it had; returns once it is ready."""
        await self._start_pod(name)

    async def drain(self, name: str) -> int:
        """Has the sidecar drain a pod; returns the slots that it says it moved."""
        moved_slots = await self.sidecar.drain(name)
        self.ring = self.ring.with_state(name, "draining")
        return moved_slots

    async def add(self, name: str) -> int:
        """Has the sidecar take in a pod; returns the slots that it says it moved."""
        moved_slots = await self.sidecar.add(self._seats[name])
        self.ring = self.ring.add(self._seats[name])
        return moved_slots

    async def follow(self) -> dict[str, str]:
        """Has every model server follow the ring; returns the digest that each computed."""
        digests = await asyncio.gather(*(server.follow(self.ring) for server in self.model_servers))
        names = [server.child.name for server in self.model_servers]
        return dict(zip(names, digests, strict=True))

    async def close(self) -> None:
        """Lets go of the sidecar; its process is ended by whoever started it."""
        await self.sidecar.close()

    async def _start_pod(self, name: str) -> None:
        pod = self._seats[name]
        command = _module("pod", "--name", name, "--grpc", f"{pod.grpc}", "--zmq", f"{pod.zmq}")
        self._pods[name] = await self._children.start_talker(name, command)

    async def _start_model_server(self, name: str, seed: int) -> ModelServerProcess:
        addresses = ("--grpc", self.sidecar.grpc, "--zmq", self.sidecar.zmq)
        command = _module("client", *addresses, "--seed", str(seed))
        return ModelServerProcess(await self._children.start_talker(name, command))


async def _listen(ticker: Talker, recorder: Recorder) -> None:
    async for message in ticker.said():
        cpu, due, late = message["stall"]
        recorder.stalled(cpu, due, late)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"hashroute.demo.{name}", *arguments]
