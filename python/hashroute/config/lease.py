"""The arithmetic of a lease, as ``rust/coordination/src/lease.rs`` has it, in nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashroute.config.quorum import LeaseSection

_MILLION: Final = 1_000_000
_NS_PER_MS: Final = 1_000_000
_UNITS: Final = (("s", 1_000_000_000), ("ms", _NS_PER_MS), ("µs", 1_000), ("ns", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseNumbers:
    """L, h, rho and eps, and what follows from them."""

    ttl_ns: int
    renewal_interval_ns: int
    drift_ppm: int
    margin_ns: int

    @classmethod
    def of(cls, section: LeaseSection) -> LeaseNumbers:
        """Returns the numbers of a table."""
        return cls(
            ttl_ns=_nanoseconds(section.ttl),
            renewal_interval_ns=_nanoseconds(section.renewal_interval),
            drift_ppm=section.drift_ppm,
            margin_ns=_nanoseconds(section.margin),
        )

    @property
    def window_ns(self) -> int:
        """How long a member may write after it sent a renewal: L(1 - 2 rho) - eps."""
        drift = -(-self.ttl_ns * self.drift_ppm * 2 // _MILLION)
        return max(0, max(0, self.ttl_ns - drift) - self.margin_ns)

    @property
    def is_safe(self) -> bool:
        """Whether one lost message cannot end the lease: the window holds two intervals."""
        return self.window_ns >= 2 * self.renewal_interval_ns

    def remedy(self) -> str:
        """Returns what to write for a lease that is not safe: more of one, or less of the other."""
        kept_ppm = _MILLION - 2 * self.drift_ppm
        needed_ns = -(-(2 * self.renewal_interval_ns + self.margin_ns) * _MILLION // kept_ppm)
        longer = f'ttl = "{-(-needed_ns // _NS_PER_MS)}ms"'
        shorter_ms = self.window_ns // (2 * _NS_PER_MS)
        return f'{longer}, or renewal_interval = "{shorter_ms}ms"' if shorter_ms else longer


def in_words(nanoseconds: int) -> str:
    """Returns a time in its largest unit, such as ``49.88ms``: as Rust writes it."""
    unit, factor = next((pair for pair in _UNITS if nanoseconds >= pair[1]), _UNITS[-1])
    whole, rest = divmod(nanoseconds, factor)
    fraction = f"{rest:0{len(str(factor)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{fraction}{unit}" if fraction else f"{whole}{unit}"


def _nanoseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1) * 1_000
