"""Writing orders and settlements: one statement per table, however many rows, and one round trip for all of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection

from services.orders.domain.ledger import Entry
from services.orders.domain.liquidity import Liquidity
from services.orders.domain.order import Account, Key, Order
from services.orders.domain.risk import Refusal
from services.orders.domain.settlement import Book, Canceled, Fill, Holding, Outcome, RoundTrip, Settlement, position_of
from services.orders.domain.waking import wakes
from shared.storage.driver import numbers

Columns = dict[str, Any]
#: Why an order ended: the reason of a cancel, or reason and message of a refusal.
Why = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Entered:
    """An order that came in, as it was asked for; ``refusal`` where it was not accepted."""

    order: Order
    client_order_id: str
    submitted_at: datetime
    on_bar: bool
    refusal: Refusal | None = None
    replaces: UUID | None = None
    epoch: int = 1


class Writes:
    """Statements that are sent together. What one of them raises is raised when they are."""

    def __init__(self, connection: Connection) -> None:
        self._driver: Any = connection.connection.driver_connection
        self._statements: list[tuple[str, dict[str, Any]]] = []

    def add(self, statement: str, columns: dict[str, Any]) -> None:
        self._statements.append((statement, columns))

    def send(self) -> None:
        with self._driver.pipeline():
            for statement, columns in self._statements:
                self._driver.execute(statement, columns)


def enter(connection: Connection, entered: Sequence[Entered], account: Account, now: datetime) -> None:
    """Write orders of one account that came in, and the account with what they reserve."""
    writes = Writes(connection)
    writes.add(_ADD_ORDERS, {**_entered(entered), "now": now})
    _accounts(writes, [account])
    writes.send()


def save(connection: Connection, settlement: Settlement, book: Book, now: datetime) -> None:
    """Write everything that the settlement changed."""
    writes = Writes(connection)
    _orders(writes, settlement.orders, dict(_ends(settlement.outcomes)), now)
    _accounts(writes, [book.accounts[id_] for id_ in sorted({order.account_id for order in settlement.orders})])
    if settlement.fills:
        _fills(writes, settlement.fills, book)
        touched = holdings(settlement.fills)
        _lots(writes, touched, book)
        _positions(writes, touched, book, now)
        _entries(writes, settlement.entries)
    if settlement.round_trips:
        _trades(writes, settlement.round_trips, book)
    if book.liquidity.touched:
        _taken(writes, book.liquidity)
    writes.send()


def save_orders(connection: Connection, orders: Sequence[Order], reasons: Mapping[Key, str], now: datetime) -> None:
    """Write orders that changed without a price; ``reasons`` says of those that are canceled why."""
    writes = Writes(connection)
    _orders(writes, orders, {key: (reason, None, None) for key, reason in reasons.items()}, now)
    writes.send()


def save_split_orders(connection: Connection, orders: Sequence[Order], now: datetime) -> None:
    """Write orders whose quantities and prices are of other shares now."""
    writes = Writes(connection)
    _orders(writes, orders, {}, now)
    prices = {
        **_keys(orders),
        "limits": numbers(order.limit_price for order in orders),
        "stops": numbers(order.stop_price for order in orders),
        "trails": numbers(order.trail_price for order in orders),
    }
    writes.add(_UPDATE_PRICES, {**prices, "now": now})
    writes.send()


def replace_order(connection: Connection, old: UUID, entered: Entered, account: Account, now: datetime) -> None:
    """Write the order that goes on, the account, and in the old order by which it was replaced."""
    writes = Writes(connection)
    writes.add(_REPLACE, {"account_id": account.id, "old": old, "new": entered.order.id, "now": now})
    writes.add(_ADD_ORDERS, {**_entered([entered]), "now": now})
    _accounts(writes, [account])
    writes.send()


def save_adjusted(connection: Connection, book: Book, entries: Sequence[Entry], now: datetime) -> None:
    """Write all lots and positions of the book, its accounts and what was entered about them."""
    writes = Writes(connection)
    _lots(writes, sorted(book.lots), book)
    _positions(writes, sorted(book.lots), book, now)
    _entries(writes, entries)
    _accounts(writes, [book.accounts[id_] for id_ in sorted(book.accounts)])
    writes.send()


def save_accounts(connection: Connection, accounts: Sequence[Account]) -> None:
    writes = Writes(connection)
    _accounts(writes, accounts)
    writes.send()


def save_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    writes = Writes(connection)
    _entries(writes, entries)
    writes.send()


def begin_epoch(connection: Connection, account: Account, now: datetime) -> None:
    """The account holds nothing any more; fills, trades and ledger of its earlier life stay."""
    writes = Writes(connection)
    writes.add(_BEGIN_EPOCH, {"id": account.id, "epoch": account.epoch, "now": now})
    writes.add(_DROP_LOTS, {"id": account.id})
    writes.add(_DROP_POSITIONS, {"id": account.id, "now": now})
    writes.send()


def _ends(outcomes: Iterable[tuple[Order, Outcome]]) -> Iterable[tuple[Key, Why]]:
    for order, outcome in outcomes:
        if isinstance(outcome, Canceled):
            yield order.key, (outcome.reason, None, None)
        elif isinstance(outcome, Refusal):
            yield order.key, (None, outcome.reason, outcome.message)


def _entered(entered: Sequence[Entered]) -> Columns:
    orders = [each.order for each in entered]
    refusals = [each.refusal for each in entered]
    return {
        **_keys(orders),
        **_state(orders),
        "client_ids": [each.client_order_id for each in entered],
        "symbols": [order.symbol for order in orders],
        "sides": [order.side.value for order in orders],
        "types": [order.type.value for order in orders],
        "times": [order.time_in_force.value for order in orders],
        "extended": [order.extended_hours for order in orders],
        "notionals": numbers(order.notional for order in orders),
        "limits": numbers(order.limit_price for order in orders),
        "stops": numbers(order.stop_price for order in orders),
        "trails": numbers(order.trail_price for order in orders),
        "percents": numbers(order.trail_percent for order in orders),
        "carried": numbers(order.carried for order in orders),
        "classes": [order.order_class.value for order in orders],
        "families": [order.family or order.id for order in orders],
        "legs": [order.leg and order.leg.value for order in orders],
        "strategies": [order.strategy_id for order in orders],
        "submitted": [each.submitted_at for each in entered],
        "accepted": [None if each.refusal else each.order.accepted_at for each in entered],
        "expires": [order.expires_at for order in orders],
        "on_bar": [each.on_bar for each in entered],
        "replaced": [each.replaces for each in entered],
        "reasons": [refusal and refusal.reason for refusal in refusals],
        "messages": [refusal and refusal.message for refusal in refusals],
        "traces": [order.trace for order in orders],
        "epochs": [each.epoch for each in entered],
    }


def _keys(orders: Sequence[Order]) -> Columns:
    return {"accounts": [order.account_id for order in orders], "ids": [order.id for order in orders]}


def _state(orders: Sequence[Order]) -> Columns:
    """What changes while an order is open."""
    waking = [wakes(order) if order.is_open else (None, None) for order in orders]
    return {
        "statuses": [order.status.value for order in orders],
        "qtys": numbers(order.qty for order in orders),
        "reserved": numbers(order.reserved for order in orders),
        "promised": numbers(order.promised for order in orders),
        "hwms": numbers(order.hwm for order in orders),
        "triggered": [order.triggered for order in orders],
        "active": [order.active_at for order in orders],
        "directions": [direction and direction.value for direction, _ in waking],
        "thresholds": numbers(threshold for _, threshold in waking),
    }


def _orders(
    writes: Writes,
    orders: Sequence[Order],
    ends: Mapping[Key, Why],
    now: datetime,
) -> None:
    why = [ends.get(order.key, (None, None, None)) for order in orders]
    columns = {
        **_keys(orders),
        **_state(orders),
        "filled": numbers(order.filled_qty for order in orders),
        "averages": numbers(order.filled_avg_price for order in orders),
        "fills": [order.fills for order in orders],
        "fees": numbers(order.fees for order in orders),
        "cancels": [cancel for cancel, _, _ in why],
        "reasons": [reason for _, reason, _ in why],
        "messages": [message for _, _, message in why],
    }
    writes.add(_UPDATE_ORDERS, {**columns, "now": now})


def _accounts(writes: Writes, accounts: Sequence[Account]) -> None:
    columns = {
        "ids": [account.id for account in accounts],
        "cash": numbers(account.cash for account in accounts),
        "reserved": numbers(account.reserved for account in accounts),
        "sequences": [account.sequence for account in accounts],
    }
    writes.add(_UPDATE_ACCOUNTS, columns)


def _fills(writes: Writes, fills: Sequence[Fill], book: Book) -> None:
    columns = {
        "accounts": [fill.order.account_id for fill in fills],
        "orders": [fill.order.id for fill in fills],
        "numbers": [fill.number for fill in fills],
        "ids": [fill.id for fill in fills],
        "epochs": [book.accounts[fill.order.account_id].epoch for fill in fills],
        "symbols": [fill.order.symbol for fill in fills],
        "sides": [fill.order.side.value for fill in fills],
        "qtys": numbers(fill.qty for fill in fills),
        "prices": numbers(fill.price for fill in fills),
        "amounts": numbers(fill.amount for fill in fills),
        "fees": numbers(fill.fee for fill in fills),
        "slippages": numbers(fill.slippage for fill in fills),
        "stages": [fill.stage.name.lower() for fill in fills],
        "times": [fill.at for fill in fills],
        "sequences": [fill.quote.sequence for fill in fills],
        "quoted": [fill.quote.quoted_at for fill in fills],
        "sinces": [fill.quote.since for fill in fills],
        "bids": numbers(fill.quote.bid for fill in fills),
        "asks": numbers(fill.quote.ask for fill in fills),
        "lasts": numbers(fill.quote.last for fill in fills),
        "opens": numbers(fill.quote.open for fill in fills),
        "highs": numbers(fill.quote.high for fill in fills),
        "lows": numbers(fill.quote.low for fill in fills),
    }
    writes.add(_ADD_FILLS, columns)


def _lots(writes: Writes, touched: Sequence[Holding], book: Book) -> None:
    rows = [(holding, lot) for holding in touched for lot in book.lots[holding]]
    columns = {
        "accounts": [holding[0] for holding, _ in rows],
        "symbols": [holding[1] for holding, _ in rows],
        "fills": [lot.fill_id for _, lot in rows],
        "opened": [lot.opened_at for _, lot in rows],
        "qtys": numbers(lot.qty for _, lot in rows),
        "costs": numbers(lot.cost for _, lot in rows),
        "strategies": [lot.strategy_id for _, lot in rows],
    }
    writes.add(_SAVE_LOTS, columns)


def _positions(writes: Writes, touched: Sequence[Holding], book: Book, now: datetime) -> None:
    positions = [position_of(book.lots[holding]) for holding in touched]
    columns = {
        "accounts": [account for account, _ in touched],
        "symbols": [symbol for _, symbol in touched],
        "qtys": numbers(qty for qty, _ in positions),
        "costs": numbers(cost for _, cost in positions),
    }
    writes.add(_SAVE_POSITIONS, {**columns, "now": now})


def _trades(writes: Writes, trips: Sequence[RoundTrip], book: Book) -> None:
    columns = {
        "accounts": [trip.exit.order.account_id for trip in trips],
        "ids": [uuid5(trip.exit.id, str(trip.closed.lot.fill_id)) for trip in trips],
        "epochs": [book.accounts[trip.exit.order.account_id].epoch for trip in trips],
        "symbols": [trip.exit.order.symbol for trip in trips],
        "sides": ["long" if trip.closed.lot.qty > 0 else "short" for trip in trips],
        "qtys": numbers(trip.closed.qty for trip in trips),
        "entries": [trip.closed.lot.fill_id for trip in trips],
        "exits": [trip.exit.id for trip in trips],
        "opened": [trip.closed.lot.opened_at for trip in trips],
        "closed": [trip.exit.at for trip in trips],
        "costs": numbers(trip.closed.cost for trip in trips),
        "proceeds": numbers(trip.closed.proceeds for trip in trips),
        "realized": numbers(trip.closed.realized for trip in trips),
        "strategies": [trip.exit.order.strategy_id for trip in trips],
        "entry_strategies": [trip.closed.lot.strategy_id for trip in trips],
    }
    writes.add(_ADD_TRADES, columns)


def _entries(writes: Writes, entries: Sequence[Entry]) -> None:
    columns = {
        "accounts": [entry.account_id for entry in entries],
        "epochs": [entry.epoch for entry in entries],
        "kinds": [entry.kind.value for entry in entries],
        "times": [entry.at for entry in entries],
        "references": [entry.reference for entry in entries],
        "cash": numbers(entry.cash for entry in entries),
        "symbols": [entry.symbol for entry in entries],
        "qtys": numbers(entry.qty for entry in entries),
        "costs": numbers(entry.cost for entry in entries),
        "fees": numbers(entry.fee for entry in entries),
        "interests": numbers(entry.interest for entry in entries),
        "realized": numbers(entry.realized for entry in entries),
        "dividends": numbers(entry.dividend for entry in entries),
        "capitals": numbers(entry.capital for entry in entries),
    }
    writes.add(_ADD_ENTRIES, columns)


def _taken(writes: Writes, liquidity: Liquidity) -> None:
    """The rows are locked, and of the update at hand."""
    pools = sorted(liquidity.touched)
    columns = {
        "symbols": [symbol for symbol, _ in pools],
        "pools": [pool for _, pool in pools],
        "qtys": numbers(liquidity.taken[pool] for pool in pools),
    }
    writes.add(_SAVE_TAKEN, columns)


def holdings(fills: Iterable[Fill]) -> list[Holding]:
    """What the fills changed, each once."""
    return sorted({(fill.order.account_id, fill.order.symbol) for fill in fills})


_ADD_ORDERS = """
INSERT INTO orders.orders (
  account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty, notional, limit_price,
  stop_price, trail_price, trail_percent, hwm, triggered, active_at, direction, threshold, on_bar, status, reserved,
  promised, carried, order_class, family, leg, strategy_id, submitted_at, accepted_at, expires_at, replaces,
  reject_reason, reject_message, trace, epoch, updated_at)
