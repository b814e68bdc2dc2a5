"""Prices that no event brought, such as while orders was down: what was missed is made up for from the stored bars.

So are auctions, from the official prices: between the bars before and after them.

Each bar is applied as the event about it would have been, in order and in a transaction of its own, with the sequence
of the last price that was applied. So an event that comes after all goes first, and a run that is killed goes on where
it was.

What is in another currency than its account is converted at the rate of now, not at that of the bar: it is now that the
account pays. While there is no fresh rate, bars go by without filling it.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from services.orders.persistence import quotes
from services.orders.usecases import auctions
from services.orders.usecases.execute import fill_on
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.prices import Price

#: Bars that ended together, or an auction.
Step = list[Price] | OfficialPricePublished


def catch_up(context: ServiceContext, progress: Callable[[int, int], None]) -> int:
    """Fill what the missed bars and auctions fill; the number of fills."""
    filled = done = 0
    while steps := _missed(context):
        known = done + len(steps)
        for step in steps:
            with context.unit_of_work() as uow:
                filled += _take(uow, step)
            done += 1
            progress(done, known)
    return filled


def _take(uow: UnitOfWork, step: Step) -> int:
    if isinstance(step, OfficialPricePublished):
        return auctions.hold(uow, step)
    return fill_on(uow, step, at=step[0].quoted_at)


def _missed(context: ServiceContext) -> list[Step]:
    """The next missed bars, those that ended at one time together, and the auctions among them."""
    with context.engine.begin() as connection:
        bars = quotes.missed_bars(connection)
        held = auctions.missed(connection)
    steps: list[Step] = [list(batch) for _, batch in groupby(bars, key=attrgetter("quoted_at"))]
    steps += [auction for auction in held if not bars or auction.held_at < bars[-1].quoted_at]
    return sorted(steps, key=_place)


def _place(step: Step) -> tuple[datetime, bool]:
    """A bar that ends with an auction lies before it."""
    return (step.held_at, True) if isinstance(step, OfficialPricePublished) else (step[0].quoted_at, False)


def sweep(context: ServiceContext) -> int:
    """Fill on the current price of each symbol with an open order, if no event did; the number of fills."""
    with context.unit_of_work() as uow:
        return fill_on(uow, quotes.prices_with_open_orders(uow.connection), at=uow.now)
