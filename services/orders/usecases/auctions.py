"""Auctions: which one an order is for, and what becomes of its orders once its price is known.

An auction without open orders costs one look into an index. It is held once: afterwards none of its orders is open.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from services.orders.persistence import executions
from services.orders.persistence.accounts import lock_concerned
from services.orders.persistence.auctions import split_counts, trading_days
from services.orders.persistence.fx_rates import usable_rates
from services.orders.persistence.orders import order_groups_for_auction
from services.orders.persistence.pre_trade import PreTradeContext
from services.orders.usecases.account_events import AccountEvents
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.orders import AUCTIONS, TimeInForce
from shared.exchange.matching.auctions import TIMES_IN_FORCE, execute_auction
from shared.exchange.matching.book import Book
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.trading_days import coming

#: (symbol, time in force, when it was asked for) of an order.
Timed = tuple[str, TimeInForce, datetime]


def hold(uow: UnitOfWork, held: OfficialPricePublished) -> int:
    """Fill the orders that the auction fills, and end its others. Returns the number of fills.

    A price of other shares than the orders are of does nothing: the split between them comes first. Nor does a price of
    shares that marketdata has split since: what it bought now would count as bought after the split.
    """
    time_in_force = TIMES_IN_FORCE[held.kind]
    order_groups = order_groups_for_auction(uow.connection, held.symbol, held.day, time_in_force)
    if not order_groups:
        return 0
    accounts, orders, lots = lock_concerned(uow.connection, {held.symbol: order_groups})
    # a split locks the same rows, so the counts are read after them
    if not orders or set(split_counts(uow.connection, held.symbol)) != {held.split_count}:
        return 0
    book = Book(accounts, lots, rates=usable_rates(uow.connection, orders, accounts, uow.now))
    execution = execute_auction(orders, held, book, uow.now)
    book.liquidity = Liquidity()  # an auction is held once, so nothing of it is left for a later order
    AccountEvents(uow, book.accounts).execution(execution, book)
    uow.at_commit(*executions.saving(execution, book, uow.now))
    return len(execution.fills)


def with_auctions(
    connection: Connection, timed: Sequence[Timed], contexts: Sequence[PreTradeContext], now: datetime
) -> list[PreTradeContext]:
    """The contexts of these orders, each with the auction that its order is for: the next one after it was asked for.

    An order that was long on its way is too late for that auction, and is not moved to the next day's.
    """
    wanted = [each for each in timed if each[1] in AUCTIONS]
    if not wanted:
        return list(contexts)
    since = min(now, *(at for _, _, at in wanted))
    days = trading_days(connection, {symbol for symbol, _, _ in wanted}, since)
    found = list(contexts)
    for place, (symbol, time_in_force, at) in enumerate(timed):
        instrument = found[place].instrument
        if time_in_force in AUCTIONS and instrument is not None:
            auction = coming(time_in_force, days.get(symbol, []), min(at, now))
            found[place] = replace(found[place], instrument=replace(instrument, auction=auction))
    return found
