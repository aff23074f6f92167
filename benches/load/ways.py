"""The ways of placing requests under a load bound that the benchmark compares.

All take the same requests in the same order and are asked which pod each goes to. The bound is one
for all: a pod with n requests takes another if n < c x (requests in flight) / pods, the arriving
one included.
"""

from __future__ import annotations

import bisect
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import xxhash
from hashroute import Ring, Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashroute import Route

POINTS = 160
"""Of each pod on the hash ring, as Ketama places them."""
REUSES_MAX = 16
"""How often a remembered pod is used before the preference list is walked from its start again."""
PLACES = 1024
"""How many slots are remembered at once."""


class Placed(NamedTuple):
    """Where a request went."""

    pod: str
    probes: int
    """Pods asked whether they have room, the one that took it included."""
    is_home: bool


class Way(Protocol):
    """What places requests. Not safe for threads: the simulation has one."""

    def place(self, symbol: str) -> Placed:
        """Places one request and counts it in flight."""

    def finish(self, number: int) -> None:
        """Ends the request of this place among those in flight; the newest takes its place."""


class _Modelled:
    """Counts what is in flight, for ways that have no router of their own."""

    def __init__(self, pods: Sequence[str], c: float) -> None:
        self._pods = pods
        self._c = round(c * 1_000_000)
        self._load: Counter[str] = Counter()
        self._held: list[str] = []
        self._lists: dict[str, Sequence[str]] = {}

    def place(self, symbol: str) -> Placed:
        preference = self._lists.get(symbol)
        if preference is None:
            preference = self._lists[symbol] = self._preference(symbol)
        # In whole numbers, as the router reckons: n < cap is n + 1 <= the bound, rounded up.
        cap = -(-self._c * (len(self._held) + 1) // (len(self._pods) * 1_000_000))
        placed = self._choose(symbol, preference, cap)
        self._load[placed.pod] += 1
        self._held.append(placed.pod)
        return placed

    def finish(self, number: int) -> None:
        self._load[self._held[number]] -= 1
        newest = self._held.pop()
        if number < len(self._held):
            self._held[number] = newest

    def _preference(self, symbol: str) -> Sequence[str]:
        raise AssertionError(symbol)

    def _choose(self, _symbol: str, preference: Sequence[str], cap: int) -> Placed:
        place = self._first_with_room(preference, cap)
        return Placed(preference[place], place + 1, is_home=place == 0)

    def _first_with_room(self, preference: Sequence[str], cap: int) -> int:
        return next(place for place, pod in enumerate(preference) if self._load[pod] < cap)


class Chwbl(_Modelled):
    """Consistent hashing with bounded loads on a hash ring: on to the next point clockwise.

    Source: Mirrokni, Thorup and Zadimoghaddam (2016). A pod that was asked is not asked again at
    its next point.
    """

    def __init__(self, pods: Sequence[str], c: float) -> None:
        super().__init__(pods, c)
        self._points = sorted(
            (_hash(f"{pod}#{point}"), pod) for pod in pods for point in range(POINTS)
        )

    def _preference(self, symbol: str) -> Sequence[str]:
        start = bisect.bisect_left(self._points, (_hash(symbol), ""))
        clockwise = [*self._points[start:], *self._points[:start]]
        return list(dict.fromkeys(pod for _, pod in clockwise))


class Walking(_Modelled):
    """The preference list of our ring, from its start for every request."""

    def __init__(self, pods: Sequence[str], c: float) -> None:
        super().__init__(pods, c)
        self._ring = Ring(pods)

    def _preference(self, symbol: str) -> Sequence[str]:
        return self._ring.preference(symbol)


class Remembering(Walking):
    """The router's way: if the owner is full, first the pod where the slot last found room."""

    def __init__(self, pods: Sequence[str], c: float) -> None:
        super().__init__(pods, c)
        self._last: dict[int, tuple[int, str, int]] = {}

    def _choose(self, symbol: str, preference: Sequence[str], cap: int) -> Placed:
        if self._load[preference[0]] < cap:
            return Placed(preference[0], 1, is_home=True)
        slot = self._ring.slot(symbol)
        known, pod, uses = self._last.get(slot % PLACES, (slot, "", REUSES_MAX))
        asked = 1
        if known == slot and uses < REUSES_MAX:
            if self._load[pod] < cap:
                self._last[slot % PLACES] = (slot, pod, uses + 1)
                return Placed(pod, 2, is_home=False)
            asked = 2
        first = self._first_with_room(preference, cap)
        self._last[slot % PLACES] = (slot, preference[first], 0)
        return Placed(preference[first], asked + first, is_home=False)


class Real:
    """`hashroute.Router` itself. It does not tell how many pods it asked: the models do."""

    def __init__(self, pods: Sequence[str], c: float) -> None:
        self._router = Router(pods, c=c, floor=0, health=None, transport="any")
        self._held: list[Route] = []

    def place(self, symbol: str) -> Placed:
        """Acquires a route for the symbol."""
        route = self._router.acquire(symbol)
        self._held.append(route)
        return Placed(route.pod, 0, is_home=route.reason == "owner")

    def finish(self, number: int) -> None:
        """Releases this route."""
        self._held[number].release()
        newest = self._held.pop()
        if number < len(self._held):
            self._held[number] = newest


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
