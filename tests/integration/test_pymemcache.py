"""pymemcache's `HashClient` with our hasher, against real memcached servers on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hashroute import Ring
from hashroute.adapters import Hasher
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from tests.integration.processes import Program, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What pymemcache 4.0 shows under "Using a memcached cluster" (docs/getting_started.rst), but for
# the hasher. The ports are those of its servers there.
DOCUMENTED = """
from pymemcache.client.hash import HashClient

client = HashClient([
    '127.0.0.1:11211',
    '127.0.0.1:11212',
], hasher=Hasher)
client.set('some_key', 'some value')
result = client.get('some_key')
"""
KEYS = [f"key-{number}" for number in range(200)]


class Memcached(Program):
    """A server of its own on a port that the kernel chose."""

    def __init__(self, directory: Path, name: str) -> None:
        program = shutil.which("memcached", path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
        assert program is not None, "these tests need memcached: make packages"
        ports = directory / name
        self.process = subprocess.Popen(
            [program, "-l", "127.0.0.1", "-p", "-1", "-U", "0", "-u", "root", "-t", "1", "-m", "8"],
            env={**os.environ, "MEMCACHED_PORT_FILENAME": str(ports)},
            stderr=subprocess.DEVNULL,
        )
        # It names the file when the port is open.
        until(ports.exists, f"{name} listens")
        self.address = "127.0.0.1:" + ports.read_text("utf-8").removeprefix("TCP INET: ").strip()

    def keys(self) -> set[str]:
        """Those of KEYS that lie here, asked past every hasher."""
        client = Client(self.address)
        found = client.get_many(KEYS)
        client.close()
        return set(found)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Memcached]]:
    started: list[Memcached] = []
    try:
        started.extend(Memcached(tmp_path, name) for name in ("one", "two", "three"))
        yield started
    finally:
        for server in started:
            server.close()


def test_the_documented_example_of_a_cluster_runs(servers: list[Memcached]) -> None:
    text = DOCUMENTED
    for port, server in zip(("11211", "11212"), servers, strict=False):
        text = text.replace(f"127.0.0.1:{port}", server.address)
    names: dict[str, Any] = {"Hasher": Hasher}
    exec(compile(text, "getting_started.rst", "exec"), names)  # noqa: S102 - the text above
    assert names["result"] == b"some value"
    names["client"].close()


def test_each_key_lies_on_the_server_that_the_ring_names(servers: list[Memcached]) -> None:
    addresses = [server.address for server in servers]
    client = HashClient(addresses, hasher=Hasher, default_noreply=False)
    assert client.set_many({key: key for key in KEYS}) == []
    assert client.get_many(KEYS) == {key: key.encode() for key in KEYS}
    ring = Ring(addresses)
    for server in servers:
        owned = {key for key in KEYS if ring.owner(key) == server.address}
        assert server.keys() == owned
    assert client.delete(KEYS[0])
    assert client.get(KEYS[0]) is None
    client.close()


def test_when_a_server_dies_only_its_keys_move(servers: list[Memcached]) -> None:
    addresses = [server.address for server in servers]
    client = HashClient(
        addresses, hasher=Hasher, default_noreply=False, retry_attempts=0, ignore_exc=True
    )
    before = {key: client.hasher.get_node(key) for key in KEYS}
    for key in KEYS:
        client.set(key, "before")
    dead, *alive = servers
    dead.kill()
    for key in KEYS:
        client.set(key, "after")  # the first that fails takes the dead server out of the hasher
    assert list(client.hasher.nodes) == [server.address for server in alive]
    for key in KEYS:
        client.set(key, "after")
    found = client.get_many(KEYS)
    assert Counter(found.values()) == {b"after": len(KEYS)}
    for server in alive:
        kept = {key for key in KEYS if before[key] == server.address}
        assert kept <= server.keys()
    moved = {key for key in KEYS if client.hasher.get_node(key) != before[key]}
    assert {before[key] for key in moved} == {dead.address}
    client.close()
