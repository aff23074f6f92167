"""The asyncio form of :mod:`hashroute.clients._replay`: fed by a source or by ``write``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from hashroute.clients._replay import REPLAYED_MAX

# What `write` may be ahead of the pod: the rest of the way has buffers of its own.
AHEAD_MAX = 16


class AsyncReplay:
    """Hands out the items of a stream from the first on, once to each reader; the newest counts.

    Belongs to one event loop.
    """

    def __init__(self, source: AsyncIterable[Any] | Iterable[Any] | None) -> None:
        self._source = None if source is None else _iterator(source)
        self._pulling: asyncio.Task[None] | None = None
        self._items: deque[Any] = deque()
        self._first = 0
        self._position = 0
        self._is_exhausted = False
        self._is_whole = True
        self._newest: object = None
        self._changed = asyncio.Event()

    @property
    def is_whole(self) -> bool:
        """Whether a new reader would still see every item."""
        return self._is_whole

    def reader(self) -> AsyncIterator[Any]:
        """Returns an iterator over all items, which from now on is the newest."""
        self._newest = object()
        self._position = 0
        return self._read(self._newest)

    @property
    def is_ended(self) -> bool:
        """Whether nothing can be added any more."""
        return self._is_exhausted

    async def write(self, item: Any) -> None:
        """Adds an item; waits while the newest reader is far behind, unless all has ended."""
        while len(self._items) - (self._position - self._first) >= AHEAD_MAX:
            if self._is_exhausted:
                return
            self._changed.clear()
            await self._changed.wait()
        self._items.append(item)
        self._changed.set()

    def end(self) -> None:
        """Adds nothing more, and keeps nobody waiting."""
        self._is_exhausted = True
        self._changed.set()

    async def _read(self, token: object) -> AsyncIterator[Any]:
        position = 0
        while token is self._newest:
            if position - self._first < len(self._items):
                item = self._items[position - self._first]
                position += 1
                self._position = position
                self._drop_before(position)
                self._changed.set()
                yield item
            elif self._is_exhausted:
                return
            else:
                await self._more()

    async def _more(self) -> None:
        if self._source is None:
            self._changed.clear()
            await self._changed.wait()
            return
        # A task of its own: an attempt that is cancelled must not cancel the caller's iterator.
        if self._pulling is None or self._pulling.done():
            self._pulling = asyncio.ensure_future(self._pull(self._source))
        await asyncio.shield(self._pulling)

    async def _pull(self, source: AsyncIterator[Any]) -> None:
        try:
            self._items.append(await anext(source))
        except StopAsyncIteration:
            self._is_exhausted = True

    def _drop_before(self, position: int) -> None:
        if position > REPLAYED_MAX:
            self._is_whole = False
        while not self._is_whole and self._first < position:
            self._items.popleft()
            self._first += 1


async def _iterator(source: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item
