"""Calls that go on while something happens to the pods, and what each of them ended in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from tests.integration.processes import SECONDS_MAX, UNLIMITED, until_true

if TYPE_CHECKING:
    from typing import Self

KEYS = [f"key-{number}" for number in range(256)]
KEY = "x-hashroute-key"


@dataclass(frozen=True)
class Failure:
    """A call that did not end well, as its caller saw it."""

    code: grpc.StatusCode
    details: str
    outcome: str | None


class Load:
    """Callers that each make one call after another, over all keys, from entering to leaving."""

    def __init__(self, address: str, method: str, callers: int = 8) -> None:
        self.answers_by_pod: dict[str, int] = {}
        self.failures: list[Failure] = []
        self._address = address
        self._method = method
        self._callers = callers
        self._stopping = False

    @property
    def answers(self) -> int:
        """How many calls ended well so far."""
        return sum(self.answers_by_pod.values())

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=UNLIMITED)
        self._call = self._channel.unary_unary(self._method)
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(self._callers)]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._channel.close()

    async def more_answers(self, count: int) -> None:
        """Returns when `count` more calls have ended well: what happened before is under load."""
        goal = self.answers + count
        await until_true(lambda: self.answers >= goal, f"{count} more answers under load")

    async def more_answers_of(self, pod: str, count: int) -> None:
        """Returns when this pod has answered `count` more calls."""
        goal = self.answers_by_pod.get(pod, 0) + count
        await until_true(
            lambda: self.answers_by_pod.get(pod, 0) >= goal, f"{count} more answers of {pod}"
        )

    async def _run(self, number: int) -> None:
        position = number * 31
        while not self._stopping:
            position += 1
            await self._make_call(KEYS[position % len(KEYS)])

    async def _make_call(self, key: str) -> None:
        call = self._call(key.encode(), metadata=((KEY, key),), timeout=SECONDS_MAX)
        try:
            answer = await call
            pod = dict(await call.initial_metadata())["x-hashroute-pod"]
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata())
            self.failures.append(
                Failure(error.code(), error.details() or "", trailers.get("x-hashroute-outcome"))
            )
        else:
            assert answer == key.encode(), "an answer to somebody else's call"
            self.answers_by_pod[str(pod)] = self.answers_by_pod.get(str(pod), 0) + 1
