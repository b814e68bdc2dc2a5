"""Dividends from their ex-date, when they are owed, until they are paid."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.storage.driver import Call, fetch
from shared.storage.tables import Table, typed


class Owed(NamedTuple):
    """A dividend of ``amount`` a share on ``qty`` shares, negative where they were short."""

    account_id: UUID
    action_id: UUID
    generation: int
    symbol: str
    qty: Decimal
    amount: Decimal
    ex_at: datetime
    pay_at: datetime


class _DividendRow(NamedTuple):
    owed: Owed
    paid_at: datetime | None
    cash: Decimal | None


class Holder(NamedTuple):
    """An account's shares of a symbol at a moment, negative where they were short."""

    account_id: UUID
    qty: Decimal


class _Account(NamedTuple):
    account_id: UUID


_DIVIDENDS = Table("orders.dividends", _DividendRow, key=("account_id", "action_id"))
_adding = _DIVIDENDS.insert()
_paying = _DIVIDENDS.update(_DividendRow, "cash", also="paid_at = %(now)s")


def accounts_that_closed(connection: Connection, symbol: str, since: datetime) -> list[UUID]:
    """The accounts that have closed shares of the symbol since then."""
    return [each.account_id for each in typed(_Account, fetch(connection, _CLOSED, {"symbol": symbol, "at": since}))]


def holders_at(connection: Connection, symbol: str, at: datetime) -> list[Holder]:
    """The accounts that held the symbol just before that time, with the shares that they have closed since.

    A fill counts by the time of its price. An account that was reset since held nothing.
    """
    return typed(Holder, fetch(connection, _HOLDERS_AT, {"symbol": symbol, "at": at}))


def owing(owed: Iterable[Owed]) -> Call:
    """The statement that adds dividends that are not paid yet."""
    return _adding([_DividendRow(each, None, None) for each in owed])


def accounts_owed(connection: Connection, now: datetime) -> list[UUID]:
    """The accounts that have a dividend to be paid now."""
    return [each.account_id for each in typed(_Account, fetch(connection, _ACCOUNTS_OWED, {"now": now}))]


def dividends_due(connection: Connection, accounts: Iterable[UUID], now: datetime) -> list[Owed]:
    """The dividends of these accounts, which are locked, that have to be paid now."""
    return typed(Owed, fetch(connection, _DUE, {"accounts": list(accounts), "now": now}))


def paying(paid: Sequence[tuple[Owed, Decimal]], now: datetime) -> Call:
    """The statement that writes the cash by which these dividends were paid."""
    return _paying([_DividendRow(owed, now, cash) for owed, cash in paid], now=now)


_CLOSED = "SELECT DISTINCT account_id FROM orders.round_trips WHERE symbol = %(symbol)s AND closed_at >= %(at)s"
_HOLDERS_AT = """
SELECT account_id, sum(qty) AS qty FROM (
  SELECT account_id, qty FROM orders.lots WHERE symbol = %(symbol)s AND qty <> 0 AND opened_at < %(at)s
  UNION ALL
  SELECT t.account_id, CASE t.side WHEN 'long' THEN t.qty ELSE -t.qty END
  FROM orders.round_trips t JOIN orders.accounts a ON a.id = t.account_id AND a.generation = t.generation
  WHERE t.symbol = %(symbol)s AND t.opened_at < %(at)s AND t.closed_at >= %(at)s
    AND EXISTS (SELECT FROM orders.fills f
                WHERE f.account_id = t.account_id AND f.id = t.exit_fill_id AND f.quoted_at >= %(at)s)
) held
GROUP BY account_id HAVING sum(qty) <> 0 ORDER BY account_id
"""
_ACCOUNTS_OWED = "SELECT DISTINCT account_id FROM orders.dividends WHERE paid_at IS NULL AND pay_at <= %(now)s"
#: By index for each account: all that others are owed is not read.
_DUE = """
SELECT d.* FROM unnest(%(accounts)b::uuid[]) AS wanted (account_id)
CROSS JOIN LATERAL (
  SELECT account_id, action_id, generation, symbol, qty, amount, ex_at, pay_at FROM orders.dividends d
  WHERE d.account_id = wanted.account_id AND d.paid_at IS NULL AND d.pay_at <= %(now)s OFFSET 0
) d
ORDER BY d.pay_at, d.action_id, d.account_id
"""
