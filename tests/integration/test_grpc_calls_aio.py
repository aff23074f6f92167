"""The four kinds of calls through the sidecar from an asyncio client, many at a time."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest

from tests.integration.processes import SECONDS_MAX, UNLIMITED, until_true


@pytest.fixture
async def aio_channel(shared_sidecar):
    async with grpc.aio.insecure_channel(shared_sidecar.address, options=UNLIMITED) as channel:
        yield channel


async def test_many_unary_calls_on_one_connection_get_their_own_answers(aio_channel):
    echo = aio_channel.unary_unary("/safe.Pod/Echo")
    messages = [f"call {number}".encode() for number in range(500)]
    answers = await asyncio.gather(*(echo(message, timeout=SECONDS_MAX) for message in messages))
    assert answers == messages


async def test_a_server_stream_arrives_whole_and_in_order(aio_channel):
    call = aio_channel.unary_stream("/safe.Pod/Count")(b"1000", timeout=SECONDS_MAX)
    assert [answer async for answer in call] == [str(number).encode() for number in range(1000)]


async def test_a_client_stream_arrives_whole(aio_channel):
    call = aio_channel.stream_unary("/safe.Pod/Gather")(timeout=SECONDS_MAX)
    for size in range(200):
        await call.write(bytes(size))
    await call.done_writing()
    assert json.loads(await call) == {"messages": 200, "bytes": sum(range(200))}


async def test_both_sides_of_a_stream_take_turns(aio_channel):
    call = aio_channel.stream_stream("/safe.Pod/Chat")(timeout=SECONDS_MAX)
    for number in range(50):
        await call.write(str(number).encode())
        assert await call.read() == f"heard {number}".encode()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_cancelled_stream_ends_while_others_go_on(aio_channel):
    other = aio_channel.stream_stream("/safe.Pod/Chat")(timeout=SECONDS_MAX)
    flood = aio_channel.unary_stream("/safe.Pod/Flood")(b"1000000", timeout=SECONDS_MAX)
    await flood.read()
    flood.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flood.read()
    await other.write(b"still there?")
    assert await other.read() == b"heard still there?"
    await other.done_writing()


async def test_a_cancelled_task_cancels_the_call_at_the_pod(aio_channel, shared_pods):
    async def hang():
        await aio_channel.unary_unary("/safe.Pod/Hang")(b"task", timeout=SECONDS_MAX)

    task = asyncio.create_task(hang())
    await until_true(lambda: any("hang task" in pod.notes() for pod in shared_pods), "it arrives")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_true(
        lambda: any("cancelled task" in pod.notes() for pod in shared_pods), "the pod is told"
    )
