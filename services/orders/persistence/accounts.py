"""The rows of accounts: opening, locking, valuing and saving them, and what is known when an order comes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import Connection, Row, text

from services.orders.persistence import orders as store
from services.orders.persistence.orders import OPEN, Concerned
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import AccountSettings, OpenAccount
from shared.exchange.acceptance.pre_trade import Exposure, Halt, Instrument
from shared.exchange.lots import Lot
from shared.exchange.matching.book import Holding
from shared.exchange.order import Account, Order
from shared.storage.driver import Call, fetch, numbers, together

Accounts = dict[UUID, Account]
Lots = dict[Holding, tuple[Lot, ...]]


def open_account(connection: Connection, command: OpenAccount, now: datetime) -> bool:
    """Create the account and pay in its cash; False when it is there already."""
    number = f"PA{uuid5(NAMESPACE_OID, str(command.account_id)).int % 10**10:010d}"
    values = {
        "id": command.account_id,
        "number": number,
        "name": command.name,
        "currency": command.currency,
        "cash": command.cash,
        "settings": command.settings.model_dump_json(),
        "now": now,
    }
    return connection.execute(_OPEN_ACCOUNT, values).rowcount == 1


def configure_account(connection: Connection, account_id: UUID, settings: AccountSettings) -> None:
    connection.execute(_CONFIGURE, {"id": account_id, "settings": settings.model_dump_json()})


def lock_account(connection: Connection, account_id: UUID) -> Account | None:
    return lock_accounts(connection, [account_id]).get(account_id)


def lock_accounts(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Account]:
    """The accounts; they are valued at current prices where that decides about what one may do.

    What is held in another currency counts at the pair's last rate, as a price counts: however old it is.
    """
    return _valued(connection, fetch(connection, *_locking(ids)))


def lock_concerned(connection: Connection, concerned: Concerned) -> tuple[Accounts, list[Order], Lots]:
    """The accounts, the open orders of the order_groups and the lots of their holdings, in one round trip."""
    holdings = {(account, symbol) for symbol, order_groups in concerned.items() for account, _ in order_groups}
    accounts, orders, lots = together(
        connection,
        _locking(sorted({account for account, _ in holdings})),
        store.locking_open(order_group for order_groups in concerned.values() for order_group in order_groups),
        store.finding_lots(sorted(holdings)),
    )
    return _valued(connection, accounts), store.open_orders(orders), store.lots(lots)


def _locking(ids: Iterable[UUID]) -> Call:
    return _LOCK_ACCOUNTS, {"ids": list(ids)}


def _valued(connection: Connection, rows: Iterable[Any]) -> Accounts:
    found = {row.id: _account(row) for row in rows}
    if not any(account.is_marked for account in found.values()):
        return found
    marks = {row.account_id: row for row in connection.execute(_MARKS, {"ids": list(found)})}
    return {id_: _marked(account, marks.get(id_)) for id_, account in found.items()}


def _account(row: Any) -> Account:
    settings = _settings(row.settings)
    return Account(
        row.id,
        row.cash,
        row.reserved,
        row.sequence,
        settings=settings,
        generation=row.generation,
        currency=row.currency,
        short=row.short,
    )


@lru_cache(maxsize=1024)
def _settings(stored: str) -> AccountSettings:
    return AccountSettings.model_validate_json(stored)


def _marked(account: Account, marks: Row[Any] | None) -> Account:
    if marks is None:
        return account
    return replace(account, long_value=marks.long_value, short_value=marks.short_value)


@dataclass(frozen=True)
class PreTradeContext:
    """What is known when an order comes in. ``listing`` is None where its symbol is no instrument here."""

    known: bool
    client_id_taken: bool
    instrument: Instrument | None
    exposure: Exposure


def pre_trade_contexts(
    connection: Connection, account_id: UUID, asked: Sequence[tuple[UUID, str, str]], now: datetime
) -> list[PreTradeContext]:
    """Of each (order, client order id, symbol), in their order, in one statement."""
    return [_context(row) for row in fetch(connection, *_finding_contexts(account_id, asked, now))]


def lock_with_contexts(
    uow: UnitOfWork, account_id: UUID, asked: Sequence[tuple[UUID, str, str]]
) -> tuple[Account | None, list[PreTradeContext]]:
    """The account, and the contexts as they are once it is locked, in one round trip."""
    accounts, rows = uow.begin(_locking([account_id]), _finding_contexts(account_id, asked, uow.now))
    return _valued(uow.connection, accounts).get(account_id), [_context(row) for row in rows]


def _finding_contexts(account_id: UUID, asked: Sequence[tuple[UUID, str, str]], now: datetime) -> Call:
    columns = {
        "ids": [id_ for id_, _, _ in asked],
        "client_ids": [client_id for _, client_id, _ in asked],
        "symbols": [symbol for _, _, symbol in asked],
    }
    return _CONTEXTS, {"account_id": account_id, **columns, "now": now}


def _context(row: Any) -> PreTradeContext:
    instrument = None
    if row.tradable is not None:
        halt = None if row.halted_at is None else Halt(row.halted_at, row.halt_reason)
        quote = (row.ask, row.bid, row.last)
        instrument = Instrument(row.tradable, *quote, row.currency, row.is_open, row.session_end, halt=halt)
    return PreTradeContext(
        row.known, row.taken, instrument, Exposure(row.held, row.held_for_orders, row.buying, row.selling)
    )


@dataclass(frozen=True)
class Record:
    """What an account did lately: orders accepted in the last minute, its equity at the day's start and at its peak.

    The orders are counted by the strategy that they came from, None where a person sent them.
    """

    orders: Mapping[UUID | None, int] = field(default_factory=dict)
    day_start: Decimal | None = None
    peak: Decimal | None = None

    def and_one_of(self, strategy_id: UUID | None) -> "Record":
        return replace(self, orders={**self.orders, strategy_id: self.orders.get(strategy_id, 0) + 1})


def record(connection: Connection, account_id: UUID, now: datetime) -> Record:
    row = connection.execute(_RECORD, {"account_id": account_id, "now": now}).one()
    minute = {"account_id": account_id, "minute": now - timedelta(minutes=1)}
    orders = {each.strategy_id: each.orders for each in connection.execute(_LAST_MINUTE, minute)}
    return Record(orders, row.day_start, row.peak)


def accounts_in(connection: Connection, symbol: str) -> list[UUID]:
    """The accounts with a position or an open order in the symbol."""
    return [row.account_id for row in fetch(connection, _ACCOUNTS_IN, {"symbol": symbol})]


def positions_of(connection: Connection, account_id: UUID) -> list[tuple[str, Decimal]]:
    """(symbol, shares held, negative where short) of all that the account holds."""
    return [(row.symbol, row.qty) for row in connection.execute(_POSITIONS_OF, {"account_id": account_id})]


def references(connection: Connection, kind: str, wanted: Sequence[UUID]) -> set[UUID]:
    """Which of these the ledger has an entry of that kind about."""
    rows = connection.execute(_REFERENCES, {"kind": str(kind), "wanted": list(wanted)})
    return {row.reference for row in rows}


def is_booked(connection: Connection, account_id: UUID, reference: UUID) -> bool:
    """Whether the transfer or reset has an entry in the ledger."""
    return connection.execute(_BOOKED, {"account_id": account_id, "reference": reference}).first() is not None


def saving_accounts(accounts: Sequence[Account]) -> Call:
    """The statement that writes the accounts' cash, reservations and event sequences."""
    columns = {
        "ids": [account.id for account in accounts],
        "cash": numbers(account.cash for account in accounts),
        "reserved": numbers(account.reserved for account in accounts),
        "sequences": [account.sequence for account in accounts],
    }
    return _UPDATE_ACCOUNTS, columns


