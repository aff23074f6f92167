"""What a single writer needs is checked before anything starts, and told to the node as it is."""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
from hashroute import Ring, _hashroute
from hashroute.config import Configuration, Finding, check, dotted, load, settings_of, view_of
from hashroute.config.checks import cross_check
from hashroute.config.lease import LeaseNumbers, in_words
from hashroute.config.quorum import LEASES, LeaseSection
from hashroute.config.settings import node_settings_of
from hashroute.errors import HashrouteError
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "python/hashroute/config.schema.json").read_text())

BEFORE = """\
[listen]
grpc = "127.0.0.1:9000"
[pods.pod-a]
grpc = "127.0.0.1:50051"
[pods.pod-b]
grpc = "127.0.0.1:50052"
"""
GROUP = '[quorum.groups.fix]\ncandidates = ["pod-a"]\n'
QUORUM = """\
[quorum]
cluster = "desk-7"
voters = ["127.0.0.1:9010", "127.0.0.1:9011", "127.0.0.1:9012"]
"""
VOTER = 'listen = "127.0.0.1:9010"\ndata = "voter"\n'


def findings(directory: Path, text: str) -> tuple[Finding, ...]:
    file = directory / "hashroute.toml"
    file.write_text(dedent(text))
    return check(file)[1]


@pytest.fixture
def found(tmp_path: Path):
    """Returns the findings of a text, as `severity code key`."""

    def run(text: str) -> list[str]:
        return [f"{it.severity} {it.code} {dotted(it.key)}" for it in findings(tmp_path, text)]

    return run


WITNESS = QUORUM + VOTER + "[pods.pod-a]\ngrpc = 'a:1'\n[pods.pod-b]\ngrpc = 'b:1'\n"


