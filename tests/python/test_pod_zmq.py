"""The guard in front of a ZeroMQ loop: what it lets in, what it answers, what it leaves alone."""

from __future__ import annotations

import contextlib

import hashroute
import hashroute.pod.zmq
import pytest
import zmq
import zmq.asyncio
from hashroute._hashroute import Tag
from hashroute.pod import current_term

from tests.integration.processes import SECONDS_MAX
from tests.python.guard_double import Guard
from tests.python.test_pod_grpc import REFUSALS

MILLISECONDS_MAX = int(SECONDS_MAX * 1000)
KINDS = [zmq.REP, zmq.ROUTER, zmq.DEALER]


@pytest.fixture
def guard():
    return Guard()


@pytest.fixture
def connect():
    """Makes both ends of a conversation, which end with the test."""
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        yield lambda kind: stack.enter_context(contextlib.closing(Ends(context, kind)))


class Ends:
    """A pod's socket, and the router that talks to it."""

    def __init__(self, context, kind):
        self.pod = context.socket(kind)
        self.router = context.socket(zmq.DEALER)
        for socket in (self.pod, self.router):
            socket.linger = 0
            socket.rcvtimeo = MILLISECONDS_MAX
        port = self.pod.bind_to_random_port("tcp://127.0.0.1")
        self.router.connect(f"tcp://127.0.0.1:{port}")

    def close(self):
        self.pod.close()
        self.router.close()

    def send(self, *content, number=b"12345678"):
        self.router.send_multipart([number, b"", *content])

    def answer(self):
        number, delimiter, *answer = self.router.recv_multipart()
        assert (number, delimiter) == (b"12345678", b"")
        return answer


@pytest.fixture(params=KINDS)
def ends(request, connect):
    return connect(request.param)


def tag(guard, key=b"AAPL", epoch=9, term=7):
    return Tag(slot=guard.slot(key), epoch=epoch, term=term).to_frame()


def refusal(answer):
    """The word, the epoch and the text of a guard's refusal, which must be one frame."""
    (frame,) = answer
    mark, code, outcome, word, epoch, text = frame.decode().split(" ", 5)
    assert (mark, code, outcome) == ("HASHROUTE-ERROR", "REFUSED", "outcome=not-applied")
    assert text
    return word.removeprefix("refusal="), int(epoch.removeprefix("epoch="))


def test_a_write_comes_without_its_tag_and_is_answered_in_its_envelope(guard, ends):
    ends.send(tag(guard, epoch=8, term=5), b"AAPL", b"bid")
    with hashroute.pod.zmq.Guard(guard).receive(ends.pod) as request:
        assert request.frames == (b"AAPL", b"bid")
        assert (request.term, current_term(), guard.under_way) == (7, 7, 1)
        assert (request.tag.slot, request.tag.term) == (guard.slot(b"AAPL"), 7)
        request.reply(b"done", b"42")
        with pytest.raises(hashroute.ClosedError):
            request.reply(b"again")
    assert guard.under_way == 0
    assert guard.asked == [{"slot": guard.slot(b"AAPL"), "group": None, "epoch": 8, "term": 5}]
    assert ends.answer() == [b"done", b"42"]
    with pytest.raises(hashroute.UntaggedError):
        current_term()


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refused_write_is_answered_and_never_seen(guard, ends, code):
    guard.refusal = code
    guarded = hashroute.pod.zmq.Guard(guard)
    ends.send(tag(guard), b"AAPL", b"bid")
    ends.pod.rcvtimeo = 500
    with pytest.raises(zmq.Again):
        guarded.receive(ends.pod)
    assert refusal(ends.answer()) == (code.replace("_", "-"), 9)
    assert guard.under_way == 0


@pytest.mark.parametrize(
    "content",
    [
        [b"AAPL", b"bid"],
        [b"hashroute/1 slot=1", b"AAPL", b"bid"],
        [b"hashroute/2 slot=1 epoch=1 term=1", b"AAPL", b"bid"],
        [b"hashroute/1 slot=5000000 epoch=9 term=7", b"AAPL", b"bid"],
        [b"hashroute/1 group=g epoch=9 term=7", b"AAPL", b"bid"],
    ],
)
@pytest.mark.parametrize("untagged", ["reject", "own"])
def test_without_a_whole_tag_for_its_key_a_write_is_untagged(guard, ends, content, untagged):
    guarded = hashroute.pod.zmq.Guard(guard, untagged=untagged)
    ends.send(*content)
    ends.send(tag(guard), b"AAPL", b"next")
    with guarded.receive(ends.pod) as request:
        # Only what has no tag at all is judged by the pod's own record.
        own = untagged == "own" and not content[0].startswith(b"hashroute/")
        assert request.frames[-1] == (b"bid" if own else b"next")
        request.reply(b"done")
    if not own:
        assert refusal(ends.answer()) == ("untagged", 9)
        assert len(guard.asked) == 1


