"""A file is reported whole: each error with its place, its key, what is expected and the remedy."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hashroute.config import Finding, check, load
from hashroute.errors import ConfigurationError, ConfigurationFileError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
[listen]
grpc = "127.0.0.1:9000"
[pods.pod-a]
grpc = "127.0.0.1:50051"
[pods.pod-b]
grpc = "127.0.0.1:50052"
"""


@pytest.fixture
def found(tmp_path: Path):
    """Returns the findings of a text, as `severity code key line`."""

    def run(text: str | bytes) -> list[str]:
        return [_short(finding) for finding in findings(tmp_path, text)]

    return run


def findings(directory: Path, text: str | bytes) -> tuple[Finding, ...]:
    file = directory / "hashroute.toml"
    file.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    return check(file)[1]


def _short(finding: Finding) -> str:
    from hashroute.config import dotted

    line = finding.position.line if finding.position else "-"
    return f"{finding.severity} {finding.code} {dotted(finding.key)} {line}"


def test_a_good_file_has_no_findings_and_is_read(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text(GOOD)
    loaded, found = check(file)
    assert found == ()
    assert loaded == load(file)
    assert [*loaded.configuration.pods] == ["pod-a", "pod-b"]
    assert str(loaded.configuration.listen.control) == "127.0.0.1:9003"


def test_every_error_of_a_file_is_reported_in_its_order(found) -> None:
    assert found("""\
        [ring]
        slots = 65535
        [listne]
        grpc = "127.0.0.1:9000"
        [listen]
        grpc = "127.0.0.1"
        zmq = "tcp://127.0.0.1:9001"
        [pods.pod-a]
        wieght = 1.0
        zmq = "tcp://127.0.0.1:5551"
        [pods."pod b"]
        [pods.pod-c]
        weight = nan
        zmq = "tcp://127.0.0.1:5551"
        [[routes]]
        match = "svc"
        key = ["field:1", "fild:2"]
        [[routes]]
        on_missing = "ignore"
        [[routes]]
        match = "/a.B/*"
        key = ["field:name"]
        [[routes]]
        match = "/a.B/C"
        idempotent = "yes"
        [zmq]
        key_frame = 1.5
        [health]
        timeout = 150
        [zmw]
    """) == [
        "error slots ring.slots 2",
        "error unknown_key listne 3",
        "error address listen.grpc 6",
        "error unknown_key pods.pod-a.wieght 9",
        'error name pods."pod b" 11',
        "error out_of_range pods.pod-c.weight 13",
        "warning duplicate_address pods.pod-c.zmq 14",
        "error pattern routes[0].match 16",
        "error key_source routes[0].key[1] 17",
        "error missing_key routes[1].match 18",
        "error not_a_choice routes[1].on_missing 19",
        "error unresolved_field routes[2].key[0] 22",
        "warning route_never_matches routes[3].match 24",
        "error wrong_type routes[3].idempotent 25",
        "error wrong_type zmq.key_frame 27",
        "error duration health.timeout 29",
        "error unknown_key zmw 30",
    ]


def test_a_finding_says_what_was_expected_what_is_there_and_what_to_write(tmp_path: Path) -> None:
    text = GOOD.replace('grpc = "127.0.0.1:50051"', 'grcp = "127.0.0.1:50051"')
    first = findings(tmp_path, text)[-1]
    assert first.render("hashroute.toml") == dedent("""\
        hashroute.toml:4:1: error: pods.pod-a.grcp: no such key in [pods.pod-a]
            expected  one of grpc, zmq, weight, zone, state
            got       grcp = "127.0.0.1:50051"
            write     grpc""")
    assert first.to_dict() == {
        "severity": "error",
        "code": "unknown_key",
        "key": "pods.pod-a.grcp",
        "message": "no such key in [pods.pod-a]",
        "expected": "one of grpc, zmq, weight, zone, state",
        "got": 'grcp = "127.0.0.1:50051"',
        "suggestion": "grpc",
        "position": {"line": 4, "column": 1},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[pods.a]\ngrpc = 1 2", "error syntax  2"),
        ("[pods.a]\n[pods.a]", "error syntax  2"),
        ("a = ", "error syntax  1"),
        ('a = "', "error syntax  1"),
        ("a = " + "[" * 5000 + "]" * 5000, "error syntax  -"),
        (b'[pods.a]\nzone = "Gen\xe8ve"', "error not_utf8  2"),
        (b"\xef\xbb\xbf[pods.a]", "error byte_order_mark  1"),
        (b"#" * (4 << 20) + b"\n", "error file_too_large  -"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_one_error_with_its_place(found, text, expected) -> None:
    assert found(text) == [expected]


def test_a_byte_that_is_not_utf8_is_named_with_its_offset_and_place(tmp_path: Path) -> None:
    finding = findings(tmp_path, b'# \xc3\xa9\nzone = "Gen\xe8ve"')[0]
    assert "byte 0xe8 at offset 16" in finding.message
    assert finding.position is not None
    assert (finding.position.line, finding.position.column) == (2, 12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ring = 5\n[pods]\na = "x"\nroutes = 1', ["wrong_type ring", "wrong_type pods.a"]),
        ("routes = [1]", ["wrong_type routes[0]"]),
        ("[routes]", ["wrong_type routes"]),
        ("pods = []", ["wrong_type pods"]),
        ("[[ring]]", ["wrong_type ring"]),
        ("[ring]\nslots = true", ["wrong_type ring.slots"]),
        ('[ring]\nslots = "2"', ["wrong_type ring.slots"]),
        ("[[routes]]\nmatch='/*'\nkey = []", ["wrong_length routes[0].key"]),
        ("[[routes]]\nmatch='/*'\nkey = 'path'", ["wrong_type routes[0].key"]),
    ],
)
def test_wrong_types_anywhere_are_reported_and_never_break_the_check(found, text, expected) -> None:
    reported = [line.removeprefix("error ").rpartition(" ")[0] for line in found(text)]
    assert [line for line in expected if line not in reported] == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[listen]\ngrpc = ""\n[pods.a]', ["error nothing_listens listen 1"]),
        ("[listen]\ngrpc = 'localhost:1'", ["error no_pods pods -"]),
        (
            "[listen]\ngrpc = 'localhost:1'\n[pods.a]\ngrpc = 'a:2'\nstate = 'draining'",
            ["error no_active_pod pods 3"],
        ),
        (
            "[listen]\ngrpc = 'localhost:1'\n[pods.a]\nzmq = 'tcp://a:2'",
            ["error pod_without_address pods.a.grpc 3"],
        ),
        (
            "[listen]\ngrpc = 'a:1'\nzmq = 'tcp://a:2'\n[pods.p]\nzmq = 'tcp://b:2'",
            ["warning pod_without_address pods.p.grpc 4"],
        ),
        (
            "[listen]\ngrpc = 'a:1'\nadmin = 'a:1'\n[pods.p]\ngrpc = 'b:2'",
            ["error listen_address_twice listen.admin 3"],
        ),
        (
            "[listen]\ngrpc = 'a:0'\nadmin = 'a:0'\n[pods.p]\ngrpc = 'b:2'",
            [],
        ),
        (
            "[listen]\ngrpc = 'a:1'\n[pods.p]\ngrpc = 'a:1'",
            ["error pod_is_the_sidecar pods.p.grpc 4"],
        ),
        (
            "[listen]\ngrpc = 'a:1'\n[pods.p]\ngrpc = 'b:1'\n[pods.q]\ngrpc = 'b:1'",
            ["warning duplicate_address pods.q.grpc 6"],
        ),
        (
            "[listen]\ngrpc = 'a:1'\ncontrol = '0.0.0.0:3'\n[pods.p]\ngrpc = 'b:1'",
            ["warning control_exposed listen.control 3"],
        ),
    ],
)
def test_addresses_and_pods_are_checked_together(found, more: str, expected: list[str]) -> None:
    assert found(more) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("[ring]\nslots = 2\n[pods.c]\ngrpc = 'c:1'", ["error too_many_pods ring.slots 8"]),
        ("[ring]\nslots = 64", ["warning few_slots ring.slots 8"]),
        (
            "[pods.c]\ngrpc = 'c:1'\nweight = 0.00001",
            ["warning share_below_a_slot pods.c.weight 9"],
        ),
        ("[health]\ntimeout = '10ms'", ["warning timeout_below_interval health.timeout 8"]),
        (
            "[health]\nprobe = 'connect'\nservice = 'x'",
            ["warning service_unused health.service 9"],
        ),
        (
            "[[routes]]\nmatch = '/*'\n[[routes]]\nmatch = '/a.B/*'",
            ["warning route_never_matches routes[1].match 10"],
        ),
        (
            "[[routes]]\nmatch = '/a.B/C'\nkey = ['peer', 'metadata:k', 'peer']",
            [
                "warning key_source_never_used routes[0].key[1] 9",
                "warning key_source_never_used routes[0].key[2] 9",
            ],
        ),
    ],
)
def test_what_was_probably_not_meant_is_a_warning(found, more: str, expected: list[str]) -> None:
    assert found(f"{GOOD}{more}") == expected


def test_a_check_says_nothing_that_only_follows_from_a_value_in_error(found) -> None:
    assert found(GOOD.replace('"127.0.0.1:50051"', '"nowhere"') + "[health]\ninterval = 1") == [
        "error address pods.pod-a.grpc 4",
        "error duration health.interval 8",
    ]


def test_loading_a_file_with_errors_raises_them_all(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text("[ring]\nslots = 3\nepsilon = -1\n")
    with pytest.raises(ConfigurationFileError) as raised:
        load(file)
    assert isinstance(raised.value, ConfigurationError)
    assert [finding.code for finding in raised.value.findings] == [
        "nothing_listens",
        "no_pods",
        "slots",
        "out_of_range",
    ]
    assert f"{file}:2:9: error: ring.slots" in str(raised.value)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_another_kind_of_failure(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationFileError) as raised:
        check(tmp_path / name)
    assert raised.value.findings == ()
    assert "cannot read" in str(raised.value)
