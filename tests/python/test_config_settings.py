"""What the native sidecar is told is what the file says."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from hashroute import _hashroute
from hashroute.config import Configuration, load, settings_of, view_of

if TYPE_CHECKING:
    from pathlib import Path

SECONDS_MAX = 30.0

FILE = """\
[ring]
slots = 1024
epsilon = 0.1
seed = 18446744073709551615
[listen]
grpc = "127.0.0.1:0"
control = ""
[pods.pod-b]
grpc = "[::1]:2"
zone = "rack-2"
state = "draining"
[pods.pod-a]
grpc = "127.0.0.1:1"
zmq = "tcp://127.0.0.1:3"
weight = 2
[[routes]]
match = "/a.B/C"
key = ["metadata:k", "field:4.1", "path", "peer"]
on_missing = "any"
idempotent = true
[zmq]
key_frame = 1
request_timeout = "1.5s"
message_bytes_max = "1MiB"
[health]
interval = "20ms"
timeout = "60ms"
probe = "connect"
[limits]
header_list_bytes = 8192
"""


def test_settings_hold_every_value_in_the_units_of_the_sidecar(tmp_path: Path) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text(FILE)
    loaded = load(file)
    assert view_of(loaded.configuration, epoch=7) == {
        "version": 1,
        "epoch": 7,
        "slots": 1024,
        "epsilon": 0.1,
        "seed": 18446744073709551615,
        "pods": [
            {
                "id": "pod-a",
                "weight": 2.0,
                "zone": None,
                "state": "active",
                "addresses": {"grpc": "127.0.0.1:1", "zmq": "tcp://127.0.0.1:3"},
            },
            {
                "id": "pod-b",
                "weight": 1.0,
                "zone": "rack-2",
                "state": "draining",
                "addresses": {"grpc": "[::1]:2", "zmq": None},
            },
        ],
    }
    assert settings_of(loaded, {"the": "view"}) == {
        "view": {"the": "view"},
        "listen": {"grpc": "127.0.0.1:0", "zmq": None},
        "routes": [
            {
                "match": "/a.B/C",
                "key": [{"metadata": "k"}, {"field": [4, 1]}, "path", "peer"],
                "on_missing": "any",
                "idempotent": True,
                "write": False,
                "group": None,
            }
        ],
        "zmq": {
            "key_frame": 1,
            "idempotent": False,
            "envelope": "delimited",
            "request_timeout_ms": 1500,
            "message_bytes_max": 1 << 20,
            "on_missing": "reject",
            "write": False,
            "group": None,
        },
        "health": {"interval_ms": 20, "timeout_ms": 60, "probe": "connect", "service": ""},
        "load": {"c": 1.25, "floor": 16},
        "retry": {
            "attempts_max": 3,
            "budget_ratio": 0.2,
            "budget_reserve": 256,
            "buffer_bytes": 65536,
        },
        "limits": {
            "connections_max": 4096,
            "requests_max": 16384,
            "header_list_bytes": 8192,
            "handshake_timeout_ms": 10000,
            "keepalive_ms": 10000,
            "stream_window_bytes": 65536,
        },
        "quorum": None,
        "guard": None,
        "writes": {"patience_ms": 2000},
    }


# The least and the most of every key with a range; slots at its most takes seconds to build.
LEAST = """\
[ring]
slots = 2
epsilon = 0
seed = 0
[listen]
grpc = "127.0.0.1:0"
zmq = "tcp://127.0.0.1:0"
[pods.p]
grpc = "127.0.0.1:1"
zmq = "tcp://127.0.0.1:1"
weight = 0.000001
[[routes]]
match = "/*"
key = ["field:1"]
[zmq]
key_frame = 0
request_timeout = "1ms"
message_bytes_max = 1
[health]
interval = "1ms"
timeout = "1ms"
[load]
c = 1
floor = 1
[retry]
attempts_max = 1
budget_ratio = 0
budget_reserve = 0
buffer_bytes = 0
[limits]
connections_max = 1
requests_max = 1
header_list_bytes = 1024
handshake_timeout = "1ms"
keepalive = "1ms"
stream_window_bytes = 1024
shutdown_grace = "0ms"
[writes]
patience = "0ms"
"""
MOST = """\
[ring]
epsilon = 10
seed = 18446744073709551615
[listen]
grpc = "127.0.0.1:0"
zmq = "tcp://127.0.0.1:0"
[pods.p]
grpc = "127.0.0.1:1"
zmq = "tcp://127.0.0.1:1"
weight = 1100000
[[routes]]
match = "/*"
key = [
  "field:536870911.1.1.1.1.1.1.1", "metadata:a", "metadata:b", "metadata:c",
  "metadata:d-bin", "metadata:e", "path", "peer",
]
[zmq]
key_frame = 255
request_timeout = "24h"
message_bytes_max = "2GiB"
[health]
interval = "1h"
timeout = "1h"
[load]
c = 1000
floor = 1048576
[retry]
attempts_max = 8
budget_ratio = 1
budget_reserve = 1000000
buffer_bytes = "64MiB"
[limits]
connections_max = 1048576
requests_max = 1048576
header_list_bytes = "16MiB"
handshake_timeout = "1h"
keepalive = "1h"
stream_window_bytes = "16MiB"
shutdown_grace = "1h"
[writes]
patience = "1h"
"""


@pytest.mark.parametrize("text", [LEAST, MOST], ids=["least", "most"])
@pytest.mark.filterwarnings("ignore::hashroute.errors.FewSlotsWarning")
def test_the_sidecar_takes_whatever_the_configuration_allows(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hashroute.toml"
    file.write_text(text)
    loaded = load(file)
    settings = settings_of(loaded, view_of(loaded.configuration, epoch=1))
    sidecar = _hashroute.Sidecar(json.dumps(settings))
    assert sidecar.addresses()["grpc"] is not None
    assert sidecar.stop(SECONDS_MAX)


def test_every_key_with_a_range_is_among_the_least_and_the_most() -> None:
    least, most = tomllib.loads(LEAST), tomllib.loads(MOST)
    for section, field in Configuration.model_fields.items():
        if section in {"pods", "routes", "listen", "quorum"}:
            continue
        schema = field.annotation.model_json_schema()["properties"]
        ranged = {key for key, entry in schema.items() if "x-range" in entry or "minimum" in entry}
        assert ranged <= least.get(section, {}).keys()
        assert ranged - {"slots"} <= most.get(section, {}).keys()
