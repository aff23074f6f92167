"""What the native sidecar is told is what the file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashroute.config import load, settings_of, view_of

if TYPE_CHECKING:
    from pathlib import Path

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
    view = view_of(loaded.configuration, epoch=7)
    assert view == {
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
    assert settings_of(loaded, view) == {
        "view": view,
        "listen": {"grpc": "127.0.0.1:0", "zmq": None},
        "routes": [
            {
                "match": "/a.B/C",
                "key": [{"metadata": "k"}, {"field": [4, 1]}, "path", "peer"],
                "on_missing": "any",
                "idempotent": True,
            }
        ],
        "zmq": {
            "key_frame": 1,
            "idempotent": False,
            "envelope": "delimited",
            "request_timeout_ms": 1500,
            "message_bytes_max": 1 << 20,
            "on_missing": "reject",
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
    }