@pytest.mark.parametrize(
    "text",
    [
        BEFORE + QUORUM,
        BEFORE + QUORUM + VOTER + 'pod = "pod-a"\n',
        BEFORE + QUORUM + 'pod = "pod-a"\nadvertise = ""\n',
        BEFORE + QUORUM + VOTER + 'lease = "slow"\npriority = "ordinary"\n',
        BEFORE
        + QUORUM
        + VOTER.replace("127.0.0.1:9010", "0.0.0.0:1")
        + 'advertise = "127.0.0.1:9012"',
        WITNESS,
        "[listen]\nadmin = '127.0.0.1:9002'\n" + WITNESS,
        BEFORE
        + QUORUM.replace("[quorum]", '[quorum]\nengine = "etcd"')
        + '[quorum.etcd]\nendpoints = ["127.0.0.1:2379"]\n',
        BEFORE
        + '[quorum]\nengine = "etcd"\ncluster = "c"\n[quorum.etcd]\nendpoints = ["e:2379"]\n',
        BEFORE
        + QUORUM.replace("[quorum]", '[quorum]\nengine = "etcd"')
        + VOTER
        + '[quorum.etcd]\nendpoints = ["127.0.0.1:2379"]\n',
        BEFORE.replace("127.0.0.1:50051", "127.0.0.1:9100")
        + QUORUM
        + 'pod = "pod-a"\n[guard]\ngrpc = "0.0.0.0:9100"\ngrpc_service = "127.0.0.1:50051"\n',
        BEFORE
        + QUORUM
        + '[quorum.groups.fix]\ncandidates = ["pod-a", "pod-b"]\n'
        + '[[routes]]\nmatch = "/a.B/C"\nwrite = true\n'
        + '[[routes]]\nmatch = "/a.B/*"\ngroup = "fix"\n[zmq]\nwrite = true\ngroup = ""\n',
    ],
)
def test_a_file_for_each_part_in_a_cluster_has_no_findings(tmp_path: Path, text: str) -> None:
    assert [finding.render("f") for finding in findings(tmp_path, text)] == []
    jsonschema.validate(tomllib.loads(dedent(text)), SCHEMA)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", ["error missing_key quorum.cluster", "error voters quorum.voters"]),
        ('cluster = ""', ["error voters quorum.voters", "error name quorum.cluster"]),
        ('cluster = "c"', ["error voters quorum.voters"]),
        ('cluster = "c"\nvoters = ["a:1", "b:1"]', ["error voters quorum.voters"]),
        ('cluster = "c"\nvoters = ["a:1", "b:1", "c:1", "d:1"]', ["error voters quorum.voters"]),
        ('cluster = "c"\nvoters = ["a:1", "b:1", "a:1"]', ["error voter_twice quorum.voters[2]"]),
        ('cluster = "c"\nvoters = ["a:0"]', ["error address quorum.voters[0]"]),
        (
            'cluster = "c"\nvoters = ["10.0.0.1:1", "127.0.0.1:1", "10.0.0.2:1"]',
            ["warning voter_on_loopback quorum.voters[1]"],
        ),
        ('cluster = "c"\nvoters = ["a:1"]\nengine = "raft"', ["error not_a_choice quorum.engine"]),
        (
            'cluster = "c"\nvoters = ["a:1", "b:1", "c:1"]\nengine = "etcd"',
            ["error etcd_missing quorum.engine"],
        ),
        (
            'cluster = "c"\nvoters = ["a:1"]\nengine = "etcd"\n[quorum.etcd]\nendpoints = ["e:2"]',
            ["error voters quorum.voters"],
        ),
        (
            'cluster = "c"\nengine = "etcd"\netcd = {endpoints = ["e:2"]}\n' + VOTER,
            ["error voter_without_voters quorum.listen"],
        ),
        (
            'cluster = "c"\nvoters = ["a:1"]\n[quorum.etcd]\nendpoints = ["e:2"]',
            ["warning etcd_unused quorum.etcd"],
        ),
    ],
)
def test_voters_and_engine_are_checked(found, more: str, expected: list[str]) -> None:
    assert found(f"{BEFORE}[quorum]\n{more}") == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('listen = "127.0.0.1:9010"', ["error half_a_voter quorum.listen"]),
        ('data = "d"', ["error half_a_voter quorum.data"]),
        ('advertise = "10.0.0.1:1"', ["error advertise_without_listen quorum.advertise"]),
        ('listen = "[::]:9010"\ndata = "d"', ["error advertise_missing quorum.listen"]),
        (
            'listen = "127.0.0.1:9000"\ndata = "d"',
            [
                "error listen_address_twice quorum.listen",
                "warning not_among_the_voters quorum.listen",
            ],
        ),
        ('listen = "127.0.0.1:7"\ndata = "d"', ["warning not_among_the_voters quorum.listen"]),
        ('pod = "pod-x"', ["error unknown_pod quorum.pod"]),
        ('pod = "pod x"', ["error name quorum.pod"]),
        ("pod = 5", ["error wrong_type quorum.pod"]),
        ('lease = "tihgt"', ["error lease quorum.lease"]),
        ("lease = 5", ["error lease quorum.lease"]),
        ('lease = { ttl = "11m" }', ["error out_of_range quorum.lease.ttl"]),
        ("lease = { drift_ppm = 100001 }", ["error out_of_range quorum.lease.drift_ppm"]),
        (
            'lease = { renewal_interval = "0ms" }',
            ["error out_of_range quorum.lease.renewal_interval"],
        ),
        ('lease = { margni = "1ms" }', ["error unknown_key quorum.lease.margni"]),
        ('lease = { ttl = "60ms" }', ["error lease_unsafe quorum.lease"]),
        (
            'lease = "tight"\npriority = "ordinary"',
            ["warning lease_needs_priority quorum.priority"],
        ),
        ('stale_after = "1ms"', ["error out_of_range quorum.stale_after"]),
        ('tls = { ca = "a" }', [
            "error missing_key quorum.tls.certificate",
            "error missing_key quorum.tls.key",
        ]),
        (
            'tls = { ca = "a", certificate = "b", key = "c" }',
            [f"warning file_not_here quorum.tls.{name}" for name in ("ca", "certificate", "key")],
        ),
        ("[quorum.groups.fix]", ["error missing_key quorum.groups.fix.candidates"]),
        (
            "[quorum.groups.fix]\ncandidates = []",
            ["error wrong_length quorum.groups.fix.candidates"],
        ),
        (
            '[quorum.groups.fix]\ncandidates = ["pod-a", "pod-c", "pod-a"]',
            [
                "error unknown_pod quorum.groups.fix.candidates[1]",
                "error candidate_twice quorum.groups.fix.candidates[2]",
            ],
        ),
    ],
)  # fmt: skip
def test_a_process_is_checked_for_its_part(found, more: str, expected: list[str]) -> None:
    assert found(f"{BEFORE}{QUORUM}{more}") == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[[routes]]\nmatch="/*"\nwrite = true', ["warning write_not_enforced routes[0].write"]),
        ("[zmq]\nwrite = true", ["warning write_not_enforced zmq.write"]),
        ('[zmq]\ngroup = "fix"', ["warning write_not_enforced zmq.group"]),
        (
            f'{QUORUM}[[routes]]\nmatch="/*"\nwrite = true\non_missing = "any"',
            ["error write_without_key routes[0].on_missing"],
        ),
        (
            f'{QUORUM}[zmq]\nwrite = true\non_missing = "any"',
            ["error write_without_key zmq.on_missing"],
        ),
        (
            f'{QUORUM}{GROUP}[[routes]]\nmatch="/*"\ngroup = "fxi"',
            ["warning unknown_group routes[0].group"],
        ),
        (
            f'{QUORUM}{GROUP}[[routes]]\nmatch="/*"\ngroup="fix"\nwrite=false\nkey=["path"]',
            [
                "error group_is_not_write routes[0].write",
                "warning key_source_never_used routes[0].key",
            ],
        ),
    ],
)
def test_what_has_one_writer_is_checked(found, more: str, expected: list[str]) -> None:
    assert found(BEFORE + more) == expected


