"""Snapshots of the current values, and the daily summaries that are made from them.

The number of statements is constant: each takes all accounts, or all positions. The history of an account is looked up
by its index.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from services.valuation.domain.trading_day import TradingDay
from services.valuation.values import TOTALS_AND_STALE
from shared.contracts.accounts import CLOSED
from shared.observability.progress import PRICE_SECONDS
from shared.previous_close import DAYS, joined

#: A price is stale once its market was open for this long without a new one.
STALE_AFTER = timedelta(seconds=PRICE_SECONDS)


def snapshot(connection: Connection, run_id: UUID, now: datetime) -> tuple[int, int]:
    """Write a summary of each account and a value of each position, and return the number of both."""
    positions = snapshot_positions(connection, run_id, now)
    return snapshot_accounts(connection, run_id, now), positions


def snapshot_positions(connection: Connection, run_id: UUID, now: datetime) -> int:
    """Write a value of each position that has a price, and return their number."""
    values = {"run_id": run_id, "now": now, "stale_after": STALE_AFTER}
    return connection.execute(_SNAPSHOT_POSITIONS, values).rowcount


def snapshot_accounts(connection: Connection, run_id: UUID, now: datetime) -> int:
    """Write a summary of each account that is not closed, and return their number."""
    values = {"run_id": run_id, "now": now, "stale_after": STALE_AFTER}
    return connection.execute(_SNAPSHOT_ACCOUNTS, values).rowcount


def summarize(connection: Connection, run_id: UUID, market: str, day: TradingDay) -> int:
    """Write or overwrite the day's summary of each account that was valued in it, and return their number."""
    return connection.execute(_SUMMARIZE, {"run_id": run_id, "market": market, **vars(day)}).rowcount