def test_a_write_without_its_key_frame_is_told_so(guard, ends):
    guarded = hashroute.pod.zmq.Guard(guard, key_frame=1)
    ends.send(tag(guard), b"AAPL")
    ends.send(tag(guard), b"head", b"AAPL")
    with guarded.receive(ends.pod) as request:
        assert request.frames == (b"head", b"AAPL")
        request.reply(b"done")
    (frame,) = ends.answer()
    assert frame.startswith(b"HASHROUTE-ERROR MISSING_KEY outcome=not-applied ")


def test_a_guard_without_a_rule_believes_the_tag(guard, ends):
    ends.send(b"hashroute/1 slot=5 epoch=9 term=7", b"whatever")
    with hashroute.pod.zmq.Guard(guard, key_frame=None).receive(ends.pod) as request:
        assert request.tag.slot == 5
        request.reply(b"done")


def test_a_group_is_written_by_its_name_alone(guard, ends):
    guarded = hashroute.pod.zmq.Guard(guard, group="fix gateway")
    ends.send(b"hashroute/1 group=other epoch=9 term=7", b"first")
    ends.send(b"hashroute/1 group=fix%20gateway epoch=9 term=7", b"second")
    with guarded.receive(ends.pod) as request:
        assert (request.frames, request.tag.group) == ((b"second",), "fix gateway")
        request.reply(b"done")
    assert refusal(ends.answer()) == ("untagged", 9)


def test_a_block_that_raises_ends_the_write(guard, ends):
    ends.send(tag(guard), b"AAPL", b"bid")
    guarded = hashroute.pod.zmq.Guard(guard)
    with pytest.raises(ZeroDivisionError), guarded.receive(ends.pod):
        guard.under_way / 0
    assert len(guard.asked) == 1
    assert guard.under_way == 0


def test_an_envelope_of_many_hops_comes_back_whole(guard, connect):
    ends = connect(zmq.ROUTER)
    ends.router.send_multipart([b"hop-1", b"hop-2", b"", tag(guard), b"AAPL", b"bid"])
    with hashroute.pod.zmq.Guard(guard).receive(ends.pod) as request:
        request.reply(b"done")
    assert ends.router.recv_multipart() == [b"hop-1", b"hop-2", b"", b"done"]


def test_a_message_without_an_envelope_is_answered_too(guard, connect):
    ends = connect(zmq.ROUTER)
    ends.router.send(b"what")
    ends.pod.rcvtimeo = 500
    with pytest.raises(zmq.Again):
        hashroute.pod.zmq.Guard(guard).receive(ends.pod)
    assert refusal(ends.router.recv_multipart()) == ("untagged", 9)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_holds_on_an_event_loop(guard, kind):
    with zmq.asyncio.Context() as context:
        pod, router = context.socket(kind), context.socket(zmq.DEALER)
        pod.linger = router.linger = 0
        port = pod.bind_to_random_port("tcp://127.0.0.1")
        router.connect(f"tcp://127.0.0.1:{port}")
        guarded = hashroute.pod.zmq.AsyncGuard(guard)
        await router.send_multipart([b"1", b"", b"AAPL", b"untagged"])
        await router.send_multipart([b"2", b"", tag(guard), b"AAPL", b"bid"])
        async with await guarded.receive(pod) as request:
            assert (request.frames, request.term) == ((b"AAPL", b"bid"), 7)
            assert (current_term(), guard.under_way) == (7, 1)
            await request.reply(b"done")
        assert guard.under_way == 0
        number, _, frame = await router.recv_multipart()
        assert number == b"1"
        assert frame.startswith(b"HASHROUTE-ERROR REFUSED outcome=not-applied refusal=untagged")
        assert await router.recv_multipart() == [b"2", b"", b"done"]
        pod.close()
        router.close()


def test_rules_that_say_nothing_are_refused_at_once(guard):
    with pytest.raises(hashroute.ParameterError, match="untagged"):
        hashroute.pod.zmq.Guard(guard, untagged="maybe")