MEMBER = f'{QUORUM}pod = "pod-a"\n'


def guard(grpc: str, service: str) -> str:
    return f'[guard]\ngrpc = "{grpc}"\ngrpc_service = "{service}"\n'


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[guard]\ngrpc = "127.0.0.1:9100"\ngrpc_service = "127.0.0.1:1"', [
            "error guard_without_member guard",
        ]),
        (f'{QUORUM}[guard]\ngrpc = "127.0.0.1:9100"\ngrpc_service = "127.0.0.1:1"', [
            "error guard_without_member guard",
        ]),
        (f'{QUORUM}pod = "pod-a"\n[guard]\ngrpc = "127.0.0.1:9100"', [
            "error half_a_guard guard.grpc",
        ]),
        (f'{QUORUM}pod = "pod-a"\n[guard]\nzmq_service = "tcp://127.0.0.1:1"', [
            "error half_a_guard guard.zmq_service",
        ]),
        (
            MEMBER + guard("127.0.0.1:50051", "127.0.0.1:9000"),
            ["error guard_of_itself guard.grpc_service"],
        ),
        (
            MEMBER + guard("0.0.0.0:9100", "127.0.0.1:50051"),
            ["warning pod_past_the_guard pods.pod-a.grpc"],
        ),
        (
            MEMBER + guard("127.0.0.1:9000", "127.0.0.1:1"),
            ["warning pod_past_the_guard pods.pod-a.grpc", "error listen_address_twice guard.grpc"],
        ),
        ('[guard]\nuntagged = "accept"', ["error not_a_choice guard.untagged"]),
    ],
)  # fmt: skip
def test_a_guard_is_checked(found, more: str, expected: list[str]) -> None:
    assert found(BEFORE + more) == expected


