"""The guard in front of a grpcio server's handlers: what runs, what it sees, how long it counts."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent import futures

import grpc
import hashroute
import hashroute.pod.grpc
import pytest
from grpc_health.v1 import health_pb2
from hashroute.pod import current_admission, current_term

from tests.integration.processes import SECONDS_MAX
from tests.python.guard_double import Guard, tagged

WRITES = ["/test.Writes/*"]
REFUSALS = {
    "not_owner": grpc.StatusCode.FAILED_PRECONDITION,
    "stale_term": grpc.StatusCode.FAILED_PRECONDITION,
    "untagged": grpc.StatusCode.FAILED_PRECONDITION,
    "behind": grpc.StatusCode.UNAVAILABLE,
    "moving": grpc.StatusCode.UNAVAILABLE,
    "no_lease": grpc.StatusCode.UNAVAILABLE,
}


class Methods(grpc.GenericRpcHandler):
    """Every service has these methods; each notes that it ran, and what it saw."""

    def __init__(self):
        self.ran = []
        self.closed = threading.Event()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def service(self, handler_call_details):
        method = handler_call_details.method.rpartition("/")[2].lower()
        for kind, make in KINDS.items():
            behavior = getattr(self, f"{kind}_{method}", None)
            if behavior is not None:
                return make(behavior)
        return None

    def unary_see(self, request, context):
        self.ran.append("see")
        term = None
        with contextlib.suppress(hashroute.UntaggedError):
            term = current_term()
        is_context = isinstance(context, grpc.ServicerContext)
        metadata = [tuple(entry) for entry in context.invocation_metadata()]
        seen = {"term": term, "metadata": metadata, "is_context": is_context}
        return json.dumps(seen | {"request": request.decode()}).encode()

    def unary_hold(self, request, _context):
        self.entered.set()
        assert self.go_on.wait(SECONDS_MAX)
        return request

    def unary_fail(self, request, _context):
        raise ValueError(request.decode())

    def unary_give_up(self, _request, context):
        context.abort(grpc.StatusCode.DATA_LOSS, "the handler gave up")

    def gather_all(self, requests, _context):
        self.ran.append("see")
        return json.dumps([current_term(), *(request.decode() for request in requests)]).encode()

    def stream_count(self, request, _context):
        self.ran.append("count")
        try:
            for number in range(int(request)):
                yield f"{number} {current_term()}".encode()
        finally:
            # What a handler does at its end is a part of the write too.
            self.closing_term = current_term()
            self.closed.set()

    def stream_listed(self, request, _context):
        """Not a generator: the responses are there before the first is asked for."""
        return iter([request, str(current_term()).encode()])

    def chat_echo(self, requests, _context):
        self.ran.append("echo")
        for request in requests:
            yield request + b" " + str(current_term()).encode()


KINDS = {
    "unary": grpc.unary_unary_rpc_method_handler,
    "stream": grpc.unary_stream_rpc_method_handler,
    "gather": grpc.stream_unary_rpc_method_handler,
    "chat": grpc.stream_stream_rpc_method_handler,
}


@contextlib.contextmanager
def serving(handler, *interceptors):
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=interceptors)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(0).wait(SECONDS_MAX)


@pytest.fixture
def guard():
    return Guard()


@pytest.fixture
def methods():
    return Methods()


@pytest.fixture
def channel(guard, methods):
    rules = hashroute.pod.grpc.interceptor(guard, writes=WRITES)
    with serving(methods, rules) as channel:
        yield channel


def see(channel, metadata=(), service="Writes", body=b"hello"):
    call = channel.unary_unary(f"/test.{service}/See")
    return json.loads(call(body, metadata=metadata, timeout=SECONDS_MAX))


def failing(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


class TestDecisions:
    def test_a_write_is_admitted_with_its_tag_before_the_handler_runs(self, guard, channel):
        seen = see(channel, tagged(slot=513, epoch=8, term=5))
        assert guard.asked == [{"slot": 513, "group": None, "epoch": 8, "term": 5}]
        assert (seen["term"], seen["request"]) == (7, "hello")

    @pytest.mark.parametrize("code", REFUSALS)
    def test_a_refused_write_does_not_run_and_says_what_a_router_is_to_do(
        self, guard, methods, channel, code
    ):
        guard.refusal = code
        error = failing(lambda: see(channel, tagged()))
        assert error.code() is REFUSALS[code]
        assert error.details() == f"refused: {code}"
        assert dict(error.trailing_metadata()) == {
            "x-hashroute-refusal": code.replace("_", "-"),
            "x-hashroute-outcome": "not-applied",
            "x-hashroute-epoch": "9",
        }
        assert methods.ran == []
        assert guard.under_way == 0

    @pytest.mark.parametrize(
        "metadata",
        [
            (),
            tagged(term=None),
            tagged(slot=None),
            tagged(slot="x"),
            tagged(("x-hashroute-slot", "2")),
            tagged(("x-hashroute-group", "g")),
        ],
    )
    def test_a_write_without_a_whole_tag_is_untagged(self, guard, methods, channel, metadata):
        error = failing(lambda: see(channel, metadata))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"
        assert (guard.asked, methods.ran) == ([], [])

    def test_a_group_is_written_under_its_name(self, guard, channel):
        see(channel, tagged(("x-hashroute-group", "fix%20gateway"), slot=None))
        assert guard.asked[0]["group"] == "fix gateway"

    def test_a_read_is_nobodys_business(self, guard, channel):
        guard.refusal = "no_lease"
        assert see(channel, service="Reads")["term"] is None
        assert guard.asked == []

    def test_a_method_that_is_not_there_is_not_made_to_be(self, channel):
        error = failing(lambda: channel.unary_unary("/test.Writes/Nothing")(b"", metadata=tagged()))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


class TestRules:
    """What a request writes is said by the guard's own rules, where it has any."""

    @pytest.fixture
    def serve(self, guard, methods):
        with contextlib.ExitStack() as stack:

            def serve(**rules):
                rules.setdefault("writes", WRITES)
                interceptor = hashroute.pod.grpc.interceptor(guard, **rules)
                return stack.enter_context(serving(methods, interceptor))

            yield serve

    def test_a_tag_for_another_slot_than_that_of_the_key_is_none(self, guard, methods, serve):
        channel = serve(key="metadata:symbol")
        slot = guard.slot("AAPL")
        assert see(channel, tagged(("symbol", "AAPL"), slot=slot))["term"] == 7
        error = failing(lambda: see(channel, tagged(("symbol", "AAPL"), slot=slot + 1)))
        assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"
        assert len(guard.asked) == len(methods.ran) == 1

    def test_a_key_in_a_field_is_found_in_the_bytes_that_came(self, guard):
        def check(request, _context):
            assert current_term() == 7
            return health_pb2.HealthCheckResponse(status=len(request.service))

        handler = grpc.method_handlers_generic_handler(
            "test.Writes",
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    check,
                    health_pb2.HealthCheckRequest.FromString,
                    health_pb2.HealthCheckResponse.SerializeToString,
                )
            },
        )
        rules = hashroute.pod.grpc.interceptor(guard, writes=True, key="field:service")
        with serving(handler, rules) as channel:
            call = channel.unary_unary(
                "/test.Writes/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            request = health_pb2.HealthCheckRequest(service="A")
            tag = tagged(slot=guard.slot("A"))
            assert call(request, metadata=tag, timeout=SECONDS_MAX).status == 1
            error = failing(lambda: call(request, metadata=tagged(slot=guard.slot("B"))))
            assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"

    def test_a_write_without_the_key_that_the_rules_look_for_is_malformed(self, methods, serve):
        error = failing(lambda: see(serve(key="metadata:symbol"), tagged()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert dict(error.trailing_metadata()) == {"x-hashroute-outcome": "not-applied"}
        assert "metadata:symbol" in error.details()
        assert methods.ran == []

    def test_a_group_of_the_rules_takes_no_tag_for_anything_else(self, guard, serve):
        channel = serve(writes=False, groups={"/test.Writes/*": "gateway"})
        see(channel, tagged(("x-hashroute-group", "gateway"), slot=None))
        for tag in (tagged(), tagged(("x-hashroute-group", "other"), slot=None)):
            error = failing(lambda tag=tag: see(channel, tag))
            assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"
        assert [asked["group"] for asked in guard.asked] == ["gateway"]

    def test_an_untagged_write_may_be_judged_by_the_pods_own_record(self, guard, serve):
        channel = serve(untagged="own", key="metadata:symbol")
        seen = see(channel, (("symbol", "AAPL"),))
        slot = guard.slot("AAPL")
        assert guard.asked == [{"slot": slot, "group": None, "epoch": None, "term": None}]
        assert ["x-hashroute-slot", str(slot)] in seen["metadata"]
        # A tag that is there in part is no tag under either setting.
        error = failing(lambda: see(channel, (("symbol", "AAPL"), ("x-hashroute-term", "7"))))
        assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"

    def test_without_a_tag_and_a_rule_nobody_knows_what_is_written(self, guard, serve):
        error = failing(lambda: see(serve(untagged="own")))
        assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "untagged"
        assert guard.asked == []

    @pytest.mark.parametrize(
        "rules",
        [
            {"writes": ["Orders"]},
            {"key": "header:x"},
            {"untagged": "maybe"},
            {"groups": {"*": "g"}},
        ],
    )
    def test_rules_that_say_nothing_are_refused_at_once(self, guard, rules):
        with pytest.raises(hashroute.ConfigurationError):
            hashroute.pod.grpc.interceptor(guard, **({"writes": WRITES} | rules))


class TestWhatHandlersSee:
    def test_the_tag_in_the_metadata_is_the_one_that_was_admitted(self, channel):
        seen = see(channel, tagged(("a", "1"), slot=3, epoch=8, term=9999))
        found = [entry for entry in seen["metadata"] if entry[0].startswith("x-hashroute-")]
        assert sorted(found) == [
            ["x-hashroute-epoch", "9"],
            ["x-hashroute-slot", "3"],
            ["x-hashroute-term", "7"],
        ]
        assert ["a", "1"] in seen["metadata"]
        assert seen["is_context"]

    def test_a_read_finds_no_term_whatever_its_sender_says(self, channel):
        seen = see(channel, tagged(("a", "1")), service="Reads")
        names = [name for name, _ in seen["metadata"]]
        assert "x-hashroute-term" not in names
        assert {"x-hashroute-slot", "x-hashroute-epoch", "a"} <= set(names)

    def test_outside_of_an_admitted_write_there_is_no_term(self):
        for ask in (current_term, current_admission):
            with pytest.raises(hashroute.UntaggedError, match="no write was admitted here"):
                ask()

    def test_the_next_call_on_the_same_thread_has_no_term_of_the_one_before(self, guard, methods):
        rules = hashroute.pod.grpc.interceptor(guard, writes=WRITES)
        server = grpc.server(futures.ThreadPoolExecutor(1), interceptors=[rules])
        server.add_generic_rpc_handlers((methods,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert see(channel, tagged())["term"] == 7
            assert see(channel, service="Reads")["term"] is None
        server.stop(0).wait(SECONDS_MAX)


class TestHowLongItCounts:
    """A release waits for what is under way, so nothing may end too early, nor never."""

    def test_a_unary_write_is_under_way_until_its_handler_returns(self, guard, methods, channel):
        future = channel.unary_unary("/test.Writes/Hold").future(b"x", metadata=tagged())
        assert methods.entered.wait(SECONDS_MAX)
        assert guard.under_way == 1
        methods.go_on.set()
        assert future.result(SECONDS_MAX) == b"x"
        assert guard.wait_until_idle(SECONDS_MAX)

    def test_a_cancelled_call_counts_as_long_as_its_handler_runs(self, guard, methods, channel):
        """grpcio does not stop the thread, so the handler may still write."""
        future = channel.unary_unary("/test.Writes/Hold").future(b"x", metadata=tagged())
        assert methods.entered.wait(SECONDS_MAX)
        future.cancel()
        see(channel, service="Reads")
        assert guard.under_way == 1
        methods.go_on.set()
        assert guard.wait_until_idle(SECONDS_MAX)

    @pytest.mark.parametrize("method", ["Fail", "Give_up"])
    def test_a_write_whose_handler_raises_has_ended(self, guard, channel, method):
        failing(lambda: channel.unary_unary(f"/test.Writes/{method}")(b"x", metadata=tagged()))
        assert guard.wait_until_idle(SECONDS_MAX)

    def test_streams_count_until_their_last_message(self, guard, methods, channel):
        gathered = channel.stream_unary("/test.Writes/All")(iter([b"a", b"b"]), metadata=tagged())
        assert json.loads(gathered) == [7, "a", "b"]
        count = channel.unary_stream("/test.Writes/Count")
        assert list(count(b"2", metadata=tagged())) == [b"0 7", b"1 7"]
        assert list(channel.unary_stream("/test.Writes/Listed")(b"x", metadata=tagged())) == [
            b"x",
            b"7",
        ]
        chat = channel.stream_stream("/test.Writes/Echo")(iter([b"a", b"b"]), metadata=tagged())
        assert list(chat) == [b"a 7", b"b 7"]
        assert guard.wait_until_idle(SECONDS_MAX)
        assert len(guard.asked) == 4
        assert methods.ran == ["see", "count", "echo"]

    def test_an_open_stream_is_one_write(self, guard, channel):
        messages = futures.Future()

        def requests():
            yield b"a"
            messages.result(SECONDS_MAX)

        chat = channel.stream_stream("/test.Writes/Echo")(requests(), metadata=tagged())
        assert next(chat) == b"a 7"
        assert guard.under_way == 1
        messages.set_result(None)
        assert list(chat) == []
        assert guard.wait_until_idle(SECONDS_MAX)

    def test_a_stream_that_nobody_reads_any_more_ends_and_its_handler_with_it(
        self, guard, methods, channel
    ):
        """The flow of responses stands, so the handler is in the middle of its loop."""
        call = channel.unary_stream("/test.Writes/Count")(b"1000000", metadata=tagged())
        assert next(call) == b"0 7"
        call.cancel()
        assert guard.wait_until_idle(SECONDS_MAX)
        assert methods.closed.wait(SECONDS_MAX)
        assert methods.closing_term == 7

    @pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
    def test_a_stream_of_requests_that_breaks_off_ends_the_write(self, guard, channel, kind):
        begun, ended = threading.Event(), threading.Event()

        def requests():
            yield b"a"
            begun.set()
            ended.wait(SECONDS_MAX)

        method = "All" if kind == "stream_unary" else "Echo"
        multi = getattr(channel, kind)(f"/test.Writes/{method}")
        start = multi.future if kind == "stream_unary" else multi
        call = start(requests(), metadata=tagged())
        assert begun.wait(SECONDS_MAX)
        call.cancel()
        ended.set()
        assert guard.wait_until_idle(SECONDS_MAX)

    def test_a_refused_stream_begins_nothing(self, guard, methods, channel):
        guard.refusal = "moving"
        error = failing(
            lambda: list(channel.unary_stream("/test.Writes/Count")(b"3", metadata=tagged()))
        )
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        error = failing(
            lambda: list(
                channel.stream_stream("/test.Writes/Echo")(iter([b"a"]), metadata=tagged())
            )
        )
        assert dict(error.trailing_metadata())["x-hashroute-refusal"] == "moving"
        assert methods.ran == []
