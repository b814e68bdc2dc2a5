"""Snapshots of the current values, and the daily summaries that are made from them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from services.valuation.domain.trading_day import TradingDay


def snapshot(connection: Connection, run_id: UUID, now: datetime) -> tuple[int, int]:
    """Write a summary of each account and a value of each position, and return the number of both."""
    values = {"run_id": run_id, "now": now}
    positions = connection.execute(_SNAPSHOT_POSITIONS, values).rowcount
    accounts = connection.execute(_SNAPSHOT_ACCOUNTS, values).rowcount
    return accounts, positions


def summarize(connection: Connection, run_id: UUID, market: str, day: TradingDay) -> int:
    """Write or overwrite the day's summary of each account that was valued in it, and return their number."""
    return connection.execute(_SUMMARIZE, {"run_id": run_id, "market": market, **vars(day)}).rowcount


_SNAPSHOT_POSITIONS = text("""
INSERT INTO valuation.position_values (account_id, symbol, run_id, at, qty, price, market_value, cost, unrealized_pl)
SELECT account_id, symbol, :run_id, :now, qty, last, value, cost, unrealized_pl
FROM valuation.current_positions_v1 WHERE value IS NOT NULL
ON CONFLICT DO NOTHING
""")
_SNAPSHOT_ACCOUNTS = text("""
INSERT INTO valuation.account_summaries
  (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions)
SELECT account_id, :run_id, :now, cash, market_value, equity, unrealized_pl, positions FROM valuation.account_values_v1
ON CONFLICT DO NOTHING
""")
_SUMMARIZE = text("""
INSERT INTO valuation.daily_summaries
  (account_id, day, run_id, at, cash, market_value, equity, unrealized_pl, realized_pl, fees, net_deposits, fills,
   market)
SELECT a.id, :day, :run_id, s.at, s.cash, s.market_value, s.equity, s.unrealized_pl, COALESCE(t.realized_pl, 0),
       COALESCE(l.fees, 0), COALESCE(l.net_deposits, 0), COALESCE(f.fills, 0), :market
FROM orders.accounts_v1 a
JOIN LATERAL (
  SELECT at, cash, market_value, equity, unrealized_pl FROM valuation.account_summaries
  WHERE account_id = a.id AND at > :begin AND at <= :until ORDER BY at DESC LIMIT 1
) s ON true
LEFT JOIN (
  SELECT account_id, sum(realized_pl) AS realized_pl FROM orders.round_trips_v1
  WHERE closed_at > :begin AND closed_at <= :end GROUP BY account_id
) t ON t.account_id = a.id
LEFT JOIN (
  SELECT account_id, sum(fee) AS fees, sum(capital) AS net_deposits
  FROM orders.ledger_v2 WHERE at > :begin AND at <= :end GROUP BY account_id
) l ON l.account_id = a.id
LEFT JOIN (
  SELECT account_id, count(*) AS fills FROM orders.fills_v1
  WHERE filled_at > :begin AND filled_at <= :end GROUP BY account_id
) f ON f.account_id = a.id
WHERE a.created_at <= :end
ON CONFLICT (account_id, day) DO UPDATE SET
  run_id = excluded.run_id, at = excluded.at, cash = excluded.cash, market_value = excluded.market_value,
  equity = excluded.equity, unrealized_pl = excluded.unrealized_pl, realized_pl = excluded.realized_pl,
  fees = excluded.fees, net_deposits = excluded.net_deposits, fills = excluded.fills,
  market = excluded.market
""")
