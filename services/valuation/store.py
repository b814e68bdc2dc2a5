"""The rows of valuation. Values are derived in the database, set by set: no position row is shipped or updated."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from shared.contracts.valuation import AccountValue


def holders_of(connection: Connection, symbols: Sequence[str]) -> list[UUID]:
    """The accounts that hold one of the symbols."""
    rows = connection.execute(_HOLDERS, {"symbols": list(symbols)})
    return [row.account_id for row in rows]


def revalue(connection: Connection, accounts: Sequence[UUID] | None, now: datetime) -> list[AccountValue]:
    """Bring the live values of these accounts (None: of all) up to date, in one statement."""
    values = {"accounts": None if accounts is None else list(accounts), "now": now}
    return [_value(row) for row in connection.execute(_REVALUE, values)]


def snapshot(connection: Connection, run_id: UUID, now: datetime) -> tuple[int, int]:
    """Write a summary of every account and a value of every position; the number of both."""
    values = {"run_id": run_id, "now": now}
    positions = connection.execute(_SNAPSHOT_POSITIONS, values).rowcount
    accounts = connection.execute(_SNAPSHOT_ACCOUNTS, values).rowcount
    return accounts, positions


def _value(row: Row[Any]) -> AccountValue:
    return AccountValue(
        account_id=row.account_id,
        cash=row.cash,
        market_value=row.market_value,
        equity=row.equity,
        unrealized_pl=row.unrealized_pl,
    )


_VALUED = """
SELECT p.account_id, count(*) AS positions, sum(round(p.qty * i.last, 2)) AS market_value,
       sum(round(p.qty * i.last, 2) - p.cost) AS unrealized_pl
FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol AND i.last IS NOT NULL
"""
_HOLDERS = text("SELECT DISTINCT account_id FROM orders.positions_v1 WHERE symbol = ANY(:symbols)")
_REVALUE = text(f"""
WITH wanted AS (
  SELECT id, cash FROM orders.accounts_v1
  WHERE CAST(:accounts AS uuid[]) IS NULL OR id = ANY(CAST(:accounts AS uuid[]))
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
""")
_SNAPSHOT_POSITIONS = text("""
INSERT INTO valuation.position_values (account_id, symbol, run_id, at, qty, price, market_value, cost, unrealized_pl)
SELECT p.account_id, p.symbol, :run_id, :now, p.qty, i.last, round(p.qty * i.last, 2), p.cost,
       round(p.qty * i.last, 2) - p.cost
FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol AND i.last IS NOT NULL
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
