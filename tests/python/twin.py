"""A second implementation of docs/assignment.md, slow and obvious, to hold the first against.

It shares nothing with the extension: Python integers, one sort over all (pod, visit) pairs, and a
pass over them in order. Keep M x N small; 2**20 pairs take about a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import xxhash

MASK_32 = 2**32 - 1
MASK_64 = 2**64 - 1
MILLION = 1_000_000
GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class TwinPod:
    """A pod that takes part in the assignment: what the mapping may depend on, and no more."""

    name: str
    weight: float = 1.0
    zone: str | None = None


def mix(z: int) -> int:
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 & MASK_64
    z ^= z >> 27
    z = z * 0x94D049BB133111EB & MASK_64
    return z ^ z >> 31


def millionths(number: float) -> int:
    """Python's round() is half to even on the float product, which is what the text asks for."""
    return round(number * 1e6)


@cache
def log_table(slots: int) -> list[int]:
    """tau: -ln(1 - k/M) in Q58, by the series 2 artanh(1/(2n-1)) for each step."""
    tau = [0]
    for k in range(slots):
        n = slots - k
        if n == 1:
            step = 2**58
        else:
            x = 2 * n - 1
            step = power = 2**59 // x
            i = 3
            while power := power // (x * x):
                step += power // i
                i += 2
        tau.append(tau[-1] + step)
    return tau


class TwinSeat:
    """One pod's own permutation of the slots, its visiting times and its capacity."""

    def __init__(self, pod: TwinPod, slots: int, seed: int) -> None:
        self.pod = pod
        self.slots = slots
        self.hash = xxhash.xxh3_64_intdigest(pod.name.encode(), seed=seed)
        self.weight = millionths(pod.weight)
        z1 = mix(self.hash + GOLDEN & MASK_64)
        z2 = mix(z1 + GOLDEN & MASK_64)
        z3 = mix(z2 + GOLDEN & MASK_64)
        z4 = mix(z3 + GOLDEN & MASK_64)
        self.m1, self.m2 = z1 & MASK_32 | 1, z1 >> 32 | 1
        self.m3, self.c = z2 & MASK_32 | 1, z2 >> 32
        self.step, self.phase = z3 & MASK_32 | 1, z3 >> 32
        self.dither = z4 >> 32
        self.rate = MASK_64 // self.weight
        self.capacity = 0
        # A pod without zone is a zone of its own; a tuple cannot be the name of a real one.
        self.zone: object = pod.zone if pod.zone is not None else (pod.name,)

    def slot(self, k: int) -> int:
        bits = self.slots.bit_length() - 1
        g = (bits + 1) // 2
        x = (k * self.m1 + self.c) % self.slots
        x ^= x >> g
        x = x * self.m2 % self.slots
        x ^= x >> g
        x = x * self.m3 % self.slots
        return x ^ x >> g

    def visit(self, slot: int) -> int:
        """The k at which this pod visits ``slot``."""
        return next(k for k in range(self.slots) if self.slot(k) == slot)

    def time(self, k: int) -> int:
        tau = log_table(self.slots)
        d = tau[k + 1] - tau[k]
        f = (self.phase + k * self.step & MASK_32) >> 12
        return (tau[k] + (d >> 20) * f) * self.rate >> 64


class TwinRing:
    """The assignment of ``slots`` to ``pods``; ``owners[slot]`` is an index into ``seats``."""

    def __init__(
        self, pods: list[TwinPod], *, slots: int, epsilon: float = 0.05, seed: int = 0
    ) -> None:
        self.slots = slots
        self.epsilon = millionths(epsilon)
        seats = [TwinSeat(pod, slots, seed) for pod in pods]
        self.seats = sorted(seats, key=lambda seat: (seat.hash, seat.pod.name.encode()))
        self._give_capacities()
        self.owners = self._race()

    def _give_capacities(self) -> None:
        m, total = self.slots, sum(seat.weight for seat in self.seats)
        for seat in self.seats:
            quota = (m * seat.weight * (MILLION + self.epsilon) << 32) // (total * MILLION)
            seat.capacity = min(m, quota + seat.dither >> 32)
        missing = m - sum(seat.capacity for seat in self.seats)
        for seat in sorted(self.seats, key=lambda seat: -seat.dither):
            ceiling = Fraction(m * seat.weight * (MILLION + self.epsilon), total * MILLION)
            if missing > 0 and seat.capacity < ceiling:
                seat.capacity += 1
                missing -= 1

    def _race(self) -> list[int]:
        visits = sorted(
            (seat.time(k), j, k) for j, seat in enumerate(self.seats) for k in range(self.slots)
        )
        owners: list[int | None] = [None] * self.slots
        held = [0] * len(self.seats)
        for _, j, k in visits:
            slot = self.seats[j].slot(k)
            if owners[slot] is None and held[j] < self.seats[j].capacity:
                owners[slot] = j
                held[j] += 1
        assert None not in owners
        return [owner for owner in owners if owner is not None]

    def owner_of_slot(self, slot: int) -> str:
        return self.seats[self.owners[slot]].pod.name

    def preference(self, slot: int) -> list[str]:
        """The owner, then one pod of each zone not yet named, then the rest.

        Within both: first who would take the slot if the owner's zone were lost, then by time.
        """
        first = self.seats[self.owners[slot]]
        others = [seat for seat in self.seats if seat is not first]
        others.sort(key=lambda seat: seat.time(seat.visit(slot)))
        others.sort(key=lambda seat: not self._takes(seat, slot))
        named = {first.zone}
        fresh, rest = [], []
        for seat in others:
            (rest if seat.zone in named else fresh).append(seat)
            named.add(seat.zone)
        return [seat.pod.name for seat in (first, *fresh, *rest)]

    def _takes(self, seat: TwinSeat, slot: int) -> bool:
        first = self.seats[self.owners[slot]]
        gone = [one for one in self.seats if one.zone == first.zone]
        if seat in gone:
            gone = [first]
        lost = sum(self.owners.count(self.seats.index(one)) for one in gone)
        return seat.visit(slot) * max(0, self.slots - 2 * lost) < self._reach(seat) * self.slots

    def _reach(self, seat: TwinSeat) -> int:
        """The visits before this one are those that the pod would accept now."""
        j = self.seats.index(seat)
        visits = [k for k in range(self.slots) if self.owners[seat.slot(k)] == j]
        return self.slots if len(visits) < seat.capacity else max(visits, default=0)

    def slot(self, key: bytes) -> int:
        """The high bits of the hash of the key."""
        return xxhash.xxh3_64_intdigest(key) >> 64 - (self.slots.bit_length() - 1)

    def owner(self, key: bytes) -> str:
        return self.owner_of_slot(self.slot(key))

    def digest(self) -> str:
        """FNV-1a 64 over the owners' hashes, 8 bytes little-endian each."""
        state = 0xCBF29CE484222325
        for owner in self.owners:
            for byte in self.seats[owner].hash.to_bytes(8, "little"):
                state = (state ^ byte) * 0x100000001B3 & MASK_64
        return f"{state:016x}"
