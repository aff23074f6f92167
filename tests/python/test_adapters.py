"""The adapters against the documented examples of the packages that they stand in for."""

from __future__ import annotations

import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, KeysView
from importlib import metadata
from types import SimpleNamespace
from typing import cast

import pytest
import uhashring
from hashroute import ConfigurationError, UnknownPodError
from hashroute.adapters import Hasher, HashRing
from pymemcache.client.hash import HashClient
from pymemcache.client.rendezvous import RendezvousHash

NODES = ["node1", "node2", "node3"]
KEYS = [f"key-{number}" for number in range(3000)]


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_ring_has_every_public_name_of_uhashring() -> None:
    assert public(uhashring.HashRing) | {"hashi"} <= public(HashRing)


class Redis(dict[str, str]):
    """As much of a Redis client as the README of uhashring uses."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        del self[key]


def readme_blocks() -> list[str]:
    """The Python of uhashring's README, as its package carries it; not the bare dict in it."""
    text = str(metadata.metadata("uhashring").get_payload())
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if "from uhashring import HashRing" in block]


def run_as_documented(block: str, ring: type, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setitem(sys.modules, "uhashring", SimpleNamespace(HashRing=ring))
    monkeypatch.setitem(
        sys.modules, "mmh3", SimpleNamespace(hash=lambda key: zlib.crc32(key.encode()) - 2**31)
    )
    namespace: dict[str, object] = {"redis": SimpleNamespace(StrictRedis=Redis)}
    exec(compile(block, "README of uhashring", "exec"), namespace)  # noqa: S102 - a locked package
    return namespace


def test_the_readme_of_uhashring_is_where_it_was() -> None:
    assert len(readme_blocks()) >= 6


@pytest.mark.parametrize("block", [b for b in readme_blocks() if "'ketama'" not in b])
def test_what_the_readme_of_uhashring_shows_runs_unchanged(
    block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = run_as_documented(block, uhashring.HashRing, monkeypatch)
    their_text = capsys.readouterr().out
    ours = run_as_documented(block, HashRing, monkeypatch)
    our_text = capsys.readouterr().out
    one, other = cast("tuple[uhashring.HashRing, HashRing]", (theirs["hr"], ours["hr"]))
    assert list(one.get_nodes()) == other.get_nodes()
    assert one.nodes.keys() == other.nodes.keys()
    assert {name: conf["weight"] for name, conf in one.conf.items()} == {
        name: conf["weight"] for name, conf in other.conf.items()
    }
    for name in ("target_node", "conf"):
        assert type(theirs.get(name)) is type(ours.get(name))
    assert bool(their_text) == bool(our_text)
    assert their_text.startswith("Counter") == our_text.startswith("Counter")


def test_the_ketama_of_the_readme_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = (block for block in readme_blocks() if "'ketama'" in block)
    with pytest.raises(ConfigurationError, match="leave hash_fn out"):
        run_as_documented(block, HashRing, monkeypatch)


def test_every_method_returns_what_that_of_uhashring_does() -> None:
    theirs, ours = uhashring.HashRing(nodes=NODES), HashRing(nodes=NODES)
    for name in sorted(public(uhashring.HashRing) - {"print_continuum", "regenerate", "hashi"}):
        one, other = getattr(theirs, name), getattr(ours, name)
        if name.startswith(("add_", "remove_")):
            one, other = one("node3"), other("node3")
        elif callable(one):
            takes_key = name not in {"get_instances", "get_nodes", "get_points"}
            one, other = (call("coconut") if takes_key else call() for call in (one, other))
        assert kind_of(one) == kind_of(other), name


def kind_of(value: object) -> object:
    """The type of a value and of what it holds; generators are read."""
    if isinstance(value, Iterator):
        return "iterator", {kind_of(one) for one in value}
    if isinstance(value, tuple):
        return tuple(kind_of(one) for one in value)
    if isinstance(value, list | KeysView):  # The README says list, and so does ours.
        return list, frozenset(kind_of(one) for one in value)
    if isinstance(value, dict):
        return type(value), frozenset((kind_of(k), kind_of(v)) for k, v in value.items())
    return type(value)


def test_basic_usage() -> None:
    ring = HashRing(nodes=NODES)
    assert ring.get_node("coconut") in NODES
    assert ring.get_node("coconut") == HashRing(nodes=NODES[::-1]).get_node("coconut")


def test_adding_and_removing_nodes() -> None:
    ring = HashRing(nodes=NODES)
    before = {key: ring.get_node(key) for key in KEYS}
    ring.remove_node("node2")
    assert ring.get_nodes() == ["node1", "node3"]
    moved = [key for key in KEYS if ring.get_node(key) != before[key]]
    assert {before[key] for key in moved} == {"node2"}
    ring.add_node("node2")
    assert {key: ring.get_node(key) for key in KEYS} == before
    ring.add_node("node4", {"weight": 10})
    counts = Counter(ring.get_node(key) for key in KEYS)
    assert counts.most_common(1)[0][0] == "node4"
    del ring["node4"]
    assert {key: ring.get_node(key) for key in KEYS} == before


def test_advanced_usage_reads_instances_by_key() -> None:
    stores: dict[str, dict[str, str]] = {name: {} for name in NODES}
    nodes = {
        name: {
            "hostname": f"{name}.fqdn",
            "instance": stores[name],
            "port": 6379,
            "vnodes": 40,
            "weight": 1,
        }
        for name in NODES
    }
    nodes["node3"].pop("weight")
    ring = HashRing(nodes)
    ring["coconut"]["coconut"] = "my_value"
    owner = ring.get_node("coconut")
    assert owner is not None
    assert stores[owner] == {"coconut": "my_value"}
    assert ring.get("coconut") == {**nodes[owner], "nodename": owner, "weight": 1}
    assert ring.get_node_hostname("coconut") == f"{owner}.fqdn"
    assert ring.get_node_port("coconut") == 6379
    assert ring.get_node_weight("coconut") == 1
    assert ring.get_instances() == list(stores.values())


def test_a_weight_function_decides_the_distribution() -> None:
    ring = HashRing(nodes=NODES, weight_fn=lambda **conf: int(conf["nodename"][-1]))
    distribution = ring.distribution
    assert sum(distribution.values()) == ring.size == len(ring.ring)
    fair = {name: ring.size * int(name[-1]) / 6 for name in NODES}
    assert all(distribution[name] <= fair[name] * 1.05 + 1 for name in NODES)


@pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")
def test_a_node_that_owns_nothing_is_in_the_distribution_too() -> None:
    ring = HashRing({"heavy": 1_000_000, "light": 0.000001})
    assert ring.distribution == {"heavy": ring.size, "light": 0}
    assert set(ring.distribution) == {"heavy", "light"}


def test_a_hash_function_is_used_for_every_look_up() -> None:
    ring = HashRing(nodes=NODES, hash_fn=lambda key: zlib.crc32(key.encode()))
    assert ring.hashi("coconut") == zlib.crc32(b"coconut")
    assert ring.get_node("coconut") == HashRing(nodes=NODES).get_node(zlib.crc32(b"coconut"))


def test_a_regenerated_ring_follows_its_weight_function() -> None:
    weights = {"node1": 1, "node2": 1}
    ring = HashRing(nodes=list(weights), weight_fn=lambda **conf: weights[conf["nodename"]])
    weights["node1"] = 9
    ring.regenerate()
    assert ring.distribution["node1"] > 5 * ring.distribution["node2"]


def test_the_nodes_of_a_key_are_its_preference() -> None:
    ring = HashRing(nodes=NODES)
    listed = list(ring.iterate_nodes("coconut"))
    assert sorted(name for name in listed if name) == NODES
    assert listed[0] == ring.get_node("coconut")
    assert [conf["nodename"] for conf in ring.range("coconut", 2)] == listed[:2]
    slot, owner = ring.get_server("coconut") or (None, None)
    assert (slot, owner) == (ring.get_node_pos("coconut"), listed[0])
    assert slot is not None
    assert ring.get_points()[slot] == (slot, owner)


def test_without_nodes_there_is_no_owner() -> None:
    ring = HashRing()
    assert ring.get_node("coconut") is None
    assert ring["coconut"] is None
    assert ring.size == 0
    assert list(ring.iterate_nodes("coconut")) == [None]


@pytest.mark.parametrize("nodes", [{"node1": "heavy"}, {"node1": {"weight": 0}}, {"node1": -1}])
def test_a_weight_that_means_nothing_is_refused(nodes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        HashRing(nodes).get_node("coconut")


def test_what_cannot_be_reproduced_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ketama"):
        HashRing(nodes=NODES, hash_fn="ketama")
    with pytest.raises(UnknownPodError):
        HashRing(nodes=NODES).remove_node("node9")
    with pytest.raises(TypeError):
        HashRing(nodes=NODES, weight_fn=3)  # type: ignore[arg-type]


def test_pymemcache_takes_the_hasher() -> None:
    assert public(RendezvousHash) <= public(Hasher)
    servers = [("127.0.0.1", port) for port in (11211, 11212, 11213)]
    client = HashClient(servers, hasher=Hasher)
    names = {f"{host}:{port}" for host, port in servers}
    assert {client.hasher.get_node(key) for key in KEYS} == names
    before = {key: client.hasher.get_node(key) for key in KEYS}
    client.hasher.remove_node("127.0.0.1:11213")  # what it does with a server that failed
    moved = {before[key] for key in KEYS if client.hasher.get_node(key) != before[key]}
    assert moved == {"127.0.0.1:11213"}


def test_a_hasher_knows_its_nodes() -> None:
    hasher = Hasher()
    assert hasher.get_node("coconut") is None
    hasher.add_node("a")
    hasher.add_node("a")
    assert list(hasher.nodes) == ["a"]
    with pytest.raises(ValueError, match="No such node b"):
        hasher.remove_node("b")
