"""The listed symbols: what the pods compute features from, and what the model servers ask for."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
import random
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one symbol, all from its last trading day.

    Attributes:
        last_price: The last sale price, in US dollars.
        log10_volume: The base-10 logarithm of the shares traded.
        volume_rank: 1 for the symbol with the most shares traded; ties go to the earlier name.
        volume_share: The fraction of all shares traded, 0 to 1.
        price_percentile: The fraction of all symbols whose price is lower, 0 to 1.
    """

    last_price: float
    log10_volume: float
    volume_rank: int
    volume_share: float
    price_percentile: float


class Symbols:
    """The symbols with their traded volume and last price; immutable.

    Args:
        rows: One `(volume, last_price)` a symbol; volumes are at least 1.
    """

    def __init__(self, rows: Mapping[str, tuple[int, float]]) -> None:
        self._rows = dict(rows)
        self._volume_total = sum(volume for volume, _ in rows.values())
        by_volume = sorted(rows, key=lambda symbol: (-rows[symbol][0], symbol))
        self._rank = {symbol: rank for rank, symbol in enumerate(by_volume, start=1)}
        self._prices = sorted(price for _, price in rows.values())

    @classmethod
    def load(cls) -> Symbols:
        """Returns the symbols that ship with the demo (see `data/README.md` for their source)."""
        text = (
            resources.files("hashroute.demo").joinpath("data/nasdaq_volume.csv").read_text("utf-8")
        )
        rows = csv.DictReader(text.splitlines())
        return cls({row["symbol"]: (int(row["volume"]), float(row["last_price"])) for row in rows})

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def volume_share(self, symbol: str) -> float:
        """Returns the fraction of all shares traded that were of `symbol`."""
        return self._rows[symbol][0] / self._volume_total

    def features(self, symbol: str) -> Features | None:
        """Returns the features of `symbol`, or None if it is not listed."""
        row = self._rows.get(symbol)
        if row is None:
            return None
        volume, price = row
        return Features(
            last_price=price,
            log10_volume=math.log10(volume),
            volume_rank=self._rank[symbol],
            volume_share=volume / self._volume_total,
            price_percentile=bisect.bisect_left(self._prices, price) / len(self._prices),
        )

    def draws(self, seed: int) -> Iterator[str]:
        """Yields symbols without end, each as often as its share of the volume says.

        The same `seed` yields the same symbols.
        """
        dice = random.Random(seed)
        names = list(self._rows)
        cumulative = list(itertools.accumulate(volume for volume, _ in self._rows.values()))
        while True:
            yield from dice.choices(names, cum_weights=cumulative, k=256)
