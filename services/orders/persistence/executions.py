"""Writing settlements and the books: one statement per table, however many rows, and one round trip for all of them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import uuid5

from services.orders.persistence import accounts as account_store
from services.orders.persistence.order_writes import Why, saving_orders
from shared.exchange.ledger import Entry
from shared.exchange.matching.book import Book, Canceled, Execution, Holding, Outcome, RoundTrip, position_of
from shared.exchange.matching.fills import Fill
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.order import Account, Key, Order
from shared.exchange.refusal import Refusal
from shared.storage.driver import Call, numbers


def saving(execution: Execution, book: Book, now: datetime) -> list[Call]:
    """The statements that write everything that the execution changed, one for each table."""
    accounts = [book.accounts[id_] for id_ in sorted({order.account_id for order in execution.orders})]
    calls = [
        saving_orders(execution.orders, dict(_ends(execution.outcomes)), now),
        account_store.saving_accounts(accounts),
    ]
    if execution.fills:
        touched = holdings(execution.fills)
        calls += [
            _fills(execution.fills, book),
            _lots(touched, book),
            _positions(touched, book, now),
            saving_entries(execution.entries),
        ]
    if execution.round_trips:
        calls.append(_round_trips(execution.round_trips, book))
    if book.liquidity.touched:
        calls.append(_taken(book.liquidity))
    return calls


def saving_adjusted(book: Book, entries: Sequence[Entry], now: datetime) -> list[Call]:
    """The statements that write all lots, positions and accounts of the book, and the entries about them."""
    held = sorted(book.lots)
    accounts = [book.accounts[id_] for id_ in sorted(book.accounts)]
    return [
        _lots(held, book),
        _positions(held, book, now),
        saving_entries(entries),
        account_store.saving_accounts(accounts),
    ]


def beginning_generation(account: Account, now: datetime) -> list[Call]:
    """The account holds nothing any more; fills, round trips and ledger of its earlier generations stay."""
    return [
        (_BEGIN_GENERATION, {"id": account.id, "generation": account.generation, "now": now}),
        (_DROP_LOTS, {"id": account.id}),
        (_DROP_POSITIONS, {"id": account.id, "now": now}),
    ]


def _ends(outcomes: Iterable[tuple[Order, Outcome]]) -> Iterable[tuple[Key, Why]]:
    for order, outcome in outcomes:
        if isinstance(outcome, Canceled):
            yield order.key, (outcome.reason, None, None)
        elif isinstance(outcome, Refusal):
            yield order.key, (None, outcome.reason, outcome.message)


def _fills(fills: Sequence[Fill], book: Book) -> Call:
    columns = {
        "accounts": [fill.order.account_id for fill in fills],
        "orders": [fill.order.id for fill in fills],
        "numbers": [fill.number for fill in fills],
        "ids": [fill.id for fill in fills],
        "generations": [book.accounts[fill.order.account_id].generation for fill in fills],
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
        "currencies": [fill.order.currency for fill in fills],
        "rates": numbers(fill.rate for fill in fills),
        "rates_quoted": [fill.fx_rate.quoted_at for fill in fills],
        "rate_bids": numbers(fill.fx_rate.bid for fill in fills),
        "rate_asks": numbers(fill.fx_rate.ask for fill in fills),
    }
    return _ADD_FILLS, columns


def _lots(touched: Sequence[Holding], book: Book) -> Call:
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
    return _SAVE_LOTS, columns


def _positions(touched: Sequence[Holding], book: Book, now: datetime) -> Call:
    positions = [position_of(book.lots[holding]) for holding in touched]
    columns = {
        "accounts": [account for account, _ in touched],
        "symbols": [symbol for _, symbol in touched],
        "qtys": numbers(qty for qty, _ in positions),
        "costs": numbers(cost for _, cost in positions),
    }
    return _SAVE_POSITIONS, {**columns, "now": now}


def _round_trips(trips: Sequence[RoundTrip], book: Book) -> Call:
    columns = {
        "accounts": [trip.exit.order.account_id for trip in trips],
        "ids": [uuid5(trip.exit.id, str(trip.closed.lot.fill_id)) for trip in trips],
        "generations": [book.accounts[trip.exit.order.account_id].generation for trip in trips],
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
    return _ADD_ROUND_TRIPS, columns


def saving_entries(entries: Sequence[Entry]) -> Call:
    columns = {
        "accounts": [entry.account_id for entry in entries],
        "generations": [entry.generation for entry in entries],
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
    return _ADD_ENTRIES, columns


def _taken(liquidity: Liquidity) -> Call:
    """The rows are locked, and of the update at hand."""
    pools = sorted(liquidity.touched)
    columns = {
        "symbols": [symbol for symbol, _ in pools],
        "pools": [pool for _, pool in pools],
        "qtys": numbers(liquidity.consumed[pool] for pool in pools),
    }
    return _SAVE_TAKEN, columns


def holdings(fills: Iterable[Fill]) -> list[Holding]:
    """What the fills changed, each once."""
    return sorted({(fill.order.account_id, fill.order.symbol) for fill in fills})


_ADD_FILLS = """
INSERT INTO orders.fills (account_id, order_id, number, id, generation, symbol, side, qty, price, amount, fee, slippage,
                          stage, filled_at, price_sequence, quoted_at, since, bid, ask, last, open, high, low,
                          currency, rate, rate_quoted_at, rate_bid, rate_ask)
