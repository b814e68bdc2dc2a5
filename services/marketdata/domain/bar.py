"""A bar of prices: what was traded in one interval."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval of one symbol as it was traded: prices in the instrument's currency, volume in units of it.

    ``interval`` is 1m, 5m, 15m, 1h or 1d. ``start`` is aware. A daily bar's is midnight UTC of the trading day's
    date, as in ``marketdata.market_data``.
    """

    symbol: str
    interval: str
    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    provider: str
