"""Writing a settlement: one statement per table, however many fills it has."""

from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import Connection, text

from services.orders.domain.order import Account
from services.orders.domain.risk import Refusal
from services.orders.domain.settlement import Book, Fill, Settlement, position_of


def save(connection: Connection, settlement: Settlement, book: Book, now: datetime) -> None:
    """Write everything that the settlement changed, one statement per table."""
    fills = settlement.fills
    _save_orders(connection, settlement, now)
    save_accounts(connection, [book.accounts[id_] for id_ in _touched(settlement)])
    if not fills:
        return
    _save_fills(connection, fills)
    _save_lots(connection, fills, book)
    _save_positions(connection, fills, book, now)
    _save_trades(connection, settlement)
    _save_ledger(connection, fills)


def _touched(settlement: Settlement) -> list[UUID]:
    return sorted({order.account_id for order in settlement.orders})


def _save_orders(connection: Connection, settlement: Settlement, now: datetime) -> None:
    refusals = [outcome if isinstance(outcome, Refusal) else None for _, outcome in settlement.outcomes]
    orders = settlement.orders
    connection.execute(
        _UPDATE_ORDERS,
        {
            "accounts": [order.account_id for order in orders],
            "ids": [order.id for order in orders],
            "statuses": [str(order.status) for order in orders],
            "filled": [order.filled_qty for order in orders],
            "averages": [order.filled_avg_price for order in orders],
            "reserved": [order.reserved for order in orders],
            "reasons": [refusal.reason if refusal else None for refusal in refusals],
            "messages": [refusal.message if refusal else None for refusal in refusals],
            "now": now,
        },
    )


def save_accounts(connection: Connection, accounts: list[Account]) -> None:
    connection.execute(
        _UPDATE_ACCOUNTS,
        {
            "ids": [account.id for account in accounts],
            "cash": [account.cash for account in accounts],
            "reserved": [account.reserved for account in accounts],
            "sequences": [account.sequence for account in accounts],
        },
    )


def _save_fills(connection: Connection, fills: list[Fill]) -> None:
    columns = {
        "accounts": [fill.order.account_id for fill in fills],
        "orders": [fill.order.id for fill in fills],
        "numbers": [fill.number for fill in fills],
        "ids": [fill.id for fill in fills],
        "symbols": [fill.order.symbol for fill in fills],
        "sides": [str(fill.order.side) for fill in fills],
        "qtys": [fill.qty for fill in fills],
        "prices": [fill.price for fill in fills],
        "amounts": [fill.amount for fill in fills],
        "times": [fill.at for fill in fills],
        "sequences": [fill.quote.sequence for fill in fills],
        "quoted": [fill.quote.quoted_at for fill in fills],
        "bids": [fill.quote.bid for fill in fills],
        "asks": [fill.quote.ask for fill in fills],
        "lasts": [fill.quote.last for fill in fills],
    }
    connection.execute(_ADD_FILLS, columns)


def _save_lots(connection: Connection, fills: list[Fill], book: Book) -> None:
    rows = [(holding, lot) for holding in _holdings(fills) for lot in book.lots[holding]]
    connection.execute(
        _SAVE_LOTS,
        {
            "accounts": [holding[0] for holding, _ in rows],
            "symbols": [holding[1] for holding, _ in rows],
            "fills": [lot.fill_id for _, lot in rows],
            "opened": [lot.opened_at for _, lot in rows],
            "qtys": [lot.qty for _, lot in rows],
            "costs": [lot.cost for _, lot in rows],
        },
    )


def _save_positions(connection: Connection, fills: list[Fill], book: Book, now: datetime) -> None:
    holdings = _holdings(fills)
    positions = [position_of(book.lots[holding]) for holding in holdings]
    connection.execute(
        _SAVE_POSITIONS,
        {
            "accounts": [account for account, _ in holdings],
            "symbols": [symbol for _, symbol in holdings],
            "qtys": [qty for qty, _ in positions],
            "costs": [cost for _, cost in positions],
            "now": now,
        },
    )


def _save_trades(connection: Connection, settlement: Settlement) -> None:
    trips = settlement.round_trips
    if not trips:
        return
    connection.execute(
        _ADD_TRADES,
        {
            "accounts": [trip.exit.order.account_id for trip in trips],
            "ids": [uuid5(trip.exit.id, str(trip.closed.lot.fill_id)) for trip in trips],
            "symbols": [trip.exit.order.symbol for trip in trips],
            "qtys": [trip.closed.qty for trip in trips],
            "entries": [trip.closed.lot.fill_id for trip in trips],
            "exits": [trip.exit.id for trip in trips],
            "opened": [trip.closed.lot.opened_at for trip in trips],
            "closed": [trip.exit.at for trip in trips],
            "costs": [trip.closed.cost for trip in trips],
            "proceeds": [trip.closed.proceeds for trip in trips],
            "strategies": [trip.exit.order.strategy_id for trip in trips],
        },
    )


