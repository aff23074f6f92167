"""The guard in front of a grpc.aio server's handlers: every kind that grpcio knows of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import hashroute
import hashroute.pod.grpc
import pytest
from hashroute.pod import current_admission, current_term

from tests.integration.processes import SECONDS_MAX
from tests.python.guard_double import Guard, tagged
from tests.python.test_pod_grpc import KINDS, REFUSALS, WRITES


class Methods(grpc.GenericRpcHandler):
    """Coroutines, asynchronous generators, and functions for the server's threads."""

    def __init__(self):
        self.ran = []
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.closed = asyncio.Event()
        self.closing_term = None

    def service(self, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2].lower()
        for kind, make in KINDS.items():
            behavior = getattr(self, f"{kind}_{method}", None)
            if behavior is not None:
                return make(behavior)
        return None

    async def unary_see(self, request, context):
        self.ran.append("see")
        return _seen(request, context)

    def unary_threaded(self, request, context):
        self.ran.append("threaded")
        assert threading.current_thread() is not threading.main_thread()
        return _seen(request, context)

    async def unary_hold(self, request, _context):
        self.entered.set()
        try:
            await self.go_on.wait()
        finally:
            self.closing_term = current_term()
        return request

    async def unary_give_up(self, _request, context):
        await context.abort(grpc.StatusCode.DATA_LOSS, "the handler gave up")

    async def gather_all(self, requests, _context):
        return json.dumps([current_term(), *[one.decode() async for one in requests]]).encode()

    async def gather_read(self, _requests, context):
        """Reads through its context."""
        read = []
        while (one := await context.read()) is not grpc.aio.EOF:
            read.append(one.decode())
        return json.dumps([current_term(), *read]).encode()

    async def stream_count(self, request, _context):
        self.ran.append("count")
        try:
            for number in range(int(request)):
                yield f"{number} {current_term()}".encode()
        finally:
            self.closing_term = current_term()
            self.closed.set()

    async def stream_silent(self, _request, _context):
        self.entered.set()
        try:
            await asyncio.Event().wait()
            yield b"never"
        finally:
            self.closing_term = current_term()

    async def stream_write(self, request, context):
        """Writes through its context."""
        for number in range(int(request)):
            await context.write(f"{number} {current_term()}".encode())

    def stream_counted(self, request, _context):
        for number in range(int(request)):
            yield f"{number} {current_term()}".encode()

    async def chat_echo(self, requests, _context):
        async for request in requests:
            yield request + b" " + str(current_term()).encode()


def _seen(request, context):
    term = None
    with contextlib.suppress(hashroute.UntaggedError):
        term = current_term()
    metadata = [tuple(entry) for entry in context.invocation_metadata()]
    seen = {"term": term, "metadata": metadata, "request": request.decode()}
    return json.dumps(seen).encode()


@pytest.fixture
def guard():
    return Guard()


@pytest.fixture
async def methods():
    return Methods()


