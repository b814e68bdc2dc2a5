"""Prices that no event brought, such as while orders was down: what was missed is made up for from the stored bars.

Each bar is applied as the event about it would have been, in order and in a transaction of its own, with the sequence
of the last price that was applied. So an event that comes after all goes first, and a run that is killed goes on where
it was.

What is in another currency than its account is converted at the rate of now, not at that of the bar: it is now that the
account pays. While there is no fresh rate, bars go by without filling it.
"""

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

from services.orders import quotes
from services.orders.filling import fill_on
from shared.bus.transaction import Unit
from shared.contracts.prices import Price


def catch_up(unit: Unit, progress: Callable[[int, int], None]) -> int:
    """Fill what the missed bars fill; the number of fills."""
    filled = done = 0
    while batches := _missed(unit):
        known = done + len(batches)
        for batch in batches:
            with unit.transaction() as tx:
                filled += fill_on(tx, batch, at=batch[0].quoted_at)
            done += 1
            progress(done, known)
    return filled


def _missed(unit: Unit) -> list[list[Price]]:
    """The next missed bars, those that ended at one time together."""
    with unit.engine.begin() as connection:
        bars = quotes.missed_bars(connection)
    return [list(batch) for _, batch in groupby(bars, key=attrgetter("quoted_at"))]


def sweep(unit: Unit) -> int:
    """Fill on the current price of each symbol with an open order, if no event did; the number of fills."""
    with unit.transaction() as tx:
        return fill_on(tx, quotes.prices_with_open_orders(tx.connection), at=tx.now)