SELECT * FROM unnest(
  %(accounts)b::uuid[], %(orders)b::uuid[], %(numbers)b::int[], %(ids)b::uuid[], %(generations)b::int[],
  %(symbols)b::text[],
  %(sides)b::text[], %(qtys)s::numeric[], %(prices)s::numeric[], %(amounts)s::numeric[], %(fees)s::numeric[],
  %(slippages)s::numeric[], %(stages)b::text[], %(times)b::timestamptz[], %(sequences)b::bigint[],
  %(quoted)b::timestamptz[], %(sinces)b::timestamptz[], %(bids)s::numeric[], %(asks)s::numeric[], %(lasts)s::numeric[],
  %(opens)s::numeric[], %(highs)s::numeric[], %(lows)s::numeric[], %(currencies)b::text[], %(rates)s::numeric[],
  %(rates_quoted)b::timestamptz[], %(rate_bids)s::numeric[], %(rate_asks)s::numeric[])
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
_ADD_ROUND_TRIPS = """
INSERT INTO orders.round_trips (account_id, id, generation, symbol, side, qty, entry_fill_id, exit_fill_id,
  opened_at, closed_at,
                           cost, proceeds, realized_pl, strategy_id, entry_strategy_id)
SELECT * FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(generations)b::int[], %(symbols)b::text[], %(sides)b::text[],
  %(qtys)s::numeric[],
  %(entries)b::uuid[], %(exits)b::uuid[], %(opened)b::timestamptz[], %(closed)b::timestamptz[], %(costs)s::numeric[],
  %(proceeds)s::numeric[], %(realized)s::numeric[], %(strategies)b::uuid[], %(entry_strategies)b::uuid[])
"""
_ADD_ENTRIES = """
INSERT INTO orders.ledger (account_id, generation, kind, at, reference, cash, symbol, qty, cost, fee, interest,
  realized,
                           dividend, capital)
SELECT * FROM unnest(
  %(accounts)b::uuid[], %(generations)b::int[], %(kinds)b::text[], %(times)b::timestamptz[], %(references)b::uuid[],
  %(cash)s::numeric[], %(symbols)b::text[], %(qtys)s::numeric[], %(costs)s::numeric[], %(fees)s::numeric[],
  %(interests)s::numeric[], %(realized)s::numeric[], %(dividends)s::numeric[], %(capitals)s::numeric[])
"""
_SAVE_TAKEN = """
UPDATE orders.taken t SET qty = v.qty
FROM unnest(%(symbols)b::text[], %(pools)b::text[], %(qtys)s::numeric[]) AS v (symbol, pool, qty)
WHERE t.symbol = v.symbol AND t.pool = v.pool
"""
_BEGIN_GENERATION = "UPDATE orders.accounts SET generation = %(generation)s, generation_at = %(now)s WHERE id = %(id)s"
_DROP_LOTS = "DELETE FROM orders.lots WHERE account_id = %(id)s"
_DROP_POSITIONS = "UPDATE orders.positions SET qty = 0, cost = 0, updated_at = %(now)s WHERE account_id = %(id)s"
