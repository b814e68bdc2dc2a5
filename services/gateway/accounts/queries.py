"""Accounts, their settings and transfers, and their books: ledger, trades and round trips."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.accounts import AccountSettings
from shared.storage.keyset import Keyset, Record, records


def settings(connection: Connection, account_id: UUID) -> AccountSettings | None:
    """Return the account's settings, or None while it is being opened."""
    stored = connection.execute(_SETTINGS, {"account_id": account_id}).scalar_one_or_none()
    return None if stored is None else AccountSettings.model_validate(stored)


def transfer(connection: Connection, account_id: UUID, transfer_id: UUID) -> Record | None:
    """Return the ledger's entry of a transfer or reset, or None if it is not booked."""
    return next(iter(records(connection, _TRANSFER, account_id=account_id, id=transfer_id)), None)


def pages_of(keyset: Keyset, account_id: UUID) -> Callable[..., list[Record]]:
    """Return the query for pages of the account's own rows."""

    def page(
        connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]:
        return keyset.page(connection, {**filters, "account_id": account_id}, after=after, limit=limit)

    return page


def status(connection: Connection, account_id: UUID) -> str | None:
    """Return the account's status, or None if it is not open yet or unknown."""
    found: str | None = connection.execute(_STATUS, {"account_id": account_id}).scalar_one_or_none()
    return found


_STATUS = text("SELECT status FROM orders.accounts_v1 WHERE id = :account_id")
_SETTINGS = text("SELECT settings FROM orders.accounts_v1 WHERE id = :account_id")
_TRANSFER = text("""
SELECT at, cash, generation FROM orders.ledger_v2
WHERE account_id = :account_id AND kind IN ('deposit', 'withdrawal') AND reference = :id
""")
ACCOUNTS = Keyset(
    "SELECT id, number, name, currency, status, cash, generation, created_at FROM orders.accounts_v1",
    ("created_at", "id"),
    {},
)
KEYS = Keyset(
    "SELECT key_id, name, account_id, scopes, created_at, last_used_at, revoked_at FROM gateway.api_keys",
    ("created_at", "key_id"),
    {"account_id": "account_id = :account_id"},
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
    SELECT order_id, generation, symbol, side, qty, avg_price, currency, fees, realized_pl, strategy_id, submitted_at,
           first_fill_at, completed_at
    FROM orders.trades_v1
    """,
    ("completed_at", "order_id"),
    {
        **_OWN,
        "side": "side = :side",
        "strategy": "strategy_id = :strategy",
        "begin": "completed_at >= :begin",
        "end": "completed_at < :end",
    },
)
ROUND_TRIPS = Keyset(
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
DIVIDENDS = Keyset(
    """
    SELECT action_id, generation, symbol, qty, amount, ex_at, pay_at, paid_at, cash FROM orders.dividends_v1
    """,
    ("ex_at", "action_id"),
    {**_OWN, "paid": "(paid_at IS NOT NULL) = :paid"},
)
