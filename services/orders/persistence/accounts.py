"""The rows of accounts: opening, locking, valuing and saving them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import Connection, text

from services.orders.persistence.holdings import Lots, by_holding, finding_lots
from services.orders.persistence.ledger import saving_entries
from services.orders.persistence.orders import OPEN, Concerned, locking_open
from shared.contracts.accounts import CLOSED, AccountSettings, OpenAccount
from shared.exchange.ledger import transfer
from shared.exchange.order import Account, Order
from shared.storage.driver import Call, fetch, together
from shared.storage.tables import Table, typed

Accounts = dict[UUID, Account]

ACCOUNTS = Table("orders.accounts", Account, key=("id",))
saving_accounts = ACCOUNTS.update(Account, "cash", "reserved", "sequence")
#: Begins the generation that the account has now. A halt ends with the generation before.
beginning_generation = ACCOUNTS.update(
    Account, "generation", also="generation_at = %(now)s, halted_at = NULL, halt_reason = NULL"
)
saving_halts = ACCOUNTS.update(Account, "halt_id", "halted_at", "halt_reason")


class _AccountRow(NamedTuple):
    id: UUID
    cash: Decimal
    reserved: Decimal
    sequence: int
    settings: str
    generation: int
    currency: str
    short: bool
    closed: bool
    halt_id: UUID | None
    halted_at: datetime | None
    halt_reason: str | None


class _Value(NamedTuple):
    account_id: UUID
    long_value: Decimal
    short_value: Decimal


class _Holder(NamedTuple):
    account_id: UUID


def open_account(connection: Connection, command: OpenAccount, now: datetime) -> bool:
    """Create the account and pay in its cash. Returns False where it is there already."""
    number = f"PA{uuid5(NAMESPACE_OID, str(command.account_id)).int % 10**10:010d}"
    values = {
        "id": command.account_id,
        "number": number,
        "name": command.name,
        "currency": command.currency,
        "cash": str(command.cash),
        "settings": command.settings.model_dump_json(),
        "now": now,
    }
    if not fetch(connection, _OPEN_ACCOUNT, values):
        return False
    together(connection, saving_entries([transfer(command.account_id, 1, now, command.account_id, command.cash)]))
    return True


def configure_account(connection: Connection, account_id: UUID, settings: AccountSettings) -> None:
    connection.execute(_CONFIGURE, {"id": account_id, "settings": settings.model_dump_json()})


def closing_account(account_id: UUID) -> Call:
    """The statement after which the account is closed."""
    return _CLOSE, {"id": account_id}


def lock_account(connection: Connection, account_id: UUID) -> Account | None:
    return lock_accounts(connection, [account_id]).get(account_id)


def lock_accounts(connection: Connection, ids: Iterable[UUID]) -> Accounts:
    """The accounts, locked, and with the value of their positions where that decides what they may do."""
    return with_values(connection, fetch(connection, *locking_accounts(ids)))


def lock_concerned(connection: Connection, concerned: Concerned) -> tuple[Accounts, list[Order], Lots]:
    """The accounts, the open orders of the order groups, and the lots of their holdings, in one round trip."""
    holdings = {(account, symbol) for symbol, order_groups in concerned.items() for account, _ in order_groups}
    accounts, orders, lots = together(
        connection,
        locking_accounts({account for account, _ in holdings}),
        locking_open(order_group for order_groups in concerned.values() for order_group in order_groups),
        finding_lots(holdings),
    )
    return with_values(connection, accounts), typed(Order, orders), by_holding(lots)


def locking_accounts(ids: Iterable[UUID]) -> Call:
    """The statement that locks these accounts. ``with_values`` reads its rows."""
    return _LOCK_ACCOUNTS, {"ids": list(ids)}


def with_values(connection: Connection, rows: Iterable[Any]) -> Accounts:
    """The accounts, with the values of valuation's view where they decide what an account may do."""
    found: Accounts = {}
    for row in typed(_AccountRow, rows):
        found[row.id] = Account(
            id=row.id,
            cash=row.cash,
            reserved=row.reserved,
            sequence=row.sequence,
            settings=_settings(row.settings),
            generation=row.generation,
            currency=row.currency,
            short=row.short,
            closed=row.closed,
            halt_id=row.halt_id,
            halted_at=row.halted_at,
            halt_reason=row.halt_reason,
        )
    if any(account.is_marked for account in found.values()):
        for value in typed(_Value, fetch(connection, _VALUES, {"ids": list(found)})):
            account = found[value.account_id]
            found[account.id] = replace(account, long_value=value.long_value, short_value=value.short_value)
    return found


@lru_cache(maxsize=1024)
def _settings(stored: str) -> AccountSettings:
    """Cached, because reading them takes longer than finding the account."""
    return AccountSettings.model_validate_json(stored)


def accounts_in(connection: Connection, symbol: str) -> list[UUID]:
    """The accounts with a position or an open order in the symbol."""
    return [holder.account_id for holder in typed(_Holder, fetch(connection, _ACCOUNTS_IN, {"symbol": symbol}))]


_OPEN_ACCOUNT = """
INSERT INTO orders.accounts (id, number, name, currency, cash, settings, created_at)
SELECT %(id)s, %(number)s, %(name)s, %(currency)s, CAST(%(cash)s AS numeric), CAST(%(settings)s AS jsonb), %(now)s
ON CONFLICT (id) DO NOTHING RETURNING id
"""
_CLOSE = f"UPDATE orders.accounts SET status = '{CLOSED}' WHERE id = %(id)s"
_CONFIGURE = text("UPDATE orders.accounts SET settings = CAST(:settings AS jsonb) WHERE id = :id")
_LOCK_ACCOUNTS = f"""
SELECT id, cash, reserved, sequence, CAST(settings AS text) AS settings, generation, currency,
       status = '{CLOSED}' AS closed, halt_id, halted_at, halt_reason,
       (SELECT true FROM orders.positions p WHERE p.account_id = a.id AND p.qty < 0 LIMIT 1) IS NOT NULL AS short
FROM orders.accounts a WHERE id = ANY(%(ids)b::uuid[]) ORDER BY id FOR UPDATE
"""
_VALUES = """
SELECT account_id, long_value, short_value FROM valuation.account_values_v1 WHERE account_id = ANY(%(ids)b::uuid[])
"""
_ACCOUNTS_IN = f"""
SELECT account_id FROM orders.lots WHERE symbol = %(symbol)s AND qty <> 0
UNION SELECT account_id FROM orders.orders WHERE symbol = %(symbol)s AND status IN {OPEN}
"""
