"""Each kind of value accepts what it says, refuses the rest, and knows what was meant."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hashroute.config.addresses import Address, AddressOf, parse_address
from hashroute.config.findings import dotted, nearest, shown
from hashroute.config.keys import (
    FieldSource,
    KeySourceKind,
    MetadataSource,
    PathSource,
    PeerSource,
    covers,
)
from hashroute.config.values import format_duration, format_size, parse_duration, parse_size
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("50ms", 50), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000), ("0ms", 0), ("0.001s", 1)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        (50, '"50ms" or "50s"'),
        ("50", None),
        ("50 ms", '"50ms"'),
        ("5sec", '"5s"'),
        ("2 Minutes", '"2m"'),
        ("10 millis", '"10ms"'),
        ("1MS", '"1ms"'),
        ("0.5ms", None),
        ("-1s", None),
        ("", None),
        (True, None),
        (1.5, None),
    ],
)
def test_what_is_no_duration_is_refused_with_what_was_meant(
    value: object, suggestion: str | None
) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        parse_duration(value)
    assert (raised.value.context or {}).get("suggestion") == suggestion


@given(st.integers(0, 10**9))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("value", "size"), [(65536, 65536), ("64KiB", 65536), ("1MiB", 1 << 20), ("7B", 7), (0, 0)]
)
def test_a_size_is_bytes_or_has_a_unit_of_two(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        ("64KB", '"64KiB"'),
        ("64 k", '"64KiB"'),
        ("1M", '"1MiB"'),
        ("5", '"5B"'),
        ("1.5MiB", None),
        ("lots", None),
        (1.5, None),
        (True, None),
    ],
)
def test_what_is_no_size_is_refused_with_what_was_meant(
    value: object, suggestion: str | None
) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        parse_size(value)
    assert (raised.value.context or {}).get("suggestion") == suggestion


@given(st.integers(0, 1 << 40))
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("pod-a.rack_1.example:50051", "pod-a.rack_1.example", 50051),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "scheme", "suggestion"),
    [
        ("localhost", "", '"localhost:9000"'),
        ("localhost:", "", '"localhost:9000"'),
        ("::1:50051", "", '"[::1]:50051"'),
        ("http://localhost:1", "", '"localhost:1"'),
        ("localhost:1", "tcp://", '"tcp://localhost:1"'),
        ("ipc:///tmp/x", "tcp://", '"tcp:///tmp/x"'),
        ("tcp://*:9001", "tcp://", '"tcp://0.0.0.0:9001"'),
        ("[::g]:1", "", None),
        ("256.1.1.1:1", "", None),
        ("localhost:0", "", None),
        ("localhost:65536", "", None),
        ("a b:1", "", None),
        ("a..b:1", "", None),
        (":1", "", None),
        ("localhost:\u0661", "", None),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_meant(
    text: str, scheme: str, suggestion: str | None
) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        parse_address(text, scheme=scheme)
    assert (raised.value.context or {}).get("suggestion") == suggestion


def test_only_an_address_to_listen_on_may_be_empty_or_have_port_0() -> None:
    assert AddressOf(listens=True).parse("") is None
    assert AddressOf(listens=True).parse("127.0.0.1:0") == Address("127.0.0.1", 0)
    for text in ("", "127.0.0.1:0"):
        with pytest.raises(PydanticCustomError):
            AddressOf().parse(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)],
)
def test_loopback_is_known(host: str, loopback: bool) -> None:  # noqa: FBT001
    assert Address(host, 1).is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("metadata:x-key", MetadataSource("x-key")),
        ("metadata:trace-bin", MetadataSource("trace-bin")),
        ("field:4.1", FieldSource((4, 1))),
        ("field:order.symbol", FieldSource(("order", "symbol"))),
        ("path", PathSource()),
        ("peer", PeerSource()),
    ],
)
def test_a_key_source_is_read_as_it_was_written(text: str, source: object) -> None:
    parsed = KeySourceKind().parse(text)
    assert parsed == source
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        ("metadata:X-Key", '"metadata:x-key"'),
        ("header:X-Key", '"metadata:x-key"'),
        ("metdata:k", '"metadata:k"'),
        ("feild:1", '"field:1"'),
        ("Path", '"path"'),
        ("metadata:", None),
        ("metadata", '"metadata:NAME"'),
        ("metadata:grpc-timeout", '"metadata:x-hashroute-key"'),
        ("metadata:x-hashroute-slot", '"metadata:x-hashroute-key"'),
        ("field:", None),
        ("field:0", None),
        ("field:536870912", None),
        ("field:a.1", None),
        ("field:1.a", None),
        ("field:a..b", None),
        ("field:" + ".".join("1" * 9), None),
        ("path:x", '"path"'),
        (7, None),
    ],
)
def test_what_is_no_key_source_is_refused_with_what_was_meant(
    value: object, suggestion: str | None
) -> None:
    with pytest.raises(PydanticCustomError) as raised:
        KeySourceKind().parse(value)
    assert (raised.value.context or {}).get("suggestion") == suggestion


@pytest.mark.parametrize(
    ("pattern", "other", "covered"),
    [
        ("/*", "/a.B/*", True),
        ("/a.B/*", "/a.B/C", True),
        ("/a.B/C", "/a.B/C", True),
        ("/a.B/*", "/a.Bee/C", False),
        ("/a.B/C", "/a.B/*", False),
        ("/a.B/*", "/*", False),
    ],
)
def test_a_pattern_covers_what_it_would_match_first(
    pattern: str,
    other: str,
    covered: bool,  # noqa: FBT001
) -> None:
    assert covers(pattern, other) is covered


def test_keys_and_values_are_shown_as_toml_writes_them() -> None:
    assert dotted(("pods", "pod.a", "routes", 3, "b c")) == 'pods."pod.a".routes[3]."b c"'
    assert shown({"a": [1, True, "x"]}) == '{a = [1, true, "x"]}'
    assert len(shown("x" * 1000)) == 80


def test_the_nearest_name_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("TimeOut", ("interval", "timeout")) == "timeout"
    assert nearest("zzz", ("interval", "timeout")) is None