#: The symbols that are stale at ``:now``. Time in which the market is closed does not count.
_STALE = """
SELECT i.symbol FROM marketdata.instruments_v1 i
CROSS JOIN LATERAL (SELECT CASE WHEN i.delayed THEN i.received_at ELSE i.quoted_at END AS at) q
WHERE i.last IS NOT NULL AND i.halted_at IS NULL AND EXISTS (
  SELECT FROM marketdata.sessions_v1 s
  WHERE s.market = i.market AND s.open_at < :now AND s.close_at > q.at
    AND LEAST(s.close_at, :now) > GREATEST(s.open_at, q.at) + CAST(:stale_after AS interval))
"""
#: Each held symbol with its market's midnight, and its close before that in today's shares.
_CLOSES = f"""
{DAYS}, closes AS MATERIALIZED (
  SELECT i.symbol, d.midnight,
         COALESCE(official.price, traded.close) * COALESCE(split.old_shares / split.new_shares, 1) AS close
  FROM marketdata.instruments_v1 i JOIN days d ON d.market = i.market
  {joined("i")}
  CROSS JOIN LATERAL (
    SELECT marketdata.product(c.old_shares) AS old_shares, marketdata.product(c.new_shares) AS new_shares
    FROM marketdata.corporate_actions_v1 c
    WHERE c.symbol = i.symbol AND c.kind = 'split' AND c.applied_at IS NOT NULL
      AND c.effective_at > COALESCE(official.held_at, traded.start_at)
  ) split
  WHERE EXISTS (SELECT FROM orders.positions_v1 p WHERE p.symbol = i.symbol)
)
"""
#: The change of a day is that of the shares held since the close before, and the profit on those opened today.
_SNAPSHOT_POSITIONS = text(f"""
WITH {_CLOSES}, stale AS MATERIALIZED ({_STALE}), today AS MATERIALIZED (
  SELECT l.account_id, l.symbol, sum(l.qty) AS qty, sum(l.cost) AS cost
  FROM orders.lots_v1 l JOIN closes c ON c.symbol = l.symbol
  WHERE l.opened_at >= c.midnight GROUP BY l.account_id, l.symbol
), realized AS MATERIALIZED (
  SELECT r.account_id, r.symbol, sum(r.realized_pl) AS pl
  FROM orders.round_trips_v1 r JOIN orders.accounts_v1 a ON a.id = r.account_id AND a.generation = r.generation
  GROUP BY r.account_id, r.symbol
)
INSERT INTO valuation.position_values
  (account_id, symbol, run_id, at, qty, price, market_value, cost, unrealized_pl, generation, realized_pl, day_pl,
   quoted_at, stale)
SELECT p.account_id, p.symbol, :run_id, :now, p.qty, p.last, p.value, p.cost, p.unrealized_pl, a.generation,
       COALESCE(r.pl, 0),
       CASE WHEN COALESCE(t.qty, 0) = p.qty THEN 0 ELSE round((p.qty - COALESCE(t.qty, 0)) * (p.last - c.close)
         * p.rate, 2) END
       + CASE WHEN t.qty IS NULL THEN 0 ELSE round(t.qty * p.last * p.rate, 2) - t.cost END,
       p.quoted_at, s.symbol IS NOT NULL OR rs.symbol IS NOT NULL
FROM valuation.current_positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
LEFT JOIN closes c ON c.symbol = p.symbol
LEFT JOIN today t ON t.account_id = p.account_id AND t.symbol = p.symbol
LEFT JOIN realized r ON r.account_id = p.account_id AND r.symbol = p.symbol
LEFT JOIN stale s ON s.symbol = p.symbol
LEFT JOIN stale rs ON rs.symbol = p.rate_symbol
WHERE p.value IS NOT NULL
ON CONFLICT DO NOTHING
""")
#: A flow counts at the end of the time since the summary before, as in ``shared.performance``. The first summary of a
#: generation grew from what was paid in. The profit of the day is that since the last summarized day before today.
_SNAPSHOT_ACCOUNTS = text(f"""
WITH stale AS MATERIALIZED ({_STALE}), prices AS MATERIALIZED (
  SELECT l.symbol, l.currency, l.last, s.symbol IS NOT NULL AS stale
  FROM valuation.last_prices_v1 l LEFT JOIN stale s ON s.symbol = l.symbol
), totals AS MATERIALIZED ({TOTALS_AND_STALE})
INSERT INTO valuation.account_summaries
  (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions, generation, long_value, short_value,
   net_deposits, day_pl, growth, peak_growth, peak_equity, stale_positions)
SELECT v.account_id, :run_id, :now, v.cash, v.long_value + v.short_value, v.equity, v.unrealized_pl, v.positions,
       a.generation, v.long_value, v.short_value, paid.total,
       v.equity - COALESCE(day.equity, 0) - CASE WHEN day.at IS NULL THEN paid.total ELSE paid.since_close END,
       g.growth, GREATEST(before.peak_growth, g.growth, 1),
       GREATEST(before.peak_equity, before.equity, v.equity), v.stale_positions
FROM totals v JOIN orders.accounts_v1 a ON a.id = v.account_id AND a.status <> '{CLOSED}'
LEFT JOIN LATERAL (
  SELECT s.equity, s.net_deposits, s.growth, s.peak_growth, s.peak_equity FROM (
    SELECT * FROM valuation.account_summaries WHERE account_id = a.id AND at <= :now ORDER BY at DESC LIMIT 1
  ) s WHERE s.generation = a.generation
) before ON true
LEFT JOIN LATERAL (
  SELECT d.equity, d.at FROM valuation.daily_summaries d JOIN marketdata.markets_v1 m ON m.code = d.market
  WHERE d.account_id = a.id AND d.at >= COALESCE(a.generation_at, '-infinity')
    AND d.day < CAST(CAST(:now AS timestamptz) AT TIME ZONE m.timezone AS date)
  ORDER BY d.day DESC LIMIT 1
) day ON true
CROSS JOIN LATERAL (
  SELECT COALESCE(sum(l.cash), 0) AS total, COALESCE(sum(l.cash) FILTER (WHERE l.at > day.at), 0) AS since_close
  FROM orders.ledger_v2 l
  WHERE l.account_id = a.id AND l.generation = a.generation AND l.kind IN ('deposit', 'withdrawal')
) paid
CROSS JOIN LATERAL (
  SELECT CASE WHEN before.equity > 0 THEN round(COALESCE(before.growth, 1) * GREATEST(
                v.equity - paid.total + COALESCE(before.net_deposits, paid.total), 0) / before.equity, 15)
              WHEN before.growth IS NULL AND paid.total > 0 THEN round(GREATEST(v.equity, 0) / paid.total, 15)
              ELSE COALESCE(before.growth, 1) END AS growth
) g
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