SELECT v.*, %(now)s FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(client_ids)b::text[], %(symbols)b::text[], %(sides)b::text[],
  %(types)b::text[], %(times)b::text[], %(extended)b::boolean[], %(qtys)s::numeric[], %(notionals)s::numeric[],
  %(limits)s::numeric[], %(stops)s::numeric[], %(trails)s::numeric[], %(percents)s::numeric[], %(hwms)s::numeric[],
  %(triggered)b::boolean[], %(active)b::timestamptz[], %(directions)b::text[], %(thresholds)s::numeric[],
  %(on_bar)b::boolean[], %(statuses)b::text[], %(reserved)s::numeric[], %(promised)s::numeric[], %(carried)s::numeric[],
  %(classes)b::text[], %(families)b::uuid[], %(legs)b::text[], %(strategies)b::uuid[], %(submitted)b::timestamptz[],
  %(accepted)b::timestamptz[], %(expires)b::timestamptz[], %(replaced)b::uuid[], %(reasons)b::text[],
  %(messages)b::text[], %(traces)b::text[], %(epochs)b::int[]) AS v
"""
_UPDATE_ORDERS = """
UPDATE orders.orders o SET
  status = v.status, qty = v.qty, reserved = v.reserved, promised = v.promised, hwm = v.hwm, triggered = v.triggered,
  active_at = v.active_at, direction = v.direction, threshold = v.threshold, filled_qty = v.filled,
  filled_avg_price = v.average, fills = v.fills, fees = v.fees, cancel_reason = v.cancel_reason,
  reject_reason = v.reason, reject_message = v.message, updated_at = %(now)s,
  filled_at = CASE v.status WHEN 'filled' THEN %(now)s ELSE o.filled_at END,
  canceled_at = CASE v.status WHEN 'canceled' THEN %(now)s ELSE o.canceled_at END,
  expired_at = CASE v.status WHEN 'expired' THEN %(now)s ELSE o.expired_at END
FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(statuses)b::text[], %(qtys)s::numeric[], %(reserved)s::numeric[],
  %(promised)s::numeric[], %(hwms)s::numeric[], %(triggered)b::boolean[], %(active)b::timestamptz[],
  %(directions)b::text[], %(thresholds)s::numeric[], %(filled)s::numeric[], %(averages)s::numeric[], %(fills)b::int[],
  %(fees)s::numeric[], %(cancels)b::text[], %(reasons)b::text[], %(messages)b::text[])
  AS v (account_id, id, status, qty, reserved, promised, hwm, triggered, active_at, direction, threshold, filled,
        average, fills, fees, cancel_reason, reason, message)
WHERE o.account_id = v.account_id AND o.id = v.id
"""
_UPDATE_PRICES = """
UPDATE orders.orders o SET
  limit_price = v.limit_price, stop_price = v.stop_price, trail_price = v.trail_price, adjusted_at = %(now)s
FROM unnest(%(accounts)b::uuid[], %(ids)b::uuid[], %(limits)s::numeric[], %(stops)s::numeric[], %(trails)s::numeric[])
  AS v (account_id, id, limit_price, stop_price, trail_price)
WHERE o.account_id = v.account_id AND o.id = v.id
"""
_REPLACE = """
UPDATE orders.orders SET status = 'replaced', replaced_by = %(new)s, replaced_at = %(now)s, updated_at = %(now)s,
  reserved = 0, promised = 0, direction = NULL, threshold = NULL
