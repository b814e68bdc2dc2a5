"""Corporate actions that providers report: the shares to ask about, what is stored, and whom an action concerns."""

import json
from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.corporate_actions import EnterCorporateAction


class Asked(NamedTuple):
    """Shares whose actions a provider is asked for, and when that was done last."""

    symbol: str
    market: str
    asset_class: str
    currency: str
    fetched_at: datetime | None


class StoredAction(NamedTuple):
    id: UUID
    kind: str
    ex_date: date
    provider: str | None
    new_shares: int | None
    old_shares: int | None
    amount: Decimal | None
    effective_at: datetime
    pay_at: datetime | None
    applied_at: datetime | None
    correction: Any
    new_symbol: str | None


def to_ask(connection: Connection, before: datetime) -> list[Asked]:
    """The listed and held shares that were not asked about since then: held ones first, then by their waiting time."""
    there = connection.execute(_ORDERS_THERE).scalar_one()
    return [Asked(*row) for row in connection.execute(_HELD_FIRST if there else _LISTED, {"before": before})]


def lock_stored(connection: Connection, symbol: str) -> dict[tuple[str, date], StoredAction]:
    """The symbol's actions by kind and ex-date. Prices and other actions of it wait meanwhile."""
    connection.execute(_LOCK, {"symbol": symbol})
    rows = [StoredAction(*row) for row in connection.execute(_STORED, {"symbol": symbol})]
    return {(row.kind, row.ex_date): row for row in rows}


def opens(connection: Connection, market: str, days: Collection[date]) -> dict[date, datetime]:
    """When the market begins to trade on each day, or on the next trading day. Midnight where no session is known."""
    found = connection.execute(_OPENS, {"market": market, "days": sorted(days)})
    return {row.day: row.open_at for row in found}


def ex_date_of(connection: Connection, symbol: str, effective_at: datetime) -> date | None:
    """The date at which the action takes effect, by the clock of the symbol's market."""
    found: date | None = connection.execute(_EX_DATE, {"symbol": symbol, "at": effective_at}).scalar_one_or_none()
    return found


def is_history(connection: Connection, symbol: str, effective_at: datetime) -> bool:
    """True if nobody held or ordered the symbol then, and its price is none from before it."""
    values = {"symbol": symbol, "at": effective_at}
    if connection.execute(_PRICED_BEFORE, values).scalar_one():
        return False
    there = connection.execute(_ORDERS_THERE).scalar_one()
    return not there or not connection.execute(_CONCERNED, values).scalar_one()


def add(
    connection: Connection, action: EnterCorporateAction, ex_date: date, provider: str, now: datetime, *, history: bool
) -> None:
    """Store the action. One of ``history`` counts as applied, and changes only how earlier bars are read."""
    values = {"ex_date": ex_date, "provider": provider, "now": now, "applied_at": now if history else None}
    connection.execute(_ADD, {**action.model_dump(), **values, "split_count": 0 if history else None})


def change(connection: Connection, id_: UUID, action: EnterCorporateAction, provider: str) -> None:
    """Give an action that was not applied yet these terms."""
    connection.execute(_CHANGE, {**action.model_dump(), "id": id_, "provider": provider})


def withdraw(connection: Connection, ids: Collection[UUID]) -> None:
    """Remove actions that were not applied yet."""
    connection.execute(_WITHDRAW, {"ids": list(ids)})


def correct(connection: Connection, id_: UUID, correction: Mapping[str, Any], now: datetime) -> None:
    """Keep what a provider says now of an action that has been applied."""
    connection.execute(_CORRECT, {"id": id_, "correction": json.dumps(correction), "now": now})


def fetched(connection: Connection, symbol: str, now: datetime) -> None:
    connection.execute(_FETCHED, {"symbol": symbol, "now": now})


