"""Auctions: which one an order is for, what happens to its orders once its price is known, and those that were missed.

An auction without open orders costs one look into an index. It is held once: afterwards none of its orders is open.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, text

from services.orders import account_store, exchange_rates, saving
from services.orders.account_store import Context
from services.orders.domain.auctions import TIMES_IN_FORCE, settle_auction
from services.orders.domain.book import Book
from services.orders.domain.liquidity import Liquidity
from services.orders.domain.trading_days import Auction, TradingDay, coming
from services.orders.filling import tell
from services.orders.store import Family
from shared.bus.transaction import Transaction
from shared.contracts.auctions import AuctionHeld
from shared.contracts.orders import AUCTIONS, TimeInForce
from shared.storage.driver import fetch

#: (symbol, time in force, when it was asked for) of an order.
Asked = tuple[str, TimeInForce, datetime]


def hold(tx: Transaction, held: AuctionHeld) -> int:
    """Fill what the auction fills, and end what it does not; the number of fills.

    A price of other shares than the orders are of does nothing: the split between them comes first. Nor does one of
    shares that marketdata has split since: what it bought now would count as bought after the split.
    """
    families = _families(tx.connection, held)
    if not families:
        return 0
    accounts, orders, lots = account_store.lock_concerned(tx.connection, {held.symbol: families})
    if not orders or _adjustments(tx.connection, held.symbol) != {held.adjustment}:  # splits lock the same rows
        return 0
    book = Book(accounts, lots)
    book.rates = exchange_rates.usable_rates(tx.connection, orders, accounts, tx.now)
    settlement = settle_auction(orders, held, book, tx.now)
    book.liquidity = Liquidity()  # nothing of it is there for anybody later
    tell(tx, settlement, book)
    saving.add(tx.writes, settlement, book, tx.now)
    return len(settlement.fills)


def missed(connection: Connection) -> list[AuctionHeld]:
    """The auctions that were held and have open orders yet, in their order."""
    return [AuctionHeld.model_validate(row._asdict()) for row in fetch(connection, _MISSED, {})]


def with_auctions(
    connection: Connection, asked: Sequence[Asked], contexts: Sequence[Context], now: datetime
) -> list[Context]:
    """The contexts of these orders with the auction that each is for: the next one after it was asked for.

    So an order that was long on its way is too late for it, and does not become one for another day.
    """
    wanted = [each for each in asked if each[1] in AUCTIONS]
    if not wanted:
        return list(contexts)
    days = _trading_days(connection, {symbol for symbol, _, _ in wanted}, min(now, *(at for _, _, at in wanted)))
    return [
        _with(context, coming(time_in_force, days.get(symbol, []), min(at, now)))
        if time_in_force in AUCTIONS
        else context
        for (symbol, time_in_force, at), context in zip(asked, contexts, strict=True)
    ]


def _with(context: Context, auction: Auction | None) -> Context:
    return replace(context, listing=context.listing and replace(context.listing, auction=auction))


def _trading_days(connection: Connection, symbols: set[str], since: datetime) -> dict[str, list[TradingDay]]:
    """Of each symbol's market the days that were not over then, as many as an order of then may be about."""
    days: dict[str, list[TradingDay]] = {}
    for row in connection.execute(_TRADING_DAYS, {"symbols": sorted(symbols), "since": since}):
        days.setdefault(row.symbol, []).append(TradingDay(row.day, row.open_at, row.close_at))
    return days


def _families(connection: Connection, held: AuctionHeld) -> list[Family]:
    wanted = {"symbol": held.symbol, "day": held.day, "time": TIMES_IN_FORCE[held.kind].value}
    return [(row.account_id, row.family) for row in fetch(connection, _FAMILIES, wanted)]


def _adjustments(connection: Connection, symbol: str) -> set[int]:
    """How many splits of the symbol were applied to its orders, and to its price: one number, if no message is late."""
    row = connection.execute(_ADJUSTMENTS, {"symbol": symbol}).one()
    return {row.orders, row.price}


_FAMILIES = """
SELECT account_id, family FROM orders.orders
WHERE symbol = %(symbol)s AND auction_day = %(day)s AND time_in_force = %(time)s AND awaits_auction
"""
#: The auctions with open orders, from one to the next by index: however many orders are for it, one of them is read.
_MISSED = """
WITH RECURSIVE awaited AS (
  (SELECT symbol, auction_day, time_in_force FROM orders.orders WHERE awaits_auction
   ORDER BY symbol, auction_day, time_in_force LIMIT 1)
  UNION ALL
  SELECT next.* FROM awaited a CROSS JOIN LATERAL (
    SELECT o.symbol, o.auction_day, o.time_in_force FROM orders.orders o
    WHERE o.awaits_auction AND (o.symbol, o.auction_day, o.time_in_force) > (a.symbol, a.auction_day, a.time_in_force)
    ORDER BY o.symbol, o.auction_day, o.time_in_force LIMIT 1
  ) next
)
SELECT p.* FROM awaited o
JOIN marketdata.official_prices_v1 p ON p.symbol = o.symbol AND p.day = o.auction_day
  AND p.kind = CASE o.time_in_force WHEN 'opg' THEN 'open' ELSE 'close' END
JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol AND i.adjustment = p.adjustment
LEFT JOIN orders.quotes q ON q.symbol = o.symbol
WHERE p.adjustment = COALESCE(q.adjustment, 0) ORDER BY p.held_at, p.symbol
"""
_ADJUSTMENTS = text("""
SELECT COALESCE(q.adjustment, 0) AS orders, i.adjustment AS price
FROM marketdata.instruments_v1 i LEFT JOIN orders.quotes q ON q.symbol = i.symbol WHERE i.symbol = :symbol
""")
_TRADING_DAYS = text("""
SELECT i.symbol, d.day, d.open_at, d.close_at FROM marketdata.instruments_v1 i
CROSS JOIN LATERAL (
  SELECT day, open_at, close_at FROM marketdata.trading_days_v1
  WHERE market = i.market AND day >= CAST(:since AS date) - 1 AND close_at > :since ORDER BY day LIMIT 3
) d
WHERE i.symbol = ANY(:symbols) ORDER BY i.symbol, d.day
""")
