"""Open orders are filled on prices: on those of an event, of the sweep, or of a missed bar."""

from collections.abc import Collection
from datetime import datetime

import structlog

from services.orders.persistence import consumed, executions, quotes
from services.orders.persistence.accounts import lock_concerned
from services.orders.persistence.fx_rates import usable_rates
from services.orders.settings import current
from services.orders.usecases.account_events import AccountEvents
from shared.bus.metrics import EARLY, STALE
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.prices import AHEAD, Price, latest
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.execution import execute
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.matching.matching import oldest_fresh

log = structlog.get_logger(__name__)
#: The symbols that a log line names at most.
SHOWN = 5


def fill_on(uow: UnitOfWork, prices: Collection[Price], *, at: datetime) -> int:
    """Fill the orders that these prices can fill. Returns the number of fills. No two prices are of one symbol.

    A price that comes after a newer one of its symbol is dropped and counted, and so is one that is ahead of the clock
    or far ahead of its symbol's sequence: it would block all others until then. A price that was stale ``at`` that
    time, when it became known, fills nothing. Other transactions wait for the same symbols meanwhile.
    """
    rules = current().rules
    given, end = prices, uow.now + AHEAD
    prices = [price for price in given if latest(price.quoted_at, price.since, price.bar_start) <= end]
    EARLY.labels("orders.prices").inc(len(given) - len(prices))
    applied = quotes.apply_in_order(uow, quotes.columns(prices))
    STALE.labels("orders.prices").inc(len(applied.late - applied.ahead))
    if applied.ahead:
        EARLY.labels("orders.prices").inc(len(applied.ahead))
        log.warning("prices far ahead of marketdata's sequence were dropped", symbols=sorted(applied.ahead)[:SHOWN])
    oldest = oldest_fresh(at, rules)
    fresh = {price.symbol: price for price in prices if price.quoted_at >= oldest and price.symbol not in applied.late}
    usable = {symbol: fresh[symbol] for symbol in applied.concerned if symbol in fresh}
    execution = Execution()
    if usable:
        accounts, orders, lots = lock_concerned(
            uow.connection, {symbol: applied.concerned[symbol] for symbol in usable}
        )
        book = Book(accounts, lots, rates=usable_rates(uow.connection, orders, accounts, uow.now))
        if any(account.counts_volume for account in accounts.values()):
            book.liquidity = Liquidity(consumed.lock_consumed(uow.connection, usable))
        execution = execute(orders, usable, book, uow.now, rules, known_at=at, hours=applied.hours)
        if execution.changed:
            AccountEvents(uow, book.accounts).execution(execution, book)
            uow.at_commit(*executions.saving(execution, book, uow.now))
    uow.at_commit(*quotes.following_best(applied, fresh))
    return len(execution.fills)