@pytest.fixture
async def channel(guard, methods):
    rules = hashroute.pod.grpc.aio_interceptor(guard, writes=WRITES)
    server = grpc.aio.server(interceptors=[rules])
    server.add_generic_rpc_handlers((methods,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def see(channel, metadata=(), service="Writes", method="See"):
    call = channel.unary_unary(f"/test.{service}/{method}")
    return json.loads(await call(b"hello", metadata=metadata, timeout=SECONDS_MAX))


async def failing(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value


async def idle(guard):
    return await asyncio.to_thread(guard.wait_until_idle, SECONDS_MAX)


@pytest.mark.parametrize("method", ["See", "Threaded"])
async def test_a_write_is_admitted_and_its_handler_knows_the_term(guard, channel, method):
    seen = await see(channel, tagged(slot=513, epoch=8, term=5), method=method)
    assert guard.asked == [{"slot": 513, "group": None, "epoch": 8, "term": 5}]
    assert (seen["term"], seen["request"]) == (7, "hello")
    assert ["x-hashroute-term", "7"] in seen["metadata"]
    assert await idle(guard)


@pytest.mark.parametrize("method", ["See", "Threaded"])
@pytest.mark.parametrize("code", REFUSALS)
async def test_a_refused_write_does_not_run(guard, methods, channel, code, method):
    guard.refusal = code
    error = await failing(see(channel, tagged(), method=method))
    assert (error.code(), error.details()) == (REFUSALS[code], f"refused: {code}")
    trailing = dict(error.trailing_metadata())
    assert trailing["x-hashroute-refusal"] == code.replace("_", "-")
    assert trailing["x-hashroute-outcome"] == "not-applied"
    assert trailing["x-hashroute-epoch"] == "9"
    assert methods.ran == []


@pytest.mark.parametrize("method", ["See", "Threaded"])
async def test_a_read_is_nobodys_business_and_finds_no_term(guard, channel, method):
    guard.refusal = "no_lease"
    seen = await see(channel, tagged(("a", "1")), service="Reads", method=method)
    names = [name for name, _ in seen["metadata"]]
    assert seen["term"] is None
    assert "x-hashroute-term" not in names
    assert "a" in names
    assert guard.asked == []


async def test_a_read_that_streams_finds_no_term_either(channel):
    call = channel.unary_stream("/test.Reads/Count")(b"1", metadata=tagged())
    error = await failing(anext(aiter(call)))
    assert "no write was admitted here" in error.details()


async def test_an_untagged_write_is_refused(guard, channel):
    error = await failing(see(channel))
    assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"
    assert guard.asked == []


async def test_a_method_that_is_not_there_is_not_made_to_be(channel):
    error = await failing(see(channel, tagged(), method="Nothing"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["Count", "Write", "Counted"])
async def test_responses_that_stream_are_one_write(guard, channel, method):
    call = channel.unary_stream(f"/test.Writes/{method}")(b"2", metadata=tagged())
    assert [response async for response in call] == [b"0 7", b"1 7"]
    assert len(guard.asked) == 1
    assert await idle(guard)


@pytest.mark.parametrize("method", ["All", "Read"])
async def test_requests_that_stream_are_one_write(guard, channel, method):
    call = channel.stream_unary(f"/test.Writes/{method}")(iter([b"a", b"b"]), metadata=tagged())
    assert json.loads(await call) == [7, "a", "b"]
    assert len(guard.asked) == 1
    assert await idle(guard)


async def test_a_chat_is_one_write_until_its_end(guard, channel):
    chat = channel.stream_stream("/test.Writes/Echo")(metadata=tagged())
    await chat.write(b"a")
    assert await chat.read() == b"a 7"
    assert guard.under_way == 1
    await chat.done_writing()
    assert await chat.read() is grpc.aio.EOF
    assert await idle(guard)


async def test_a_unary_write_is_under_way_until_its_handler_returns(guard, methods, channel):
    call = channel.unary_unary("/test.Writes/Hold")(b"x", metadata=tagged())
    await methods.entered.wait()
    assert guard.under_way == 1
    methods.go_on.set()
    assert await call == b"x"
    assert await idle(guard)


async def test_a_cancelled_write_ends_after_its_handler_did(guard, methods, channel):
    call = channel.unary_unary("/test.Writes/Hold")(b"x", metadata=tagged())
    await methods.entered.wait()
    call.cancel()
    assert await idle(guard)
    assert methods.closing_term == 7


async def test_a_write_whose_handler_gives_up_has_ended(guard, channel):
    error = await failing(see(channel, tagged(), method="Give_up"))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "the handler gave up")
    assert await idle(guard)


async def test_a_stream_that_is_cancelled_while_it_is_silent_ends(guard, methods, channel):
    call = channel.unary_stream("/test.Writes/Silent")(b"x", metadata=tagged())
    await methods.entered.wait()
    assert guard.under_way == 1
    call.cancel()
    assert await idle(guard)
    assert methods.closing_term == 7


async def test_a_stream_that_is_cancelled_while_it_sends_ends_with_its_handler(
    guard, methods, channel
):
    """Its generator is suspended where it handed over a response, and would stay so."""
    call = channel.unary_stream("/test.Writes/Count")(b"1000000", metadata=tagged())
    assert await call.read() == b"0 7"
    call.cancel()
    assert await idle(guard)
    await asyncio.wait_for(methods.closed.wait(), SECONDS_MAX)
    assert methods.closing_term == 7


async def test_calls_at_the_same_time_each_have_their_own_admission(guard, channel):
    guard.term = 1
    held = channel.stream_stream("/test.Writes/Echo")(metadata=tagged())
    await held.write(b"a")
    assert await held.read() == b"a 1"
    guard.term = 2
    assert (await see(channel, tagged()))["term"] == 2
    await held.write(b"b")
    assert await held.read() == b"b 1"
    await held.done_writing()
    with pytest.raises(hashroute.UntaggedError):
        current_admission()


async def test_the_next_call_on_the_same_thread_has_no_term_of_the_one_before(guard, methods):
    rules = hashroute.pod.grpc.aio_interceptor(guard, writes=WRITES)
    with ThreadPoolExecutor(1) as threads:
        server = grpc.aio.server(migration_thread_pool=threads, interceptors=[rules])
        server.add_generic_rpc_handlers((methods,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert (await see(channel, tagged(), method="Threaded"))["term"] == 7
            assert (await see(channel, service="Reads", method="Threaded"))["term"] is None
        await server.stop(None)