def test_an_unsafe_lease_names_the_inequality_with_its_numbers_and_what_to_write(
    tmp_path: Path,
) -> None:
    (finding,) = findings(tmp_path, f'{BEFORE}{QUORUM}lease = {{ ttl = "60ms" }}')
    assert finding.message == (
        "the lease of 60ms leaves 49.88ms to write in, which is less than two renewal intervals of "
        "50ms: one lost message would end it; raise ttl or lower renewal_interval"
    )
    assert finding.expected == (
        "L(1 - 2 rho) - eps >= 2 h, and 60ms x (1 - 2 x 0.001) - 10ms = 49.88ms is less than 100ms"
    )
    assert finding.got == (
        'ttl = "60ms", renewal_interval = "50ms", drift_ppm = 1000, margin = "10ms"'
    )
    assert finding.suggestion == 'ttl = "111ms", or renewal_interval = "24ms"'


def test_a_pod_that_goes_past_its_guard_is_told_the_address_to_write(tmp_path: Path) -> None:
    text = f'{BEFORE}{QUORUM}pod = "pod-a"\n[guard]\ngrpc = "0.0.0.0:9100"\ngrpc_service = "h:1"'
    (finding,) = findings(tmp_path, text)
    assert finding.suggestion == '"127.0.0.1:9100"'


@settings(deadline=None)
@given(st.integers(1, 5_000), st.integers(1, 1_000), st.integers(0, 100_000), st.integers(0, 500))
def test_what_is_written_for_an_unsafe_lease_is_safe(ttl, interval, drift_ppm, margin) -> None:
    def lease(**changed: int) -> LeaseNumbers:
        numbers = {"ttl": ttl, "renewal_interval": interval, "margin": margin} | changed
        times = {name: timedelta(milliseconds=value) for name, value in numbers.items()}
        return LeaseNumbers.of(LeaseSection.model_construct(drift_ppm=drift_ppm, **times))

    if lease().is_safe:
        return
    for choice in lease().remedy().split(", or "):
        name, _, value = choice.partition(" = ")
        assert lease(**{name: int(value.strip('"ms'))}).is_safe
    needed = int(lease().remedy().split('"')[1].removesuffix("ms"))
    assert not lease(ttl=needed - 2).is_safe, "it asks for more than is needed"


OPERATOR = _hashroute.Operator(
    json.dumps({"cluster": "c", "voters": [], "tls": None, "timeout_ms": 1000})
)
VIEW = Ring(["a"]).to_json()


def refused_by_the_protocol(numbers: LeaseNumbers) -> str | None:
    """What the code that keeps leases says of these numbers; None if it would found with them."""
    lease = {
        "ttl_us": numbers.ttl_ns // 1_000,
        "renewal_interval_us": numbers.renewal_interval_ns // 1_000,
        "drift_ppm": numbers.drift_ppm,
        "margin_us": numbers.margin_ns // 1_000,
    }
    with pytest.raises(HashrouteError) as raised:  # there is nobody to found it with
        OPERATOR.found(VIEW, json.dumps(lease), "{}")
    return str(raised.value) if raised.value.code == "lease_unsafe" else None


@settings(deadline=None)
@given(st.integers(1, 5_000), st.integers(1, 1_000), st.integers(0, 100_000), st.integers(0, 500))
def test_the_check_refuses_the_leases_that_the_protocol_refuses_in_the_same_words(
    ttl, interval, drift_ppm, margin
) -> None:
    lease = {
        "ttl": f"{ttl}ms",
        "renewal_interval": f"{interval}ms",
        "drift_ppm": drift_ppm,
        "margin": f"{margin}ms",
    }
    quorum = {"cluster": "c", "voters": ["a:1"], "lease": lease}
    configuration = Configuration.model_validate({"quorum": quorum})
    found = [it for it in cross_check(configuration) if it.code == "lease_unsafe"]
    numbers = LeaseNumbers.of(configuration.quorum.lease)
    refused = refused_by_the_protocol(numbers)
    assert [f"quorum.lease: {it.message}" for it in found] == ([refused] if refused else [])


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0ns"),
        (999, "999ns"),
        (49_880_000, "49.88ms"),
        (1_500, "1.5µs"),
        (600_000_000_000, "600s"),
        (1_000_000_001, "1.000000001s"),
    ],
)
def test_times_are_written_as_rust_writes_them(nanoseconds: int, text: str) -> None:
    assert in_words(nanoseconds) == text


