"""Accounts, positions, and their books, as the views have them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.accounts import AccountSettings
from shared.storage.keyset import Keyset, Record, records


def account(connection: Connection, account_id: UUID) -> Record | None:
    """The account with its value at current prices."""
    return next(iter(records(connection, _ACCOUNT, account_id=account_id)), None)


def settings(connection: Connection, account_id: UUID) -> AccountSettings | None:
    """How the account trades; None while it is being opened."""
    stored = connection.execute(_SETTINGS, {"account_id": account_id}).scalar_one_or_none()
    return None if stored is None else AccountSettings.model_validate(stored)


def positions(connection: Connection, account_id: UUID, asset: str | None = None) -> list[Record]:
    """All positions, or that of one symbol or asset id; ``held_for_orders`` shares are those that open orders will
    close.
    """
    return records(connection, _POSITIONS, account_id=account_id, asset=asset)


def transfer(connection: Connection, account_id: UUID, transfer_id: UUID) -> Record | None:
    """The entry of a transfer or reset; None where it is not booked."""
    return next(iter(records(connection, _TRANSFER, account_id=account_id, id=transfer_id)), None)


def accounts(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    return _ACCOUNTS.page(connection, filters, after=after, limit=limit)


def pages_of(keyset: Keyset, account_id: UUID) -> Callable[..., list[Record]]:
    """How pages of the account's own rows are read."""

    def page(
        connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]:
        return keyset.page(connection, {**filters, "account_id": account_id}, after=after, limit=limit)

    return page


#: Positions at their last price and the last rate; value and rate are null where there never was a rate.
_VALUED = """
SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, i.last, i.currency, v.rate,
       round(p.qty * i.last * v.rate, 2) AS value
FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
LEFT JOIN marketdata.rates_v1 r
  ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) v
"""
_ACCOUNT = text(f"""
SELECT a.id, a.number, a.currency, a.status, a.cash, a.reserved, a.created_at, a.settings,
       COALESCE(v.long_value, 0) AS long_value, COALESCE(v.short_value, 0) AS short_value,
       COALESCE(v.unrealized_pl, 0) AS unrealized_pl,
       (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at < date_trunc('day', now()) ORDER BY s.at DESC LIMIT 1) AS last_equity
FROM orders.accounts_v1 a
LEFT JOIN LATERAL (
  SELECT sum(p.value) FILTER (WHERE p.qty > 0) AS long_value, sum(p.value) FILTER (WHERE p.qty < 0) AS short_value,
         sum(p.value - p.cost) AS unrealized_pl
  FROM ({_VALUED}) p WHERE p.account_id = a.id
) v ON true
WHERE a.id = :account_id
""")
_SETTINGS = text("SELECT settings FROM orders.accounts_v1 WHERE id = :account_id")
_POSITIONS = text(f"""
SELECT p.asset_id, p.symbol, p.asset_class, p.qty, p.cost, p.last, p.currency, p.rate, p.value AS market_value,
       p.value - p.cost AS unrealized_pl,
       COALESCE((SELECT sum(o.held_for_orders) FROM orders.orders_v1 o
                 WHERE o.account_id = p.account_id AND o.symbol = p.symbol
                   AND o.status IN ('accepted', 'held', 'partially_filled')), 0) AS held_for_orders
FROM ({_VALUED}) p
WHERE p.account_id = :account_id
  AND (CAST(:asset AS text) IS NULL OR p.symbol = upper(:asset) OR CAST(p.asset_id AS text) = lower(:asset))
ORDER BY p.symbol
""")
_TRANSFER = text("""
SELECT at, cash, generation FROM orders.ledger_v2
WHERE account_id = :account_id AND kind IN ('deposit', 'withdrawal') AND reference = :id
""")
_ACCOUNTS = Keyset(
    "SELECT id, number, name, currency, status, cash, generation, created_at FROM orders.accounts_v1",
    ("created_at", "id"),
    {},
)
_OWN = {
    "account_id": "account_id = :account_id",
    "symbol": "symbol = :symbol",
    "generation": "generation = :generation",
}
LEDGER = Keyset(
    """
    SELECT id, generation, at, kind, reference, symbol, qty, cash, cost, fee, interest, realized, dividend, capital
    FROM orders.ledger_v2
    """,
    ("id",),
    {**_OWN, "kind": "kind = :kind", "begin": "at >= :begin", "end": "at < :end"},
)
TRADES = Keyset(
    """
    SELECT id, generation, symbol, side, qty, opened_at, closed_at, cost, proceeds, realized_pl, entry_fill_id,
           exit_fill_id, strategy_id, entry_strategy_id
    FROM orders.round_trips_v1
    """,
    ("closed_at", "id"),
    {
        **_OWN,
        "side": "side = :side",
        "strategy": "(strategy_id = :strategy OR entry_strategy_id = :strategy)",
        "begin": "closed_at >= :begin",
        "end": "closed_at < :end",
    },
)
