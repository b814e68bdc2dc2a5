"""Auctions: which one an order is for, what happens to its orders once its price is known, and those that were missed.

An auction without open orders costs one look into an index. It is held once: afterwards none of its orders is open.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, text

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions, fx_rates
from services.orders.persistence.accounts import PreTradeContext
from services.orders.persistence.orders import GroupKey
from services.orders.usecases.execute import tell
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.orders import AUCTIONS, TimeInForce
from shared.exchange.matching.auctions import TIMES_IN_FORCE, execute_auction
from shared.exchange.matching.book import Book
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.trading_days import Auction, TradingDay, coming
from shared.storage.driver import fetch

#: (symbol, time in force, when it was asked for) of an order.
Asked = tuple[str, TimeInForce, datetime]


def hold(uow: UnitOfWork, held: OfficialPricePublished) -> int:
    """Fill what the auction fills, and end what it does not; the number of fills.

    A price of other shares than the orders are of does nothing: the split between them comes first. Nor does one of
    shares that marketdata has split since: what it bought now would count as bought after the split.
    """
    order_groups = _order_groups(uow.connection, held)
    if not order_groups:
        return 0
    accounts, orders, lots = account_store.lock_concerned(uow.connection, {held.symbol: order_groups})
    if not orders or _adjustments(uow.connection, held.symbol) != {held.split_count}:  # splits lock the same rows
        return 0
    book = Book(accounts, lots)
    book.rates = fx_rates.usable_rates(uow.connection, orders, accounts, uow.now)
    execution = execute_auction(orders, held, book, uow.now)
    book.liquidity = Liquidity()  # nothing of it is there for anybody later
    tell(uow, execution, book)
    uow.at_commit(*executions.saving(execution, book, uow.now))
    return len(execution.fills)


def missed(connection: Connection) -> list[OfficialPricePublished]:
    """The auctions that were held and have open orders yet, in their order."""
    return [OfficialPricePublished.model_validate(row._asdict()) for row in fetch(connection, _MISSED, {})]


def with_auctions(
    connection: Connection, asked: Sequence[Asked], pre_trade_contexts: Sequence[PreTradeContext], now: datetime
) -> list[PreTradeContext]:
    """The contexts of these orders with the auction that each is for: the next one after it was asked for.

    So an order that was long on its way is too late for it, and does not become one for another day.
    """
    wanted = [each for each in asked if each[1] in AUCTIONS]
    if not wanted:
        return list(pre_trade_contexts)
    days = _trading_days(connection, {symbol for symbol, _, _ in wanted}, min(now, *(at for _, _, at in wanted)))
    return [
        _with(pre_trade, coming(time_in_force, days.get(symbol, []), min(at, now)))
        if time_in_force in AUCTIONS
        else pre_trade
        for (symbol, time_in_force, at), pre_trade in zip(asked, pre_trade_contexts, strict=True)
    ]


def _with(pre_trade: PreTradeContext, auction: Auction | None) -> PreTradeContext:
    return replace(pre_trade, instrument=pre_trade.instrument and replace(pre_trade.instrument, auction=auction))


def _trading_days(connection: Connection, symbols: set[str], since: datetime) -> dict[str, list[TradingDay]]:
    """Of each symbol's market the days that were not over then, as many as an order of then may be about."""
    days: dict[str, list[TradingDay]] = {}
    for row in connection.execute(_TRADING_DAYS, {"symbols": sorted(symbols), "since": since}):
        days.setdefault(row.symbol, []).append(TradingDay(row.day, row.open_at, row.close_at))
    return days


def _order_groups(connection: Connection, held: OfficialPricePublished) -> list[GroupKey]:
    wanted = {"symbol": held.symbol, "day": held.day, "time": TIMES_IN_FORCE[held.kind].value}
    return [(row.account_id, row.order_group) for row in fetch(connection, _FAMILIES, wanted)]


def _adjustments(connection: Connection, symbol: str) -> set[int]:
    """How many splits of the symbol were applied to its orders, and to its price: one number, if no message is late."""
    row = connection.execute(_ADJUSTMENTS, {"symbol": symbol}).one()
    return {row.orders, row.price}


_FAMILIES = """
SELECT account_id, order_group FROM orders.orders
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
JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol AND i.split_count = p.split_count
LEFT JOIN orders.quotes q ON q.symbol = o.symbol
WHERE p.split_count = COALESCE(q.split_count, 0) ORDER BY p.held_at, p.symbol
"""
_ADJUSTMENTS = text("""
SELECT COALESCE(q.split_count, 0) AS orders, i.split_count AS price
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
