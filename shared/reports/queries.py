"""The rows behind the performance of an account generation: values, deposits, round trips, fills and a benchmark.

Each list is one statement, found by the account's index. Times are from ``begin`` to ``end``, both included.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Keyset, Record, records

#: The round trips that are read, the latest.
MOST_TRIPS = 100_000
#: The column that a round trip, a fill and a lot are grouped by.
GROUPS = {
    "account": ("'account'", "'account'", "'account'"),
    "symbol": ("r.symbol", "f.symbol", "l.symbol"),
    "strategy": (
        "COALESCE(CAST(COALESCE(r.entry_strategy_id, r.strategy_id) AS text), 'none')",
        "COALESCE(CAST(o.strategy_id AS text), 'none')",
        "COALESCE(CAST(l.strategy_id AS text), 'none')",
    ),
}


def account(connection: Connection, account_id: UUID) -> Record | None:
    """Return the account's currency, present generation and current equity, or None if it is unknown."""
    return next(iter(records(connection, _ACCOUNT, account_id=account_id)), None)


def points(connection: Connection, **given: Any) -> list[Record]:
    """Return the equity at the end of each day of the market, after that at ``begin``, and the latest one."""
    return records(connection, _POINTS, **given)


def transfers(connection: Connection, account_id: UUID, generation: int) -> list[Record]:
    """Return the deposits and withdrawals of the generation, the first one first."""
    return records(connection, _TRANSFERS, account_id=account_id, generation=generation)


def marks(connection: Connection, **given: Any) -> list[tuple[datetime, Decimal]]:
    """Return the equity just before and just after each deposit and withdrawal between ``begin`` and ``end``."""
    return [(row["at"], row["equity"]) for row in records(connection, _MARKS, **given)]


def round_trips(connection: Connection, by: str, **given: Any) -> list[Record]:
    """Return the profit of each round trip after the fees of its two fills, with the group that it belongs to."""
    return records(connection, _TRIPS[by], **given, most=MOST_TRIPS)


def fills(connection: Connection, by: str, **given: Any) -> list[Record]:
    """Return what each group bought, sold, paid in fees, and paid against the quote."""
    return records(connection, _FILLS[by], **given)


def open_profit(connection: Connection, by: str, account_id: UUID) -> list[Record]:
    """Return the unrealized profit of each group's open lots at current prices."""
    return records(connection, _OPEN[by], account_id=account_id)


def exposure(connection: Connection, **given: Any) -> Any:
    """Return the mean of long plus short value as a share of the equity, by the time that each lasted, or None."""
    return connection.execute(_EXPOSURE, given).scalar()


def closes(connection: Connection, symbol: str, begin: datetime, end: datetime) -> list[Record]:
    """Return the symbol's closes in the time, adjusted for splits and dividends, the first one first.

    They are those of its daily bars, or of its shorter ones where it has no daily bar in the time.
    """
    for interval in ("1d", "1h", "1m", "replay"):
        found = records(connection, _CLOSES, symbol=symbol, interval=interval, begin=begin, end=end)
        if len(found) > 1:
            return found
    return []


