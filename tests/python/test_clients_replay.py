"""A stream of requests that may be sent again: nothing is lost, doubled or hoarded."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hashroute.clients._replay import REPLAYED_MAX, Replay
from hashroute.clients._replay_aio import AHEAD_MAX, AsyncReplay

from tests.integration.processes import SECONDS_MAX


class TestReplay:
    def test_a_second_reader_sees_everything_again(self):
        replay = Replay(iter(range(5)))
        first = replay.reader()
        assert [next(first), next(first)] == [0, 1]
        assert list(replay.reader()) == [0, 1, 2, 3, 4]
        assert replay.is_whole

    def test_what_an_old_reader_waits_for_is_not_lost_to_the_new_one(self):
        entered, opened = threading.Event(), threading.Event()

        def source():
            yield "first"
            entered.set()
            assert opened.wait(SECONDS_MAX)
            yield "second"

        replay = Replay(source())
        old = threading.Thread(target=list, args=(replay.reader(),))
        old.start()
        assert entered.wait(SECONDS_MAX)
        new = replay.reader()
        # The old reader is blocked in the source; what is there already can be read meanwhile.
        assert next(new) == "first"
        opened.set()
        assert list(new) == ["second"]
        old.join(SECONDS_MAX)

    def test_a_long_stream_is_not_kept(self):
        replay = Replay(iter(range(10 * REPLAYED_MAX)))
        assert list(replay.reader()) == list(range(10 * REPLAYED_MAX))
        assert not replay.is_whole
        assert len(replay._items) == 0
        assert list(replay.reader()) == []

    def test_an_error_of_the_source_reaches_the_reader(self):
        def source():
            yield 1
            raise ZeroDivisionError

        reader = Replay(source()).reader()
        assert next(reader) == 1
        with pytest.raises(ZeroDivisionError):
            next(reader)


async def every(reader):
    return [item async for item in reader]


class TestAsyncReplay:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_a_second_reader_sees_everything_again(self, is_async):
        async def source():
            for number in range(5):
                yield number

        replay = AsyncReplay(source() if is_async else range(5))
        first = replay.reader()
        assert [await anext(first), await anext(first)] == [0, 1]
        assert await every(replay.reader()) == [0, 1, 2, 3, 4]
        assert replay.is_whole

    async def test_a_reader_that_is_cancelled_does_not_cancel_the_source(self):
        opened = asyncio.Event()

        async def source():
            yield "first"
            await opened.wait()
            yield "second"

        replay = AsyncReplay(source())
        entered = asyncio.Event()

        async def read():
            async for _ in replay.reader():
                entered.set()

        old = asyncio.ensure_future(read())
        await entered.wait()
        await asyncio.gather(old, _cancelling(old), return_exceptions=True)
        opened.set()
        assert await every(replay.reader()) == ["first", "second"]

    async def test_a_long_stream_is_not_kept(self):
        replay = AsyncReplay(range(10 * REPLAYED_MAX))
        assert await every(replay.reader()) == list(range(10 * REPLAYED_MAX))
        assert not replay.is_whole
        assert len(replay._items) == 0

    async def test_what_is_written_is_read_and_read_again(self):
        replay = AsyncReplay(None)
        await replay.write("a")
        reader = replay.reader()
        assert await anext(reader) == "a"
        await replay.write("b")
        replay.end()
        assert await every(replay.reader()) == ["a", "b"]

    async def test_writing_waits_for_a_reader_that_is_behind(self):
        replay = AsyncReplay(None)

        async def write():
            for number in range(3 * AHEAD_MAX):
                await replay.write(number)
            replay.end()

        writing = asyncio.ensure_future(write())
        reader = replay.reader()
        assert await anext(reader) == 0
        assert len(replay._items) <= AHEAD_MAX + 1
        assert await every(reader) == list(range(1, 3 * AHEAD_MAX))
        await writing

    async def test_the_end_of_a_call_keeps_no_writer_waiting(self):
        replay = AsyncReplay(None)

        is_full = asyncio.Event()

        async def write():
            for number in range(3 * AHEAD_MAX):
                if number == AHEAD_MAX:
                    is_full.set()
                await replay.write(number)

        writing = asyncio.ensure_future(write())
        await is_full.wait()
        replay.end()
        await asyncio.wait_for(writing, SECONDS_MAX)


async def _cancelling(task):
    task.cancel()
