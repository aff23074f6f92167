"""Plays the script on a running cluster and records what follows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from hashroute.demo.cluster import Cluster
from hashroute.demo.processes import Children, Ports
from hashroute.demo.recorder import Recorder
from hashroute.demo.records import Event, Kind, Recording, RingInForce, Sample
from hashroute.demo.sidecar import HEALTH_TIMEOUT_SECONDS
from hashroute.demo.timeline import JOINS_LATER, RACKS, SCRIPT, Act

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.demo.lines import Message

# How often the sidecar is asked how it sees its pods.
SAMPLE_SECONDS = 0.1
# How often the display is refreshed.
SHOW_SECONDS = 0.25
# The model servers begin this long after they are told to, so that all of them do at once.
HEADSTART_SECONDS = 0.5

DONE = {
    Kind.KILL: "killed (SIGKILL)",
    Kind.RESTART: "restarted",
    Kind.FREEZE: "froze (SIGSTOP)",
    Kind.RESUME: "resumed (SIGCONT)",
    Kind.DRAIN: "drained",
    Kind.ADD: "added",
}


class Display(Protocol):
    """What a run tells somebody who watches."""

    def note(self, text: str) -> None:
        """Says what is about to happen, or just did."""

    def show(self, recorder: Recorder) -> None:
        """Shows how things stand; called several times a second while requests are sent."""


async def perform(
    *, duration_seconds: float, rate: float, directory: Path, display: Display
) -> Recording:
    """Runs the whole demo and returns what it observed; no process outlives the call.

    Args:
        duration_seconds: How long requests are sent.
        rate: Requests a second, over all model servers.
        directory: Where logs and the sidecar's configuration go; it exists.
        display: Who watches.

    Raises:
        DemoError: A process did not start, ended by itself, or did not answer.
    """
    logs = directory / "logs"
    logs.mkdir(exist_ok=True)
    for log in logs.glob("*.log"):
        log.unlink()
    with Ports() as ports:
        async with Children(logs) as children:
            display.note("starting five feature pods, the sidecar and two model servers")
            cluster = Cluster(
                children, ports, racks=RACKS, joins_later=JOINS_LATER, directory=directory
            )
            try:
                await cluster.start()
                conductor = Conductor(
                    cluster, display, duration_seconds=duration_seconds, rate=rate
                )
                return await conductor.play()
            finally:
                await cluster.close()


class Conductor:
    """Plays the script once.

    Args:
        cluster: A cluster that was started.
        display: Who watches.
        duration_seconds: How long requests are sent.
        rate: Requests a second, over all model servers.
    """

    def __init__(
        self, cluster: Cluster, display: Display, *, duration_seconds: float, rate: float
    ) -> None:
        self._cluster = cluster
        self._display = display
        self._duration = duration_seconds
        self._rate = rate
        self._recorder = Recorder(asyncio.get_running_loop().time() + HEADSTART_SECONDS)

    async def play(self) -> Recording:
        """Sends requests, hurts pods, and returns the record once every request has ended.

        Raises:
            DemoError: A process ended by itself.
        """
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._cluster.listen(self._recorder)),
                    group.create_task(self._sample_regularly()),
                    group.create_task(self._show_regularly()),
                ]
                await self._play_script()
                for task in background:
                    task.cancel()
        except ExceptionGroup as failures:
            raise _cause(failures) from failures
        return self._recorder.recording(
            racks=RACKS,
            duration_seconds=self._duration,
            warm_until=SCRIPT.warm * self._duration,
            rate=self._rate,
            health_timeout_seconds=HEALTH_TIMEOUT_SECONDS,
        )

    async def _play_script(self) -> None:
        await self._follow(at=0.0)
        rate = self._rate / len(self._cluster.model_servers)
        start = self._recorder.start
        self._tell({"go": {"at": start, "seconds": self._duration, "rate": rate}})
        comparing = asyncio.create_task(self._compare())
        for act in SCRIPT.acts:
            await self._until(act.at)
            await self._carry_out(act)
        await comparing
        for server in self._cluster.model_servers:
            self._recorder.totals[server.child.name] = await server.finished()
        await self._sample()

    async def _carry_out(self, act: Act) -> None:
        # Counters are read just before, so that what follows is not mixed with what went on.
        await self._sample()
        at = self._recorder.now()
        moved_slots: int | None = None
        match act.kind:
            case Kind.KILL:
                await self._cluster.pod(act.pod).kill()
            case Kind.RESTART:
                await self._cluster.restart(act.pod)
            case Kind.FREEZE:
                self._cluster.pod(act.pod).freeze()
            case Kind.RESUME:
                self._cluster.pod(act.pod).resume()
            case Kind.DRAIN:
                moved_slots = await self._cluster.drain(act.pod)
            case Kind.ADD:
                moved_slots = await self._cluster.add(act.pod)
        self._recorder.events.append(
            Event(
                kind=act.kind,
                pod=act.pod,
                at=at,
                done_at=self._recorder.now(),
                moved_slots=moved_slots,
            )
        )
        self._display.note(f"{at:5.1f} s  {DONE[act.kind]} {act.pod}")
        if act.kind in {Kind.DRAIN, Kind.ADD}:
            await self._follow(at=at)

    async def _follow(self, *, at: float) -> None:
        """Has everybody follow the cluster's ring, and takes down what each made of it."""
        digests = await self._cluster.follow()
        sample = await self._sample()
        self._recorder.rings.append(
            RingInForce(
                ring=self._cluster.ring,
                at=at,
                done_at=self._recorder.now(),
                sidecar_digest=sample.digest,
                client_digests=digests,
            )
        )

    async def _compare(self) -> None:
        for begins, ends in SCRIPT.compared:
            await self._until(begins)
            self._tell({"compare": True})
            await self._until(ends)
            self._tell({"compare": False})
            self._recorder.compared.append((begins * self._duration, ends * self._duration))

    def _tell(self, message: Message) -> None:
        for server in self._cluster.model_servers:
            server.child.tell(message)

    async def _until(self, fraction: float) -> None:
        await asyncio.sleep(fraction * self._duration - self._recorder.now())

    async def _sample(self) -> Sample:
        sample = await self._cluster.sidecar.sample(self._recorder.start)
        self._recorder.samples.append(sample)
        return sample

    async def _sample_regularly(self) -> None:
        while True:
            await self._sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _show_regularly(self) -> None:
        while True:
            self._display.show(self._recorder)
            await asyncio.sleep(SHOW_SECONDS)


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Returns one of `failures` that is no group itself: the others follow from it."""
    first = failures.exceptions[0]
    return _cause(first) if isinstance(first, BaseExceptionGroup) else first
