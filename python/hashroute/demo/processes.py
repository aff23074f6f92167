"""Starting and ending the demo's processes: each by its own id, on every way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

from hashroute.demo.lines import LINE_BYTES_MAX, Message, encode, messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

READY_SECONDS_MAX = 15.0
# How long a process may take to end by itself before it is killed.
END_SECONDS_MAX = 3.0
LOG_LINES_SHOWN = 12


class DemoError(Exception):
    """The demo could not run, or could not go on; the text says why."""


class Child:
    """One process that the demo started.

    Args:
        name: What messages call it.
        process: The process, in a session of its own so that Ctrl-C reaches the demo alone.
        log: Where its standard error goes.
    """

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log
        self._may_end = False

    @property
    def is_alive(self) -> bool:
        """Whether it has not been reaped yet; a frozen process is alive."""
        return self._process.returncode is None

    @property
    def ended_by_itself(self) -> bool:
        """Whether it has ended although nobody asked it to."""
        return not self.is_alive and not self._may_end

    async def gone(self) -> None:
        """Returns once the kernel reports it gone."""
        await self._process.wait()

    def freeze(self) -> None:
        """Stops it where it stands (SIGSTOP): its connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `freeze`."""
        self._send(signal.SIGCONT)

    async def kill(self) -> None:
        """Kills it (SIGKILL) and returns once the kernel reports it gone."""
        self.kill_now()
        await self.gone()

    def kill_now(self) -> None:
        """Kills it (SIGKILL) without waiting; nothing happens if it has ended."""
        self._may_end = True
        self._send(signal.SIGKILL)

    async def end(self) -> None:
        """Ends it: asks first, kills after a while, and returns once it is gone."""
        self._may_end = True
        self._send(signal.SIGTERM)
        # A frozen process hears SIGTERM only once it goes on.
        self._send(signal.SIGCONT)
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                # Unlike wait(), this also empties the pipes, on which a talkative process blocks.
                await self._process.communicate()
        except TimeoutError:
            await self.kill()

    def _send(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        # Process.send_signal would reap an ended process behind the back of asyncio, which then
        # reports a made-up exit code. Until it is reaped its id belongs to nobody else.
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended_early(self) -> DemoError:
        """Returns the error that says that it ended although nobody asked it to."""
        return self.failure(f"ended by itself (exit code {self._process.returncode})")

    def failure(self, what: str) -> DemoError:
        """Returns the error that says `what` befell it, with the end of its log."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        tail = "\n".join(f"    {line}" for line in lines)
        return DemoError(f"{self.name} {what}; the end of {self._log}:\n{tail or '    (empty)'}")


ChildT = TypeVar("ChildT", bound=Child)


class Talker(Child):
    """A process that speaks as `demo.lines` says, over its standard input and output."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        super().__init__(name, process, log)
        if process.stdin is None or process.stdout is None:
            raise AssertionError("a talker is started with pipes")
        self._stdin = process.stdin
        self._stdout = process.stdout

    def tell(self, message: Message) -> None:
        """Writes one message to its standard input."""
        self._stdin.write(encode(message).encode())

    async def said(self) -> AsyncIterator[Message]:
        """Yields what it says until it ends."""
        async for message in messages(self._stdout):
            yield message

    async def ready(self) -> None:
        """Waits until it says that it is ready.

        Raises:
            DemoError: It ended first, or took too long.
        """
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                async for message in self.said():
                    if message == {"ready": True}:
                        return
                await self.gone()
        except TimeoutError:
            raise self.failure(f"was not ready after {READY_SECONDS_MAX:.0f} s") from None
        raise self.ended_early()


class Children:
    """All processes of one run; none outlives the `async with` block.

    Args:
        logs: The directory for their logs, one `NAME.log` each; it exists.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._all: list[Child] = []
        self._watching: list[asyncio.Task[None]] = []
        self._fallen: asyncio.Queue[Child] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        try:
            await asyncio.gather(*(child.end() for child in self._all))
            await asyncio.gather(*self._watching)
        finally:
            # Whoever interrupts this as well does not want to wait, but leaves nothing behind.
            for child in self._all:
                child.kill_now()

    async def start(self, name: str, command: Sequence[str]) -> Child:
        """Starts a process; all that it writes is appended to its log."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        return self._watched(Child(name, process, log))

    async def start_talker(self, name: str, command: Sequence[str]) -> Talker:
        """Starts a process that speaks as `demo.lines` says, and waits until it is ready.

        Raises:
            DemoError: It ended first, or took too long.
        """
        log = self._logs / f"{name}.log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                start_new_session=True,
                limit=LINE_BYTES_MAX,
            )
        talker = self._watched(Talker(name, process, log))
        await talker.ready()
        return talker

    async def watch(self) -> NoReturn:
        """Waits until a process ends by itself.

        Raises:
            DemoError: One did.
        """
        child = await self._fallen.get()
        raise child.ended_early()

    def _watched(self, child: ChildT) -> ChildT:
        self._all.append(child)
        self._watching.append(asyncio.create_task(self._watch(child)))
        return child

    async def _watch(self, child: Child) -> None:
        await child.gone()
        if child.ended_by_itself:
            self._fallen.put_nowait(child)


class Ports:
    """Ports of loopback that the operating system chose, held for the whole run.

    Each is bound but never listened on, so a process may listen on it, die, and find it free
    again: the kernel hands it to nobody else.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for holder in self._held:
            holder.close()

    def address(self) -> str:
        """Returns a new `127.0.0.1:PORT`."""
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._held.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # gRPC servers ask for it, and the kernel lets only sockets share that all did.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{holder.getsockname()[1]}"