def _save_ledger(connection: Connection, fills: list[Fill]) -> None:
    connection.execute(
        _ADD_LEDGER,
        {
            "accounts": [fill.order.account_id for fill in fills],
            "times": [fill.at for fill in fills],
            "amounts": [fill.cash for fill in fills],
            "fills": [fill.id for fill in fills],
        },
    )


def _holdings(fills: list[Fill]) -> list[tuple[UUID, str]]:
    return sorted({(fill.order.account_id, fill.order.symbol) for fill in fills})


_UPDATE_ORDERS = text("""
UPDATE orders.orders o SET
  status = v.status, filled_qty = v.filled, filled_avg_price = v.average, reserved = v.reserved,
  reject_reason = v.reason, reject_message = v.message, updated_at = :now,
  filled_at = CASE WHEN v.status = 'filled' THEN CAST(:now AS timestamptz) ELSE o.filled_at END
FROM unnest(CAST(:accounts AS uuid[]), CAST(:ids AS uuid[]), CAST(:statuses AS text[]),
            CAST(:filled AS numeric[]), CAST(:averages AS numeric[]), CAST(:reserved AS numeric[]),
            CAST(:reasons AS text[]), CAST(:messages AS text[]))
  AS v (account_id, id, status, filled, average, reserved, reason, message)
WHERE o.account_id = v.account_id AND o.id = v.id
""")
_UPDATE_ACCOUNTS = text("""
UPDATE orders.accounts a SET cash = v.cash, reserved = v.reserved, sequence = v.sequence
FROM unnest(CAST(:ids AS uuid[]), CAST(:cash AS numeric[]), CAST(:reserved AS numeric[]),
            CAST(:sequences AS bigint[])) AS v (id, cash, reserved, sequence)
WHERE a.id = v.id
""")
_ADD_FILLS = text("""
INSERT INTO orders.fills (account_id, order_id, number, id, symbol, side, qty, price, amount, filled_at,
                          price_sequence, quoted_at, bid, ask, last)
SELECT * FROM unnest(
  CAST(:accounts AS uuid[]), CAST(:orders AS uuid[]), CAST(:numbers AS int[]), CAST(:ids AS uuid[]),
  CAST(:symbols AS text[]), CAST(:sides AS text[]), CAST(:qtys AS numeric[]), CAST(:prices AS numeric[]),
  CAST(:amounts AS numeric[]), CAST(:times AS timestamptz[]), CAST(:sequences AS bigint[]),
  CAST(:quoted AS timestamptz[]), CAST(:bids AS numeric[]), CAST(:asks AS numeric[]), CAST(:lasts AS numeric[]))
""")
_SAVE_LOTS = text("""
INSERT INTO orders.lots (account_id, symbol, fill_id, opened_at, qty, cost)
SELECT * FROM unnest(CAST(:accounts AS uuid[]), CAST(:symbols AS text[]), CAST(:fills AS uuid[]),
                     CAST(:opened AS timestamptz[]), CAST(:qtys AS numeric[]), CAST(:costs AS numeric[]))
ON CONFLICT (account_id, symbol, fill_id) DO UPDATE SET qty = excluded.qty, cost = excluded.cost
""")
_SAVE_POSITIONS = text("""
INSERT INTO orders.positions (account_id, symbol, qty, cost, updated_at)
SELECT v.*, CAST(:now AS timestamptz)
FROM unnest(CAST(:accounts AS uuid[]), CAST(:symbols AS text[]), CAST(:qtys AS numeric[]),
            CAST(:costs AS numeric[])) AS v
ON CONFLICT (account_id, symbol) DO UPDATE
SET qty = excluded.qty, cost = excluded.cost, updated_at = excluded.updated_at
""")
_ADD_TRADES = text("""
INSERT INTO orders.trades (account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at,
                           cost, proceeds, strategy_id, realized_pl)
SELECT v.*, v.proceeds - v.cost
FROM unnest(CAST(:accounts AS uuid[]), CAST(:ids AS uuid[]), CAST(:symbols AS text[]),
            CAST(:qtys AS numeric[]), CAST(:entries AS uuid[]), CAST(:exits AS uuid[]),
            CAST(:opened AS timestamptz[]), CAST(:closed AS timestamptz[]), CAST(:costs AS numeric[]),
            CAST(:proceeds AS numeric[]), CAST(:strategies AS uuid[]))
  AS v (account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost, proceeds, strategy_id)
""")
_ADD_LEDGER = text("""
INSERT INTO orders.ledger (account_id, at, kind, amount, fill_id)
SELECT v.account_id, v.at, 'fill', v.amount, v.fill_id
FROM unnest(CAST(:accounts AS uuid[]), CAST(:times AS timestamptz[]), CAST(:amounts AS numeric[]),
            CAST(:fills AS uuid[])) AS v (account_id, at, amount, fill_id)
""")
