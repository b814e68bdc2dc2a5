"""The stock splits within the recorded prices, and the adjustment of earlier bars to today's shares.

The recorded prices are as traded: at a 2:1 split the price halves overnight although no holder lost anything.
Earlier prices are divided by the split's ratio, and volumes multiplied by it, which leaves one continuous series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import prod

_FINEST = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Split:
    """``ratio`` new shares for each old one. ``first_day`` is the first that trades at the new price."""

    first_day: date
    ratio: int


#: Large falls such as that of AAPL on 2000-09-29 are real, and stay.
SPLITS: Mapping[str, Sequence[Split]] = {
    "AAPL": (Split(date(2000, 6, 21), 2), Split(date(2005, 2, 28), 2)),
    "MSFT": (Split(date(2003, 2, 18), 2),),
}


def split_factor(symbol: str, day: date) -> int:
    """The number of shares of the newest kind that one share of that day has become."""
    return prod(split.ratio for split in SPLITS.get(symbol, ()) if day < split.first_day)


def split_price(price: Decimal, factor: int) -> Decimal:
    """The price per newest share: exact where four decimals hold it, else rounded to four (half to even)."""
    exact = price / factor
    finer = exact != exact.quantize(_FINEST)
    return exact.quantize(_FINEST) if finer else exact