_OPEN_ACCOUNT = text("""
WITH opened AS (
  INSERT INTO orders.accounts (id, number, name, currency, cash, settings, created_at)
  VALUES (:id, :number, :name, :currency, :cash, CAST(:settings AS jsonb), :now) ON CONFLICT (id) DO NOTHING
  RETURNING id, cash, created_at
)
INSERT INTO orders.ledger (account_id, at, kind, reference, cash, capital)
SELECT id, created_at, 'deposit', id, cash, cash FROM opened
""")
_CONFIGURE = text("UPDATE orders.accounts SET settings = CAST(:settings AS jsonb) WHERE id = :id")
_LOCK_ACCOUNTS = """
SELECT id, cash, reserved, sequence, CAST(settings AS text) AS settings, generation, currency,
       (SELECT true FROM orders.positions p WHERE p.account_id = a.id AND p.qty < 0 LIMIT 1) IS NOT NULL AS short
FROM orders.accounts a WHERE id = ANY(%(ids)b::uuid[]) ORDER BY id FOR UPDATE
"""
_MARKS = text("""
SELECT p.account_id, COALESCE(sum(v.value) FILTER (WHERE p.qty > 0), 0) AS long_value,
       COALESCE(sum(v.value) FILTER (WHERE p.qty < 0), 0) AS short_value
FROM orders.positions p JOIN orders.accounts a ON a.id = p.account_id
JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
LEFT JOIN marketdata.rates_v1 r
  ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
CROSS JOIN LATERAL (
  SELECT round(p.qty * i.last * CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END, 2) AS value
) v
WHERE p.account_id = ANY(:ids) AND p.qty <> 0 GROUP BY p.account_id
""")
#: Subqueries with a value: as EXISTS or as a join, all orders and positions of the account might be read.
_CONTEXTS = f"""
SELECT i.tradable, i.bid, i.ask, i.last, i.currency, i.halted_at, i.halt_reason,
       COALESCE(s.open_at <= %(now)s, false) AS is_open,
       CASE WHEN s.close_at = 'infinity'
            THEN (date_trunc('day', %(now)s AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'
            ELSE s.close_at END AS session_end,
       (SELECT true FROM orders.orders o WHERE o.account_id = %(account_id)s AND o.id = asked.id) IS NOT NULL AS known,
       (SELECT true FROM orders.orders o WHERE o.account_id = %(account_id)s
        AND o.client_order_id = asked.client_id AND o.status <> 'rejected' LIMIT 1) IS NOT NULL AS taken,
       COALESCE((SELECT p.qty FROM orders.positions p
                 WHERE p.account_id = %(account_id)s AND p.symbol = asked.symbol), 0) AS held,
       w.held_for_orders, w.buying, w.selling
FROM unnest(%(ids)b::uuid[], %(client_ids)b::text[], %(symbols)b::text[]) WITH ORDINALITY
  AS asked (id, client_id, symbol, place)
LEFT JOIN marketdata.instruments_v1 i ON i.symbol = asked.symbol
LEFT JOIN LATERAL (
  SELECT open_at, close_at FROM marketdata.sessions_v1 s
  WHERE s.market = i.market AND s.close_at > %(now)s ORDER BY close_at LIMIT 1
) s ON true
CROSS JOIN LATERAL (
  SELECT COALESCE(sum(o.held_for_orders), 0) AS held_for_orders,
         COALESCE(sum(o.opening) FILTER (WHERE o.side = 'buy'), 0) AS buying,
         COALESCE(sum(o.opening) FILTER (WHERE o.side = 'sell'), 0) AS selling
  FROM (
    SELECT side, held_for_orders,
           CASE WHEN leg IS NULL THEN qty - filled_qty - CASE order_class WHEN 'simple' THEN held_for_orders ELSE 0
           END END
             AS opening
    FROM orders.orders WHERE account_id = %(account_id)s AND symbol = asked.symbol AND status IN {OPEN}
  ) o
) w
ORDER BY asked.place
"""
_RECORD = text("""
SELECT (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at >= COALESCE(a.generation_at, a.created_at)
          AND s.at < date_trunc('day', CAST(:now AS timestamptz))
        ORDER BY s.at DESC LIMIT 1) AS day_start,
       (SELECT max(s.equity) FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at >= COALESCE(a.generation_at, a.created_at)) AS peak
FROM orders.accounts a WHERE a.id = :account_id
""")
_LAST_MINUTE = text("""
SELECT strategy_id, count(*) AS orders FROM orders.orders
WHERE account_id = :account_id AND submitted_at > :minute AND status <> 'rejected' GROUP BY strategy_id
""")
_ACCOUNTS_IN = f"""
SELECT account_id FROM orders.lots WHERE symbol = %(symbol)s AND qty <> 0
UNION SELECT account_id FROM orders.orders WHERE symbol = %(symbol)s AND status IN {OPEN}
"""
_POSITIONS_OF = text(
    "SELECT symbol, qty FROM orders.positions WHERE account_id = :account_id AND qty <> 0 ORDER BY symbol"
)
_REFERENCES = text("""
SELECT reference FROM orders.ledger WHERE kind = :kind AND reference = ANY(:wanted)
""")
_BOOKED = text("""
SELECT 1 FROM orders.ledger
WHERE account_id = :account_id AND kind IN ('deposit', 'withdrawal') AND reference = :reference
""")
_UPDATE_ACCOUNTS = """
UPDATE orders.accounts a SET cash = v.cash, reserved = v.reserved, sequence = v.sequence
FROM unnest(%(ids)b::uuid[], %(cash)s::numeric[], %(reserved)s::numeric[], %(sequences)b::bigint[])
  AS v (id, cash, reserved, sequence)
WHERE a.id = v.id
"""
