"""Checks that each crate uses only the rooms and libraries that the architecture allows.

`core <- coordination, dataplane <- sidecar <- bindings`, `coordination <- quorum <- sidecar` and
`coordination <- simulator`: an arrow points at what a room may use.
Reads `cargo metadata`, so what counts is what Cargo links, not what a reader hopes. Run by
`make verify`; exits 1 with one line a violation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Room -> rooms it may use. A new crate must be entered here: an unknown one is a violation.
ROOMS: dict[str, set[str]] = {
    "hashroute-core": set(),
    "hashroute-coordination": {"hashroute-core"},
    "hashroute-dataplane": {"hashroute-core"},
    "hashroute-quorum": {"hashroute-core", "hashroute-coordination"},
    "hashroute-sidecar": {
        "hashroute-core",
        "hashroute-coordination",
        "hashroute-dataplane",
        "hashroute-quorum",
    },
    "hashroute-bindings": {
        "hashroute-core",
        "hashroute-coordination",
        "hashroute-dataplane",
        "hashroute-quorum",
        "hashroute-sidecar",
    },
    "hashroute-simulator": {"hashroute-core", "hashroute-coordination"},
}

# Rooms that are for development alone: no other may use them, not even in its tests.
DEVELOPMENT = {"hashroute-simulator"}

# A feature of a room -> the only rooms that may turn it on. Wrong protocols are for the simulator,
# fuzz bodies for the workspace of the fuzzers.
FEATURES: dict[tuple[str, str], set[str]] = {
    ("hashroute-coordination", "planted"): {"hashroute-simulator"},
    ("hashroute-quorum", "fuzzing"): set(),
}

# Library -> the rooms that may name it. The sans-IO rooms stay so because nothing that
# does I/O can be linked into them.
KEEPERS: dict[str, set[str]] = {
    "pyo3": {"hashroute-bindings"},
    "numpy": {"hashroute-bindings"},
    "tokio": {"hashroute-quorum", "hashroute-sidecar"},
    "mio": {"hashroute-sidecar"},
    "h2": {"hashroute-sidecar"},
    "http": {"hashroute-sidecar"},
    "socket2": {"hashroute-sidecar"},
    "libc": {"hashroute-quorum"},
    "rustix": {"hashroute-quorum"},
    "tonic": {"hashroute-quorum"},
    "prost": {"hashroute-quorum"},
    "rustls": {"hashroute-quorum"},
}

# The sans-IO rooms list every library they may use at all.
CLOSED: dict[str, set[str]] = {
    "hashroute-core": {"once_cell", "serde", "serde_json", "thiserror", "xxhash-rust"},
    "hashroute-coordination": {"thiserror", "hashroute-core"},
    "hashroute-dataplane": {"bytes", "serde", "thiserror", "hashroute-core"},
}

LICENSES = {
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Zlib",
    "Unicode-3.0",
}


def main() -> int:
    """Prints every violation and returns the exit code."""
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version=1", "--locked"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
    )
    members = set(metadata["workspace_members"])
    violations: list[str] = []
    for package in metadata["packages"]:
        if package["id"] in members:
            violations += check_room(package)
        else:
            violations += check_license(package)
    for violation in violations:
        print(violation, file=sys.stderr)
    print(f"layers: {len(members)} crates, {len(violations)} violations")
    return 1 if violations else 0


def check_room(package: dict[str, Any]) -> list[str]:
    """Returns what `package` uses that its room may not."""
    name = str(package["name"])
    if name not in ROOMS:
        return [f"{name}: not a room of tools/layers.py; enter it with the rooms that it may use"]
    dependencies = package["dependencies"]
    used = {entry["name"] for entry in dependencies if entry["kind"] is None}
    rooms = {entry["name"] for entry in dependencies if entry["name"] in ROOMS}
    violations = [
        f"{name} uses {room}: only {sorted(ROOMS[name]) or 'nothing'} may be used from there"
        for room in sorted(rooms - ROOMS[name])
    ]
    violations += [
        f"{name} names {library}: only {sorted(KEEPERS[library])} may"
        for library in sorted(used & KEEPERS.keys())
        if name not in KEEPERS[library]
    ]
    violations += [
        f"{name} uses {room}: it is for development alone" for room in sorted(rooms & DEVELOPMENT)
    ]
    violations += [
        f"{name} turns on {feature} of {room}: only {sorted(keepers)} may"
        for (room, feature), keepers in FEATURES.items()
        for entry in dependencies
        if entry["name"] == room and feature in entry["features"] and name not in keepers
    ]
    violations += [
        f"{name} turns on {feature} of {room}: only {sorted(keepers)} may"
        for (room, feature), keepers in FEATURES.items()
        if name not in keepers and turns_on(package["features"], room, feature)
    ]
    if name in CLOSED:
        violations += [
            f"{name} uses {library}: a room without I/O lists its libraries in tools/layers.py"
            for library in sorted(used - CLOSED[name] - ROOMS.keys())
        ]
    return violations


def turns_on(features: dict[str, list[str]], room: str, feature: str) -> bool:
    """Returns whether a room's features turn that feature of another on, or its own by default."""
    wanted = {f"{room}/{feature}", f"{room}?/{feature}"}
    by_default = feature in features.get("default", [])
    return by_default or any(wanted & set(parts) for parts in features.values())


def check_license(package: dict[str, Any]) -> list[str]:
    """Returns a violation if no alternative of the package's licence is one we may use."""
    expression = str(package["license"] or "")
    alternatives = expression.replace("/", " OR ").replace("(", " ").replace(")", " ").split(" OR ")
    for alternative in alternatives:
        terms = {term.strip().split(" WITH ")[0] for term in alternative.split(" AND ")}
        if terms <= LICENSES:
            return []
    return [f"{package['name']} {package['version']}: licence {expression!r} is not on our list"]


if __name__ == "__main__":
    sys.exit(main())
