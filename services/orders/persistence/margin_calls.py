"""The rows of margin calls, and the accounts that may be called."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.tables import typed


class MarginCall(NamedTuple):
    """A margin call that has not ended."""

    account_id: UUID
    id: UUID
    due_at: datetime


class _Owing(NamedTuple):
    id: UUID


def margin_accounts(connection: Connection) -> list[UUID]:
    """The accounts that owe cash or shares, or are called."""
    return [account.id for account in typed(_Owing, connection.execute(_MARGIN_ACCOUNTS))]


def accounts_between_splits(connection: Connection, accounts: Sequence[UUID]) -> set[UUID]:
    """Those of the accounts that hold shares of which marketdata has applied a split and the books have not."""
    found = typed(_Owing, connection.execute(_BETWEEN_SPLITS, {"accounts": list(accounts)}))
    return {account.id for account in found}


def open_calls(connection: Connection, accounts: Sequence[UUID]) -> dict[UUID, MarginCall]:
    calls = typed(MarginCall, connection.execute(_OPEN_CALLS, {"accounts": list(accounts)}))
    return {call.account_id: call for call in calls}


def add_call(
    connection: Connection, account_id: UUID, equity: Decimal, required: Decimal, now: datetime, due_at: datetime
) -> None:
    values = {"account_id": account_id, "equity": equity, "required": required, "now": now, "due_at": due_at}
    connection.execute(_ADD_CALL, values)


def note_liquidation(connection: Connection, call: MarginCall, now: datetime) -> None:
    connection.execute(_NOTE_LIQUIDATION, {"account_id": call.account_id, "id": call.id, "now": now})


def end_call(connection: Connection, call: MarginCall, how: str, now: datetime) -> None:
    connection.execute(_END_CALL, {"account_id": call.account_id, "id": call.id, "how": how, "now": now})


_MARGIN_ACCOUNTS = text("""
SELECT a.id FROM orders.accounts a
WHERE a.cash < 0 OR EXISTS (SELECT FROM orders.positions p WHERE p.account_id = a.id AND p.qty < 0)
   OR EXISTS (SELECT FROM orders.margin_calls c WHERE c.account_id = a.id AND c.ended_at IS NULL)
""")
_BETWEEN_SPLITS = text("""
SELECT DISTINCT p.account_id AS id FROM orders.quotes q
JOIN marketdata.instruments_v1 i ON i.symbol = q.symbol AND i.split_count > q.split_count
JOIN orders.positions p ON p.symbol = q.symbol AND p.qty <> 0 AND p.account_id = ANY(:accounts)
""")
_OPEN_CALLS = text("""
SELECT account_id, id, due_at FROM orders.margin_calls
WHERE account_id = ANY(:accounts) AND ended_at IS NULL
""")
_ADD_CALL = text("""
INSERT INTO orders.margin_calls (account_id, equity, required, called_at, due_at)
VALUES (:account_id, :equity, :required, :now, :due_at)
""")
_NOTE_LIQUIDATION = text("""
UPDATE orders.margin_calls SET liquidated_at = COALESCE(liquidated_at, :now) WHERE account_id = :account_id AND id = :id
""")
_END_CALL = text("""
UPDATE orders.margin_calls SET ended_at = :now,
  how = CASE WHEN liquidated_at IS NULL THEN :how ELSE 'liquidated' END
WHERE account_id = :account_id AND id = :id
""")
