"""A model server: asks for the features of real symbols on a schedule that waits for nobody.

Requests leave when the schedule says, whatever became of the earlier ones, and their latency counts
from that moment; so neither a stalled pod nor a stalled client hides what a user would have waited.
Run as `python -m hashroute.demo.client`; the messages it hears and says are those of
`ModelServer.hear`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import selectors
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashroute import Pod, Ring
from hashroute.demo.lines import Message, heard, say
from hashroute.demo.links import GrpcLink, Link, RequestFailedError, ZmqLink
from hashroute.demo.records import OK, Path, Transport
from hashroute.demo.symbols import Symbols

if TYPE_CHECKING:
    from collections.abc import Sequence

# How often answers are handed to the demo: often enough for a live display, seldom enough to cost
# nothing.
REPORT_SECONDS = 0.1
TRANSPORTS = tuple(Transport)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask: the address of each transport."""

    grpc: str
    zmq: str

    def link(self, transport: Transport) -> Link:
        """Returns a new connection."""
        return GrpcLink(self.grpc) if transport is Transport.GRPC else ZmqLink(self.zmq)


class ModelServer:
    """One client of the features, over both transports in turn.

    Args:
        sidecar: Where it asks.
        seed: Decides its symbols, its schedule, and the order in which it hands pods to its own
            ring.
    """

    def __init__(self, sidecar: Target, seed: int) -> None:
        self._dice = random.Random(seed)
        self._draws = Symbols.load().draws(seed)
        self._sidecar = {transport: sidecar.link(transport) for transport in TRANSPORTS}
        self._pods: dict[str, Target] = {}
        self._direct: dict[tuple[str, Transport], Link] = {}
        self._ring: Ring | None = None
        self._compares = False
        self._answers: list[list[object]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def hear(self, message: Message) -> None:
        """Carries out one message from the demo.

        - `{"follow": [{"id", "weight", "zone", "state", "grpc", "zmq"}]}`: routes by these pods
          from now on, and says `{"followed": digest}`.
        - `{"compare": bool}`: while true, every other request goes straight to the pod that owns
          its key.
        - `{"go": {"at", "seconds", "rate"}}`: asks from the moment `at`; says `{"answers": […]}` as
          it goes and `{"totals": {"sent", "unmatched"}}` when the last request has ended.
        """
        match message:
            case {"follow": pods}:
                say({"followed": await self.follow(pods)})
            case {"compare": compares}:
                self._compares = compares
            case {"go": {"at": at, "seconds": seconds, "rate": rate}}:
                task = asyncio.create_task(self.run(start=at, seconds=seconds, rate=rate))
                self._under_way.add(task)
            case _:
                raise AssertionError(f"not a message to a model server: {message}")

    async def follow(self, pods: Sequence[Message]) -> str:
        """Routes by `pods` from now on; returns the digest of the ring computed here."""
        # Any order must give the same ring; a different one in each process makes every run check
        # that.
        shuffled = self._dice.sample(list(pods), len(pods))
        # Building a ring takes milliseconds, in which requests must go on leaving on time.
        self._ring = await asyncio.to_thread(Ring, [Pod(**pod) for pod in shuffled])
        self._pods = {pod["id"]: Target(grpc=pod["grpc"], zmq=pod["zmq"]) for pod in pods}
        return self._ring.digest

    async def run(self, *, start: float, seconds: float, rate: float) -> None:
        """Asks at `rate` requests a second, at random moments, from `start` for `seconds`."""
        reporting = asyncio.create_task(self._report_regularly())
        asked: set[asyncio.Task[None]] = set()
        sent = 0
        # At most rate x deadline requests are under way: each ends by its deadline.
        intended = start
        while (intended := intended + self._dice.expovariate(rate)) < start + seconds:
            await asyncio.sleep(intended - time.monotonic())
            task = asyncio.create_task(self._ask(sent, intended))
            asked.add(task)
            task.add_done_callback(asked.discard)
            sent += 1
        await asyncio.gather(*asked)
        reporting.cancel()
        self._report()
        links = [*self._sidecar.values(), *self._direct.values()]
        say({"totals": {"sent": sent, "unmatched": sum(link.unmatched for link in links)}})

    async def close(self) -> None:
        """Closes every connection."""
        for task in self._under_way:
            task.cancel()
        for link in [*self._sidecar.values(), *self._direct.values()]:
            await link.close()

    async def _ask(self, number: int, intended: float) -> None:
        transport = TRANSPORTS[number % len(TRANSPORTS)]
        symbol = next(self._draws)
        # Two in a row, one of each transport, take the same way.
        path = Path.DIRECT if self._compares and number // 2 % 2 else Path.SIDECAR
        link = (
            self._sidecar[transport]
            if path is Path.SIDECAR
            else self._owner_link(symbol, transport)
        )
        code, pod, named_pod = OK, "", ""
        try:
            reply = await link.ask(symbol)
        except RequestFailedError as error:
            code = error.code
        else:
            pod, named_pod = reply.pod, reply.named_pod
        latency = time.monotonic() - intended
        self._answers.append([intended, latency, transport, path, symbol, code, pod, named_pod])

    def _owner_link(self, symbol: str, transport: Transport) -> Link:
        if self._ring is None:
            raise AssertionError("a model server follows pods before it compares")
        owner = self._ring.owner(symbol)
        if (owner, transport) not in self._direct:
            self._direct[owner, transport] = self._pods[owner].link(transport)
        return self._direct[owner, transport]

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._report()

    def _report(self) -> None:
        answers, self._answers = self._answers, []
        if answers:
            say({"answers": answers})


async def serve(server: ModelServer) -> None:
    """Carries out messages until standard input ends."""
    say({"ready": True})
    try:
        async for message in heard():
            await server.hear(message)
    finally:
        await server.close()


def main() -> None:
    """Runs one model server."""
    parser = argparse.ArgumentParser(prog="hashroute.demo.client")
    parser.add_argument("--grpc", required=True, help="the sidecar's HOST:PORT")
    parser.add_argument("--zmq", required=True, help="the sidecar's tcp://HOST:PORT")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()

    async def run() -> None:
        sidecar = Target(grpc=arguments.grpc, zmq=arguments.zmq)
        await serve(ModelServer(sidecar, arguments.seed))

    # epoll rounds every wait up to a whole millisecond, more than most answers take; select does
    # not.
    with asyncio.Runner(loop_factory=_precise_loop) as runner:
        runner.run(run())


def _precise_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    main()