WHERE account_id = %(account_id)s AND id = %(old)s
"""
_UPDATE_ACCOUNTS = """
UPDATE orders.accounts a SET cash = v.cash, reserved = v.reserved, sequence = v.sequence
FROM unnest(%(ids)b::uuid[], %(cash)s::numeric[], %(reserved)s::numeric[], %(sequences)b::bigint[])
  AS v (id, cash, reserved, sequence)
WHERE a.id = v.id
"""
_ADD_FILLS = """
INSERT INTO orders.fills (account_id, order_id, number, id, epoch, symbol, side, qty, price, amount, fee, slippage,
                          stage, filled_at, price_sequence, quoted_at, since, bid, ask, last, open, high, low)
SELECT * FROM unnest(
  %(accounts)b::uuid[], %(orders)b::uuid[], %(numbers)b::int[], %(ids)b::uuid[], %(epochs)b::int[], %(symbols)b::text[],
  %(sides)b::text[], %(qtys)s::numeric[], %(prices)s::numeric[], %(amounts)s::numeric[], %(fees)s::numeric[],
  %(slippages)s::numeric[], %(stages)b::text[], %(times)b::timestamptz[], %(sequences)b::bigint[],
  %(quoted)b::timestamptz[], %(sinces)b::timestamptz[], %(bids)s::numeric[], %(asks)s::numeric[], %(lasts)s::numeric[],
  %(opens)s::numeric[], %(highs)s::numeric[], %(lows)s::numeric[])
