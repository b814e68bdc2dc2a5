"""Auctions in the views of marketdata: the trading days ahead, splits, and auctions that no event told of."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from shared.contracts.official_prices import OfficialPricePublished
from shared.exchange.trading_days import TradingDay
from shared.storage.driver import fetch
from shared.storage.tables import typed


class SplitCounts(NamedTuple):
    """The splits and dividends of a symbol's orders, and of its price: as many, unless a message is late."""

    orders: int
    price: int


class _Day(NamedTuple):
    symbol: str
    day: TradingDay


def missed_auctions(connection: Connection) -> list[OfficialPricePublished]:
    """The auctions that were held and still have open orders, in their order."""
    return [OfficialPricePublished.model_validate(row._asdict()) for row in fetch(connection, _MISSED, {})]


def split_counts(connection: Connection, symbol: str) -> SplitCounts:
    (counts,) = typed(SplitCounts, connection.execute(_SPLIT_COUNTS, {"symbol": symbol}))
    return counts


def trading_days(connection: Connection, symbols: Iterable[str], since: datetime) -> dict[str, list[TradingDay]]:
    """The next three trading days of each symbol's market that were not over then."""
    days: dict[str, list[TradingDay]] = {}
    for symbol, day in typed(_Day, connection.execute(_TRADING_DAYS, {"symbols": sorted(symbols), "since": since})):
        days.setdefault(symbol, []).append(day)
    return days


#: The auctions with open orders, from one to the next by index: however many orders are for it, one of them is read.
_MISSED = """
WITH RECURSIVE awaited AS (
  (SELECT symbol, auction_day, time_in_force FROM orders.orders WHERE awaits_auction
   ORDER BY symbol, auction_day, time_in_force LIMIT 1)
  UNION ALL
  SELECT next.* FROM awaited a CROSS JOIN LATERAL (
    SELECT o.symbol, o.auction_day, o.time_in_force FROM orders.orders o
    WHERE o.awaits_auction AND (o.symbol, o.auction_day, o.time_in_force) > (a.symbol, a.auction_day, a.time_in_force)
    ORDER BY o.symbol, o.auction_day, o.time_in_force LIMIT 1
  ) next
)
SELECT p.* FROM awaited o
JOIN marketdata.official_prices_v1 p ON p.symbol = o.symbol AND p.day = o.auction_day
  AND p.kind = CASE o.time_in_force WHEN 'opg' THEN 'open' ELSE 'close' END
JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol AND i.split_count = p.split_count
LEFT JOIN orders.quotes q ON q.symbol = o.symbol
WHERE p.split_count = COALESCE(q.split_count, 0) ORDER BY p.held_at, p.symbol
"""
_SPLIT_COUNTS = text("""
SELECT COALESCE(q.split_count, 0) AS orders, i.split_count AS price
FROM marketdata.instruments_v1 i LEFT JOIN orders.quotes q ON q.symbol = i.symbol WHERE i.symbol = :symbol
""")
_TRADING_DAYS = text("""
SELECT i.symbol, d.day, d.open_at, d.close_at FROM marketdata.instruments_v1 i
CROSS JOIN LATERAL (
  SELECT day, open_at, close_at FROM marketdata.trading_days_v1
  WHERE market = i.market AND day >= CAST(:since AS date) - 1 AND close_at > :since ORDER BY day LIMIT 3
) d
WHERE i.symbol = ANY(:symbols) ORDER BY i.symbol, d.day
""")
