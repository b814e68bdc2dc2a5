"""The rows of a report beside those of its performance: the account, its curve, its allocation and its trades."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Record, records

#: The trades that a report lists, the latest. All of them are in the CSV.
MOST_TRADES = 200
#: A snapshot of the positions this long before the end of a period still stands for it.
SNAPSHOT = timedelta(days=1)


def account(connection: Connection, account_id: UUID) -> Record | None:
    """Return the account's number, name and present generation, or None if it is unknown."""
    return next(iter(records(connection, _ACCOUNT, account_id=account_id)), None)


def curve(connection: Connection, step: timedelta, **given: Any) -> list[Record]:
    """Return the last equity of each step of the time, the first one first."""
    return records(connection, _CURVE, step=step, **given)


def current_positions(connection: Connection, account_id: UUID) -> list[Record]:
    return records(connection, _CURRENT, account_id=account_id)


def positions_at(connection: Connection, **given: Any) -> list[Record]:
    """Return the positions of the last snapshot before ``end``, in the account generation."""
    return records(connection, _AT, **given, begin_at=given["end"] - SNAPSHOT)


def trades(connection: Connection, **given: Any) -> list[Record]:
    """Return the orders that were completed in the time, the latest first, and one more than are listed."""
    return records(connection, _TRADES, **given, most=MOST_TRADES + 1)


def number_of_trades(connection: Connection, **given: Any) -> int:
    found: int = connection.execute(_NUMBER, given).scalar_one()
    return found


def strategy_names(connection: Connection, ids: list[str]) -> dict[str, str]:
    """Return the names of the strategies by their ids, of those that there still are."""
    rows = connection.execute(_NAMES, {"ids": ids}) if ids else ()
    return {row.id: row.name for row in rows}


def last_entry(connection: Connection, account_id: UUID) -> int:
    """Return the id of the last entry of the account's ledger, or 0."""
    found: int = connection.execute(_LAST_ENTRY, {"account_id": account_id}).scalar_one()
    return found


def has_later_entries(connection: Connection, last: int, **given: Any) -> bool:
    """Return True if entries of the time were booked after the one with this id."""
    found: bool = connection.execute(_LATER, {**given, "last": last}).scalar_one()
    return found


def stored(connection: Connection, account_id: UUID, generation: int, period: str, day: Any) -> Record | None:
    """Return the report of a finished period as it was made, or None."""
    given = {"account_id": account_id, "generation": generation, "period": period, "day": day}
    return next(iter(records(connection, _STORED, **given)), None)


def begin_of(connection: Connection, account_id: UUID, generation: int) -> datetime | None:
    """Return the time of the first entry of the account generation, or None without any."""
    given = {"account_id": account_id, "generation": generation}
    found: datetime | None = connection.execute(_BEGIN, given).scalar_one_or_none()
    return found


_ACCOUNT = text("""
SELECT id, number, name, currency, status, generation, COALESCE(generation_at, created_at) AS generation_at
FROM orders.accounts_v1 WHERE id = :account_id
""")
_CURVE = text("""
SELECT at, equity FROM (
  SELECT DISTINCT ON (date_bin(:step, s.at, :begin)) s.at, s.equity
  FROM valuation.account_summaries_v1 s
  WHERE s.account_id = :account_id AND s.generation = :generation AND s.at > :begin AND s.at <= :end
  ORDER BY date_bin(:step, s.at, :begin), s.at DESC
) steps ORDER BY at
""")
_CURRENT = text("""
SELECT symbol, qty, last AS price, currency, value FROM valuation.current_positions_v1
WHERE account_id = :account_id AND value IS NOT NULL ORDER BY abs(value) DESC, symbol
""")
_AT = text("""
WITH found AS MATERIALIZED (
  SELECT symbol, at, qty, price, market_value FROM valuation.position_values_v1
  WHERE account_id = :account_id AND generation = :generation AND at > :begin_at AND at <= :end
)
SELECT f.symbol, f.qty, f.price, i.currency, f.market_value AS value
FROM found f JOIN marketdata.instruments_v1 i ON i.symbol = f.symbol
WHERE f.at = (SELECT max(at) FROM found) ORDER BY abs(f.market_value) DESC, f.symbol
""")
_IN_TIME = """
orders.trades_v1 t
WHERE t.account_id = :account_id AND t.generation = :generation AND t.completed_at >= :begin AND t.completed_at <= :end
"""
_TRADES = text(f"""
SELECT t.order_id, t.symbol, t.side, t.qty, t.avg_price, t.currency, t.fees, t.realized_pl, t.strategy_id,
       t.completed_at
FROM {_IN_TIME} ORDER BY t.completed_at DESC, t.order_id DESC LIMIT :most
""")
_NUMBER = text(f"SELECT count(*) FROM {_IN_TIME}")
_NAMES = text("SELECT CAST(id AS text) AS id, name FROM strategy.strategies_v1 WHERE id = ANY(CAST(:ids AS uuid[]))")
_LAST_ENTRY = text("SELECT COALESCE(max(id), 0) FROM orders.ledger_v2 WHERE account_id = :account_id")
_LATER = text("""
SELECT EXISTS (SELECT FROM orders.ledger_v2 l WHERE l.account_id = :account_id AND l.id > :last
                 AND l.generation = :generation AND l.at >= :begin AND l.at <= :end)
""")
_STORED = text("""
SELECT begin_at, end_at, made_at, last_entry, content FROM valuation.reports_v1
WHERE account_id = :account_id AND generation = :generation AND period = :period AND day = :day
""")
_BEGIN = text("""
SELECT min(at) FROM orders.ledger_v2
WHERE account_id = :account_id AND generation = :generation AND kind IN ('deposit', 'withdrawal')
""")