"""
_SAVE_LOTS = """
INSERT INTO orders.lots (account_id, symbol, fill_id, opened_at, qty, cost, strategy_id)
SELECT * FROM unnest(%(accounts)b::uuid[], %(symbols)b::text[], %(fills)b::uuid[], %(opened)b::timestamptz[],
                     %(qtys)s::numeric[], %(costs)s::numeric[], %(strategies)b::uuid[])
ON CONFLICT (account_id, symbol, fill_id) DO UPDATE SET qty = excluded.qty, cost = excluded.cost
"""
_SAVE_POSITIONS = """
INSERT INTO orders.positions (account_id, symbol, qty, cost, updated_at)
SELECT v.*, %(now)s
FROM unnest(%(accounts)b::uuid[], %(symbols)b::text[], %(qtys)s::numeric[], %(costs)s::numeric[]) AS v
ON CONFLICT (account_id, symbol) DO UPDATE
SET qty = excluded.qty, cost = excluded.cost, updated_at = excluded.updated_at
"""
_ADD_TRADES = """
INSERT INTO orders.trades (account_id, id, epoch, symbol, side, qty, entry_fill_id, exit_fill_id, opened_at, closed_at,
                           cost, proceeds, realized_pl, strategy_id, entry_strategy_id)
SELECT * FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(epochs)b::int[], %(symbols)b::text[], %(sides)b::text[], %(qtys)s::numeric[],
  %(entries)b::uuid[], %(exits)b::uuid[], %(opened)b::timestamptz[], %(closed)b::timestamptz[], %(costs)s::numeric[],
  %(proceeds)s::numeric[], %(realized)s::numeric[], %(strategies)b::uuid[], %(entry_strategies)b::uuid[])
"""
_ADD_ENTRIES = """
INSERT INTO orders.ledger (account_id, epoch, kind, at, reference, cash, symbol, qty, cost, fee, interest, realized,
                           dividend, capital)
SELECT * FROM unnest(
  %(accounts)b::uuid[], %(epochs)b::int[], %(kinds)b::text[], %(times)b::timestamptz[], %(references)b::uuid[],
  %(cash)s::numeric[], %(symbols)b::text[], %(qtys)s::numeric[], %(costs)s::numeric[], %(fees)s::numeric[],
  %(interests)s::numeric[], %(realized)s::numeric[], %(dividends)s::numeric[], %(capitals)s::numeric[])
"""
_SAVE_TAKEN = """
UPDATE orders.taken t SET qty = v.qty
FROM unnest(%(symbols)b::text[], %(pools)b::text[], %(qtys)s::numeric[]) AS v (symbol, pool, qty)
WHERE t.symbol = v.symbol AND t.pool = v.pool
"""
_BEGIN_EPOCH = "UPDATE orders.accounts SET epoch = %(epoch)s, epoch_at = %(now)s WHERE id = %(id)s"
_DROP_LOTS = "DELETE FROM orders.lots WHERE account_id = %(id)s"
_DROP_POSITIONS = "UPDATE orders.positions SET qty = 0, cost = 0, updated_at = %(now)s WHERE account_id = %(id)s"