def test_the_node_is_told_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text(f"""\
{BEFORE.replace("127.0.0.1:50051", "127.0.0.1:9100")}{QUORUM}
listen = "0.0.0.0:9010"
advertise = "127.0.0.1:9010"
data = "voter"
pod = "pod-a"
lease = "tight"
stale_after = "2s"
stall_check = "0ms"
force = true
tls = {{ ca = "ca.pem", certificate = "/etc/c.pem", key = "k.pem", server_name = "desk" }}
[quorum.groups.fix]
candidates = ["pod-b", "pod-a"]
[guard]
grpc = "0.0.0.0:9100"
grpc_service = "127.0.0.1:50051"
untagged = "own"
[writes]
patience = "500ms"
[[routes]]
match = "/a.B/C"
write = true
[[routes]]
match = "/a.B/*"
group = "fix"
""")
    loaded = load(file)
    view = view_of(loaded.configuration, epoch=1)
    told = settings_of(loaded, view)
    assert told["quorum"] == {
        "cluster": "desk-7",
        "engine": "embedded",
        "voters": ["127.0.0.1:9010", "127.0.0.1:9011", "127.0.0.1:9012"],
        "listen": "0.0.0.0:9010",
        "advertise": "127.0.0.1:9010",
        "data": str(tmp_path / "voter"),
        "pod": "pod-a",
        "view": view,
        "lease": {
            "ttl_us": 150_000,
            "renewal_interval_us": 25_000,
            "drift_ppm": 1000,
            "margin_us": 3_000,
        },
        "tls": {
            "ca": str(tmp_path / "ca.pem"),
            "certificate": "/etc/c.pem",
            "key": str(tmp_path / "k.pem"),
            "server_name": "desk",
        },
        "priority": "realtime",
        "stale_after_ms": 2000,
        "stall_check_ms": 0,
        "force": True,
    }
    assert told["guard"] == {
        "grpc": {"listen": "0.0.0.0:9100", "service": "127.0.0.1:50051"},
        "zmq": None,
        "untagged": "own",
    }
    assert told["writes"] == {"patience_ms": 500}
    assert [(route["write"], route["group"]) for route in told["routes"]] == [
        (True, None),
        (True, "fix"),
    ]


def test_the_etcd_engine_is_told_with_its_table(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text(
        f'{BEFORE}[quorum]\nengine = "etcd"\ncluster = "c"\n'
        '[quorum.etcd]\nendpoints = ["e:2379"]\nprefix = "/desk"\n'
    )
    assert node_settings_of(load(file))["engine"] == {
        "etcd": {"endpoints": ["e:2379"], "prefix": "/desk"}
    }


@pytest.mark.parametrize("name", LEASES)
def test_the_leases_with_a_name_are_safe(name: str) -> None:
    quorum = {"cluster": "c", "voters": ["a:1"], "lease": name}
    configuration = Configuration.model_validate({"quorum": quorum})
    assert configuration.quorum is not None
    assert LeaseNumbers.of(configuration.quorum.lease).is_safe


def test_defaults_in_the_schema_are_those_of_the_tables_of_the_quorum() -> None:
    for definition, given_keys in (
        ("QuorumSection", {"cluster": "c"}),
        ("EtcdSection", {"endpoints": ["e:1"]}),
        ("LeaseSection", {}),
    ):
        properties = SCHEMA["$defs"][definition]["properties"]
        written = {key: it["default"] for key, it in properties.items() if "default" in it}
        tables = {
            "QuorumSection": lambda values: {"quorum": values},
            "EtcdSection": lambda values: {"quorum": {"cluster": "c", "etcd": values}},
            "LeaseSection": lambda values: {"quorum": {"cluster": "c", "lease": values}},
        }
        as_read = [
            Configuration.model_validate(tables[definition](given_keys | more))
            for more in ({}, written)
        ]
        assert as_read[0] == as_read[1], definition