_ACCOUNT = text("""
SELECT a.id, a.currency, a.generation, a.status, v.equity FROM orders.accounts_v1 a
JOIN valuation.account_values_v1 v ON v.account_id = a.id WHERE a.id = :account_id
""")
#: Days on which a market with trading days does not trade have no point.
_POINTS = text("""
(SELECT s.at, s.equity FROM valuation.account_summaries_v1 s
 WHERE s.account_id = :account_id AND s.generation = :generation AND s.at <= :begin ORDER BY s.at DESC LIMIT 1)
UNION ALL
(SELECT at, equity FROM (
  SELECT DISTINCT ON (CAST(s.at AT TIME ZONE :zone AS date)) s.at, s.equity
  FROM valuation.account_summaries_v1 s
  WHERE s.account_id = :account_id AND s.generation = :generation AND s.at > :begin AND s.at <= :end
    AND (:always_open OR NOT EXISTS (
           SELECT FROM marketdata.trading_days_v1 d WHERE d.market = :market AND d.day < CAST(:end AS date))
         OR EXISTS (SELECT FROM marketdata.trading_days_v1 d
                    WHERE d.market = :market AND d.day = CAST(s.at AT TIME ZONE :zone AS date)))
  ORDER BY CAST(s.at AT TIME ZONE :zone AS date), s.at DESC
) daily)
ORDER BY at
""")
_TRANSFERS = text("""
SELECT at, cash FROM orders.ledger_v2
WHERE account_id = :account_id AND generation = :generation AND kind IN ('deposit', 'withdrawal') ORDER BY at, id
""")
_MARKS = text("""
SELECT DISTINCT s.at, s.equity FROM orders.ledger_v2 l
CROSS JOIN LATERAL (
  (SELECT b.at, b.equity FROM valuation.account_summaries_v1 b
   WHERE b.account_id = :account_id AND b.generation = :generation AND b.at < l.at ORDER BY b.at DESC LIMIT 1)
  UNION ALL
  (SELECT a.at, a.equity FROM valuation.account_summaries_v1 a
   WHERE a.account_id = :account_id AND a.generation = :generation AND a.at >= l.at ORDER BY a.at LIMIT 1)
) s
WHERE l.account_id = :account_id AND l.generation = :generation AND l.kind IN ('deposit', 'withdrawal')
  AND l.at > :begin AND l.at <= :end
ORDER BY s.at
""")
_TRIP = """
SELECT {group} AS group, r.opened_at, r.closed_at,
       r.realized_pl - COALESCE(entry.fee * LEAST(r.qty / entry.qty, 1), 0)
         - COALESCE(exit.fee * LEAST(r.qty / exit.qty, 1), 0) AS profit
FROM orders.round_trips_v1 r
LEFT JOIN orders.fills_v1 entry ON entry.account_id = :account_id AND entry.id = r.entry_fill_id
LEFT JOIN orders.fills_v1 exit ON exit.account_id = :account_id AND exit.id = r.exit_fill_id
WHERE r.account_id = :account_id AND r.generation = :generation AND r.closed_at >= :begin AND r.closed_at <= :end
ORDER BY r.closed_at DESC, r.id DESC LIMIT :most
"""
#: A buy is held against the ask and a sale against the bid, or against the last price where there was no quote.
_FILL = """
SELECT {group} AS group,
       COALESCE(sum(f.amount) FILTER (WHERE f.side = 'buy'), 0) AS bought,
       COALESCE(sum(f.amount) FILTER (WHERE f.side = 'sell'), 0) AS sold,
       sum(f.fee) AS fees,
       sum(CASE f.side WHEN 'buy' THEN f.price - COALESCE(f.ask, f.last) ELSE COALESCE(f.bid, f.last) - f.price END
           * f.qty * f.rate) AS slippage
FROM orders.fills_v1 f JOIN orders.orders_v1 o ON o.account_id = f.account_id AND o.id = f.order_id
WHERE f.account_id = :account_id AND f.generation = :generation AND f.filled_at >= :begin AND f.filled_at <= :end
GROUP BY 1
"""
_LOT = """
SELECT {group} AS group, sum(round(l.qty * p.last * p.rate, 2) - l.cost) AS unrealized
FROM orders.lots_v1 l JOIN valuation.current_positions_v1 p ON p.account_id = l.account_id AND p.symbol = l.symbol
WHERE l.account_id = :account_id GROUP BY 1
"""
_TRIPS = {by: text(_TRIP.format(group=groups[0])) for by, groups in GROUPS.items()}
_FILLS = {by: text(_FILL.format(group=groups[1])) for by, groups in GROUPS.items()}
_OPEN = {by: text(_LOT.format(group=groups[2])) for by, groups in GROUPS.items()}
_EXPOSURE = text("""
SELECT sum(share * seconds) / NULLIF(sum(seconds), 0) FROM (
  SELECT (s.long_value - s.short_value) / s.equity AS share,
         extract(epoch FROM lead(s.at, 1, CAST(:end AS timestamptz)) OVER (ORDER BY s.at) - s.at) AS seconds
  FROM valuation.account_summaries_v1 s
  WHERE s.account_id = :account_id AND s.generation = :generation AND s.at >= :begin AND s.at <= :end
    AND s.equity > 0 AND s.long_value IS NOT NULL
) held
""")
_CLOSES = text("""
SELECT start_at AS start, close FROM marketdata.adjusted_bars_v1(:symbol, :interval, :begin, :end, 'all', 100000)
ORDER BY start_at
""")
#: The history of an account, the newest first.
EQUITY = Keyset(
    """
    SELECT run_id, generation, at, equity, cash, market_value, long_value, short_value, unrealized_pl, net_deposits,
           day_pl, growth, drawdown, high_water, positions, stale_positions
    FROM valuation.account_summaries_v1
    """,
    ("at", "run_id"),
    {
        "account_id": "account_id = :account_id",
        "generation": "generation = :generation",
        "begin": "at >= :begin",
        "end": "at < :end",
    },
)
