"""A stream of requests that can be sent again from its beginning, as long as that is short."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# A stream that fails to connect fails early; what is longer than this was certainly being heard.
REPLAYED_MAX = 64


class Replay:
    """Hands out the items of ``source`` from the first on, once to each reader.

    Of two readers the newer counts: the older is an attempt that failed and may still be blocked in
    the source; what it then gets is kept for the newer one.
    """

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        # Guards the source, where a reader may block for long; the state has a lock of its own, so
        # that what is there already can be read meanwhile.
        self._pulling = threading.Lock()
        self._state = threading.Lock()
        self._items: deque[Any] = deque()
        self._first = 0
        self._is_exhausted = False
        self._is_whole = True
        self._newest: object = None

    @property
    def is_whole(self) -> bool:
        """Whether a new reader would still see every item."""
        return self._is_whole

    def reader(self) -> Iterator[Any]:
        """Returns an iterator over all items, which from now on is the newest."""
        token = object()
        with self._state:
            self._newest = token
        return self._read(token)

    def _read(self, token: object) -> Iterator[Any]:
        position = 0
        while True:
            with self._state:
                if position < self._first:
                    return  # This attempt failed long ago; what it would hear is gone.
                is_there = position - self._first < len(self._items)
                if is_there:
                    item = self._items[position - self._first]
                    position += 1
                    if token is self._newest:
                        self._drop_before(position)
                elif self._is_exhausted:
                    return
            if is_there:
                yield item
            else:
                self._pull(position)

    def _pull(self, position: int) -> None:
        """Takes the item at ``position`` from the source, if nobody else has."""
        with self._pulling:
            with self._state:
                if self._is_exhausted or position - self._first < len(self._items):
                    return  # Another reader was faster.
            item = next(self._source, _END)
            with self._state:
                if item is _END:
                    self._is_exhausted = True
                else:
                    self._items.append(item)

    def _drop_before(self, position: int) -> None:
        if position > REPLAYED_MAX:
            self._is_whole = False
        while not self._is_whole and self._first < position:
            self._items.popleft()
            self._first += 1


_END = object()