_ORDERS_THERE = text("SELECT to_regclass('orders.lots_v1') IS NOT NULL")
_SHARES = """
SELECT i.symbol, i.market, i.asset_class, i.currency, i.actions_fetched_at FROM marketdata.instruments i
WHERE i.asset_class IN ('us_equity', 'equity') AND COALESCE(i.actions_fetched_at < :before, true)
"""
_LISTED = text(f"{_SHARES} AND i.tradable ORDER BY i.actions_fetched_at NULLS FIRST, i.symbol")
_HELD_FIRST = text(f"""
WITH held AS MATERIALIZED (SELECT DISTINCT symbol FROM orders.positions_v1)
{_SHARES} AND (i.tradable OR i.symbol IN (SELECT symbol FROM held))
ORDER BY i.symbol IN (SELECT symbol FROM held) DESC, i.actions_fetched_at NULLS FIRST, i.symbol
""")
_LOCK = text("SELECT FROM marketdata.instruments WHERE symbol = :symbol FOR NO KEY UPDATE")
_STORED = text("""
SELECT id, kind, ex_date, provider, new_shares, old_shares, amount, effective_at, pay_at, applied_at, correction,
       new_symbol
FROM marketdata.corporate_actions WHERE symbol = :symbol AND ex_date IS NOT NULL
ORDER BY ex_date, applied_at NULLS FIRST, id FOR UPDATE
""")
_OPENS = text("""
SELECT given.day, COALESCE(
  (SELECT min(s.open_at) FROM marketdata.market_sessions s
   WHERE s.market = m.code AND s.day = (
     SELECT min(n.day) FROM marketdata.market_sessions n
     WHERE n.market = m.code AND n.kind = 'regular' AND n.day BETWEEN given.day AND given.day + 10)),
  CAST(given.day AS timestamp) AT TIME ZONE m.timezone) AS open_at
FROM marketdata.markets m, unnest(CAST(:days AS date[])) AS given (day) WHERE m.code = :market
""")
_EX_DATE = text("""
SELECT CAST(CAST(:at AS timestamptz) AT TIME ZONE m.timezone AS date)
FROM marketdata.instruments i JOIN marketdata.markets m ON m.code = i.market WHERE i.symbol = :symbol
""")
_PRICED_BEFORE = text("""
SELECT COALESCE(quoted_at < :at, false) FROM marketdata.instruments WHERE symbol = :symbol
""")
_CONCERNED = text("""
SELECT EXISTS (SELECT FROM orders.lots_v1 WHERE symbol = :symbol AND opened_at < :at)
  OR EXISTS (SELECT FROM orders.round_trips_v1 WHERE symbol = :symbol AND closed_at >= :at AND opened_at < :at)
  OR EXISTS (SELECT FROM orders.orders_v1
             WHERE symbol = :symbol AND status IN ('accepted', 'held', 'partially_filled') AND accepted_at < :at)
""")
_ADD = text("""
INSERT INTO marketdata.corporate_actions
  (id, symbol, kind, ratio, new_shares, old_shares, cash_in_lieu, amount, effective_at, pay_at, new_symbol, ex_date,
   provider, entered_at, applied_at, split_count)
VALUES (:action_id, :symbol, :kind, :ratio, :new_shares, :old_shares, :cash_in_lieu, :amount, :effective_at, :pay_at,
        :new_symbol, :ex_date, :provider, :now, :applied_at, :split_count)
ON CONFLICT DO NOTHING
""")
_CHANGE = text("""
UPDATE marketdata.corporate_actions SET
  ratio = :ratio, new_shares = :new_shares, old_shares = :old_shares, amount = :amount, effective_at = :effective_at,
  pay_at = :pay_at, new_symbol = :new_symbol, provider = :provider
WHERE id = :id AND applied_at IS NULL
""")
_WITHDRAW = text("DELETE FROM marketdata.corporate_actions WHERE id = ANY(:ids) AND applied_at IS NULL")
_CORRECT = text("""
UPDATE marketdata.corporate_actions SET correction = CAST(:correction AS jsonb), corrected_at = :now WHERE id = :id
""")
_FETCHED = text("UPDATE marketdata.instruments SET actions_fetched_at = :now WHERE symbol = :symbol")
