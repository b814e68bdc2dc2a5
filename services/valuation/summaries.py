"""The rows of valuation. Values are derived in the database, set by set: no position row is shipped or updated."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from services.valuation.domain.trading_day import TradingDay
from shared.contracts.valuation import AccountValue


def holders_of(connection: Connection, symbols: Sequence[str]) -> list[UUID]:
    """The accounts that hold one of the symbols, or something that is converted at the rate of one of them."""
    holders = _HOLDERS_AND_CONVERTED if any("/" in symbol for symbol in symbols) else _HOLDERS
    rows = connection.execute(holders, {"symbols": list(symbols)})
    return [row.account_id for row in rows]


def revalue(connection: Connection, accounts: Sequence[UUID] | None, now: datetime) -> list[AccountValue]:
    """Bring the live values of these accounts (None: of all) up to date, in one statement."""
    if accounts is None:
        rows = connection.execute(_REVALUE_ALL, {"now": now})
    else:
        rows = connection.execute(_REVALUE, {"accounts": list(accounts), "now": now})
    return [_value(row) for row in rows]


def snapshot(connection: Connection, run_id: UUID, now: datetime) -> tuple[int, int]:
    """Write a summary of every account and a value of every position; the number of both."""
    values = {"run_id": run_id, "now": now}
    positions = connection.execute(_SNAPSHOT_POSITIONS, values).rowcount
    accounts = connection.execute(_SNAPSHOT_ACCOUNTS, values).rowcount
    return accounts, positions


def summarize(connection: Connection, run_id: UUID, day: TradingDay) -> int:
    """Write the day's summary of every account that was valued in it, over what is there of it; their number."""
    return connection.execute(_SUMMARIZE, {"run_id": run_id, **vars(day)}).rowcount


def _value(row: Row[Any]) -> AccountValue:
    return AccountValue(
        account_id=row.account_id,
        cash=row.cash,
        market_value=row.market_value,
        equity=row.equity,
        unrealized_pl=row.unrealized_pl,
    )


#: A position at its last price, in its account's currency at the pair's last rate, however old the two are. What never
#: had a price, or a rate, is worth nothing that anybody knows, and is left out.
_POSITIONS = """
SELECT p.account_id, p.symbol, p.qty, p.cost, i.last, round(p.qty * i.last * COALESCE(r.last, 1), 2) AS value
FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol AND i.last IS NOT NULL
LEFT JOIN marketdata.rates_v1 r
  ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
WHERE (i.currency = a.currency OR r.last IS NOT NULL)
"""
_VALUED = f"""
SELECT p.account_id, count(*) AS positions, sum(p.value) AS market_value, sum(p.value - p.cost) AS unrealized_pl
FROM ({_POSITIONS}) p
"""
_HOLDERS = text("SELECT DISTINCT account_id FROM orders.positions_v1 WHERE symbol = ANY(:symbols)")
_HOLDERS_AND_CONVERTED = text("""
SELECT account_id FROM orders.positions_v1 WHERE symbol = ANY(:symbols)
UNION
SELECT p.account_id FROM marketdata.rates_v1 r
JOIN marketdata.instruments_v1 i ON i.currency = r.currency
JOIN orders.positions_v1 p ON p.symbol = i.symbol
JOIN orders.accounts_v1 a ON a.id = p.account_id AND a.currency = r.account_currency
WHERE r.symbol = ANY(:symbols)
""")
_REVALUE_WANTED = f"""
WITH wanted AS (
  SELECT id, cash FROM orders.accounts_v1 WHERE {{wanted}}
), valued AS (
  {_VALUED} WHERE p.account_id IN (SELECT id FROM wanted) GROUP BY p.account_id
)
INSERT INTO valuation.account_values AS live (account_id, at, cash, market_value, equity, unrealized_pl)
SELECT w.id, :now, w.cash, COALESCE(v.market_value, 0), w.cash + COALESCE(v.market_value, 0),
       COALESCE(v.unrealized_pl, 0)
FROM wanted w LEFT JOIN valued v ON v.account_id = w.id ORDER BY w.id
ON CONFLICT (account_id) DO UPDATE SET at = excluded.at, cash = excluded.cash,
  market_value = excluded.market_value, equity = excluded.equity, unrealized_pl = excluded.unrealized_pl
WHERE live.at <= excluded.at
RETURNING account_id, cash, market_value, equity, unrealized_pl
"""
#: Two statements: no plan of one for both can look some accounts up by their ids.
_REVALUE = text(_REVALUE_WANTED.format(wanted="id = ANY(CAST(:accounts AS uuid[]))"))
_REVALUE_ALL = text(_REVALUE_WANTED.format(wanted="true"))
_SNAPSHOT_POSITIONS = text(f"""
INSERT INTO valuation.position_values (account_id, symbol, run_id, at, qty, price, market_value, cost, unrealized_pl)
SELECT account_id, symbol, :run_id, :now, qty, last, value, cost, value - cost FROM ({_POSITIONS}) p
ON CONFLICT DO NOTHING
""")
_SNAPSHOT_ACCOUNTS = text(f"""
INSERT INTO valuation.account_summaries
  (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions)
SELECT a.id, :run_id, :now, a.cash, COALESCE(v.market_value, 0), a.cash + COALESCE(v.market_value, 0),
       COALESCE(v.unrealized_pl, 0), COALESCE(v.positions, 0)
FROM orders.accounts_v1 a LEFT JOIN ({_VALUED} GROUP BY p.account_id) v ON v.account_id = a.id
ON CONFLICT DO NOTHING
""")
_SUMMARIZE = text("""
INSERT INTO valuation.daily_summaries
  (account_id, day, run_id, at, cash, market_value, equity, unrealized_pl, realized_pl, fees, net_deposits, fills)
SELECT a.id, :day, :run_id, s.at, s.cash, s.market_value, s.equity, s.unrealized_pl, COALESCE(t.realized_pl, 0),
       COALESCE(l.fees, 0), COALESCE(l.net_deposits, 0), COALESCE(f.fills, 0)
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
  fees = excluded.fees, net_deposits = excluded.net_deposits, fills = excluded.fills
""")
