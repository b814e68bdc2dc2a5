"""Prices that no event brought, such as while orders was down, are made up for from the stored bars.

Auctions are made up for in the same way, from the official prices: between the bars before and after them.

Each bar is applied as the event about it would have been, in order and in a transaction of its own, with the sequence
of the last price that was applied. An event that comes after all therefore goes first, and a run that is killed goes on
where it was.

Amounts in another currency than their account's are converted at the rate of now and not at that of the bar, because
the account pays now. While there is no fresh rate, bars go by without filling such orders.
"""

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

from services.orders.persistence import quotes
from services.orders.persistence.auctions import missed_auctions
from services.orders.settings import current
from services.orders.usecases import auctions
from services.orders.usecases.execute import fill_on
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.prices import Price
from shared.exchange.matching.matching import oldest_fresh

#: Bars that ended together, or an auction.
Step = list[Price] | OfficialPricePublished


def catch_up(context: ServiceContext, progress: Callable[[int, int], None]) -> int:
    """Fill the orders that missed bars and auctions fill. Returns the number of fills."""
    filled = done = 0
    while steps := _missed(context):
        known = done + len(steps)
        for step in steps:
            with context.unit_of_work() as uow:
                if isinstance(step, OfficialPricePublished):
                    filled += auctions.hold(uow, step)
                else:
                    filled += fill_on(uow, step, at=step[0].quoted_at)
            done += 1
            progress(done, known)
    return filled


def _missed(context: ServiceContext) -> list[Step]:
    """The next missed bars, those that ended at one time together, and the auctions among them."""
    with context.engine.begin() as connection:
        bars = quotes.missed_bars(connection, oldest_fresh(context.clock(), current().rules))
        held = missed_auctions(connection)
    placed: list[tuple[tuple[object, bool], Step]] = [
        ((at, False), list(batch)) for at, batch in groupby(bars, key=attrgetter("quoted_at"))
    ]
    # a bar that ends with an auction lies before it
    placed += [((each.held_at, True), each) for each in held if not bars or each.held_at < bars[-1].quoted_at]
    return [step for _, step in sorted(placed, key=lambda each: each[0])]


def sweep(context: ServiceContext) -> int:
    """Fill on the current price of each symbol with an open order, if no event did. Returns the number of fills."""
    with context.unit_of_work() as uow:
        return fill_on(uow, quotes.prices_with_open_orders(uow.connection), at=uow.now)
