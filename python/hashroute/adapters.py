"""Drop-in surfaces of two packages that people already route with.

`HashRing` answers like `uhashring.HashRing`; `Hasher` is what `pymemcache.HashClient(hasher=...)`
takes. Both route through `hashroute.Ring`, so they gain its bounded load and least movement, and
both give *other owners* than the package they stand in for: moving to them moves keys once.

Differences from uhashring, all forced by what a ring of slots is:
    - a position is a slot (`0..slots-1`), and every slot is one point of the continuum;
    - `vnodes` scales a node's weight against the default number instead of adding points;
    - `hash_fn="ketama"` is refused, because its mapping cannot be reproduced; a callable
      `hash_fn` is honoured: the integer it returns becomes the key.

Neither class is safe for writers in several threads at once; lookups beside lookups are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from typing import Any

from hashroute._ring import Ring
from hashroute.errors import ConfigurationError, UnknownPodError

__all__ = ["HashRing", "Hasher"]

Conf = dict[str, Any]

_DEFAULT_VNODES = 160
_MASK = (1 << 64) - 1


class HashRing:
    """A consistent-hash ring with the methods and attributes of `uhashring.HashRing`.

    Args:
        nodes: a name, a list of names, or a mapping of name to weight or to a node's
            configuration (`hostname`, `instance`, `port`, `vnodes`, `weight`; others are dropped,
            as there).
        hash_fn: a callable from key to int to hash keys with, or None for XXH3-64.
        vnodes: the number against which a node's own `vnodes` scales its weight; 160.
        weight_fn: called with a node's configuration as keywords; returns its weight.
        slots: as in `Ring`.
        epsilon: as in `Ring`.
        seed: as in `Ring`.
        replicas: accepted and without effect, as there without ketama.

    Raises:
        ConfigurationError: `hash_fn="ketama"`, or a weight that is not positive and finite.
        TypeError: `weight_fn` cannot be called.
    """

    def __init__(
        self,
        nodes: str | Iterable[str] | Mapping[str, Any] = (),
        *,
        hash_fn: Callable[[Any], int] | str | None = None,
        vnodes: int | None = None,
        weight_fn: Callable[..., float] | None = None,
        slots: int = 65536,
        epsilon: float = 0.05,
        seed: int = 0,
        replicas: int | None = None,
    ) -> None:
        del replicas
        if isinstance(hash_fn, str):
            raise ConfigurationError(
                f"hash_fn={hash_fn!r}: the ketama mapping cannot be reproduced by a ring of slots;"
                " leave hash_fn out to hash with XXH3-64, or pass a callable from key to int"
            )
        if weight_fn is not None and not callable(weight_fn):
            raise TypeError("weight_fn should be a callable function")
        self._hash_fn = hash_fn
        self._default_vnodes = _DEFAULT_VNODES if vnodes is None else vnodes
        self._weight_fn = weight_fn
        self._parameters: dict[str, Any] = {"slots": slots, "epsilon": epsilon, "seed": seed}
        self._conf: dict[str, Conf] = {}
        self._built: Ring | None = None
        self._configure(nodes)

    def add_node(self, nodename: str, conf: float | Mapping[str, Any] | None = None) -> None:
        """Adds a node, or replaces its configuration; the ring follows at the next look-up."""
        self._configure({nodename: {} if conf is None else conf})

    __setitem__ = add_node

    def remove_node(self, nodename: str) -> None:
        """Removes a node.

        Raises:
            UnknownPodError: no such node; it is also a KeyError.
        """
        if nodename not in self._conf:
            raise UnknownPodError(
                f"no node {nodename!r}: there are {list(self._conf)}", pod=nodename
            )
        del self._conf[nodename]
        self._built = None

    __delitem__ = remove_node

    def regenerate(self) -> None:
        """Calls `weight_fn` again for every node and follows its answers."""
        self._configure(dict(self._conf))

    def get(self, key: Any) -> Conf | None:
        """Returns the configuration of the node that owns `key`, or None without nodes."""
        nodename = self.get_node(key)
        return None if nodename is None else self._conf[nodename]

    def get_node(self, key: Any) -> str | None:
        """Returns the name of the node that owns `key`, or None without nodes."""
        ring = self._ring_now()
        return None if ring is None else ring.owner(self._hashable(key))

    def get_node_hostname(self, key: Any) -> Any:
        """Returns the `hostname` of the node that owns `key`."""
        return self._field(key, "hostname")

    def get_node_instance(self, key: Any) -> Any:
        """Returns the `instance` of the node that owns `key`."""
        return self._field(key, "instance")

    __getitem__ = get_node_instance

    def get_node_port(self, key: Any) -> Any:
        """Returns the `port` of the node that owns `key`."""
        return self._field(key, "port")

    def get_node_weight(self, key: Any) -> Any:
        """Returns the `weight` of the node that owns `key`."""
        return self._field(key, "weight")

    def get_node_pos(self, key: Any) -> int | None:
        """Returns the slot of `key`, or None without nodes."""
        ring = self._ring_now()
        return None if ring is None else ring.slot(self._hashable(key))

    def get_key(self, key: Any) -> int:
        """Returns the position that `key` hashes to: `hash_fn(key)`, or its slot."""
        if callable(self._hash_fn):
            return self._hash_fn(key)
        ring = self._ring_now() or Ring(["none"], **self._parameters)
        return ring.slot(self._hashable(key))

    hashi = get_key

    def get_server(self, key: Any) -> tuple[int, str] | None:
        """Returns (slot, node name) of `key`, or None without nodes."""
        ring = self._ring_now()
        if ring is None:
            return None
        hashable = self._hashable(key)
        return ring.slot(hashable), ring.owner(hashable)

    def get_instances(self) -> list[Any]:
        """Returns the instances of all nodes that have one."""
        return [conf["instance"] for conf in self._conf.values() if conf["instance"] is not None]

    def get_nodes(self) -> list[str]:
        """Returns the names of all nodes, in the order in which they were added."""
        return list(self._conf)

    def get_points(self) -> list[tuple[int, str]]:
        """Returns (slot, node name) for every slot, in order."""
        return list(enumerate(self._owners()))

    def iterate_nodes(self, key: Any, *, distinct: bool = True) -> Iterator[str | None]:
        """Yields the names of the nodes that may hold `key`, best first; None without nodes.

        A preference list names each node once, so `distinct` changes nothing.
        """
        del distinct
        if not self._conf:
            yield None
        for conf in self.range(key):
            yield conf["nodename"]

    def range(self, key: Any, size: int | None = None, *, unique: bool = True) -> Iterator[Conf]:
        """Yields the configurations of the first `size` nodes (all) that may hold `key`."""
        del unique
        ring = self._ring_now()
        if ring is not None:
            for nodename in ring.preference(self._hashable(key), size or len(self._conf)):
                yield self._conf[nodename]

    def print_continuum(self) -> None:
        """Prints each slot with its node."""
        points = self.get_points()
        lines = [f"Numpoints in continuum: {len(points)}" if points else "Continuum empty"]
        lines += [f"{nodename} ({slot})" for slot, nodename in points]
        print("\n".join(lines))  # noqa: T201  printing is what this method is for

    @property
    def conf(self) -> dict[str, Conf]:
        """The configuration of each node by name."""
        return self._conf

    nodes = conf

    @property
    def distribution(self) -> Counter[str]:
        """The number of slots that each node owns."""
        counts = Counter(dict.fromkeys(self._conf, 0))
        counts.update(self._owners())
        return counts

    @property
    def ring(self) -> dict[int, str]:
        """The owner of each slot."""
        return dict(self.get_points())

    continuum = ring

    @property
    def size(self) -> int:
        """The number of slots; 0 without nodes."""
        return len(self._owners())

    def _configure(self, nodes: str | Iterable[str] | Mapping[str, Any]) -> None:
        if isinstance(nodes, str):
            nodes = [nodes]
        given = nodes if isinstance(nodes, Mapping) else {name: {} for name in nodes}
        fresh = {name: self._complete(name, conf) for name, conf in given.items()}
        self._conf.update(fresh)
        self._built = None

    def _complete(self, name: str, given: float | Mapping[str, Any]) -> Conf:
        conf: Conf = {
            "hostname": name,
            "instance": None,
            "nodename": name,
            "port": None,
            "vnodes": self._default_vnodes,
            "weight": 1,
        }
        if isinstance(given, Mapping):
            conf |= {field: value for field, value in given.items() if field in conf}
        elif isinstance(given, int | float):
            conf["weight"] = given
        else:
            raise ConfigurationError(
                f"node {name!r}: expected a weight or a mapping, got {type(given).__name__}"
            )
        if self._weight_fn is not None:
            conf["weight"] = self._weight_fn(**conf)
        return conf

    def _ring_now(self) -> Ring | None:
        if self._built is None and self._conf:
            weights = {
                name: conf["weight"] * conf["vnodes"] / self._default_vnodes
                for name, conf in self._conf.items()
            }
            self._built = Ring(weights, **self._parameters)
        return self._built

    def _owners(self) -> list[str]:
        ring = self._ring_now()
        if ring is None:
            return []
        ids = [pod.id for pod in ring.pods]
        return [ids[index] for index in ring.table]

    def _field(self, key: Any, field: str) -> Any:
        conf = self.get(key)
        return None if conf is None else conf[field]

    def _hashable(self, key: Any) -> str | bytes | int:
        if callable(self._hash_fn):
            return self._hash_fn(key) & _MASK
        return _as_key(key)


class Hasher:
    """What `pymemcache.client.hash.HashClient` asks of its `hasher` class.

    Pass the class itself: `HashClient(servers, hasher=Hasher)`. Nodes are any objects whose `str`
    is unique (pymemcache uses `"host:port"`); the ring is rebuilt at the first look-up after a
    change, so adding a hundred servers builds it once.
    """

    def __init__(self, nodes: Iterable[Any] | None = None, *, slots: int = 65536) -> None:
        self._nodes: dict[str, Any] = {str(node): node for node in nodes or ()}
        self._slots = slots
        self._built: Ring | None = None

    @property
    def nodes(self) -> ValuesView[Any]:
        """The nodes, in the order in which they were added."""
        return self._nodes.values()

    def add_node(self, node: Any) -> None:
        """Adds `node`; one that is there already changes nothing."""
        if str(node) not in self._nodes:
            self._nodes[str(node)] = node
            self._built = None

    def remove_node(self, node: Any) -> None:
        """Removes `node`.

        Raises:
            ValueError: no such node, as pymemcache's own hasher says.
        """
        if str(node) not in self._nodes:
            raise ValueError(f"No such node {node} to remove; there are {list(self._nodes)}")
        del self._nodes[str(node)]
        self._built = None

    def get_node(self, key: Any) -> Any:
        """Returns the node that owns `key`, or None without nodes."""
        if not self._nodes:
            return None
        if self._built is None:
            self._built = Ring(list(self._nodes), slots=self._slots)
        return self._nodes[self._built.owner(_as_key(key))]


def _as_key(key: Any) -> str | bytes | int:
    return key if isinstance(key, str | bytes | int) else str(key)
