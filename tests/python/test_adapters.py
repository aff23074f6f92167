"""The adapters against the documented examples of the packages that they stand in for."""

from __future__ import annotations

import zlib
from collections import Counter

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
