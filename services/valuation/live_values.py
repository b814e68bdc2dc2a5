"""Live values, published at most ten times a second: a burst of prices becomes one event.

Each price event adds its symbols to ``changed_symbols``. If the last publication is PAUSE ago, the same transaction
publishes the values of all holders of changed symbols. Otherwise a thread of this process does it when the pause is
over. Symbols are rows, so those of a killed process are published by another one.
"""

import threading
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text

from services.valuation.values import values_of_holders
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import Price
from shared.contracts.valuation import AccountsValued, AccountValue
from shared.observability.progress import valued
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

#: An account's value is published at most this often because of prices.
PAUSE = timedelta(milliseconds=100)
#: The values of one event, which is some 2 MB then.
MOST_VALUES = 10_000
#: Symbols that another process left behind are looked for at this pace.
POLL_SECONDS = 5.0
#: Set when symbols of this process wait for the end of the pause.
waiting = threading.Event()


def mark(uow: UnitOfWork, prices: Sequence[Price]) -> None:
    """Publish the values that these prices change, now or when the pause is over."""
    newest = {price.symbol: price.quoted_at for price in prices}
    symbols = sorted(newest)
    uow.connection.execute(_MARK, {"symbols": symbols, "times": [newest[symbol] for symbol in symbols]})
    if not publish_changed(uow):
        uow.after_commit.append(waiting.set)


def publish_changed(uow: UnitOfWork) -> bool:
    """Publish the values of the holders of all changed symbols. Return False if the pause is not over."""
    times = {"now": uow.now, "before": uow.now - PAUSE, "ahead": uow.now + PAUSE}
    if not uow.connection.execute(_BEGIN, times).rowcount:
        return False
    changed = uow.connection.execute(_TAKE).all()
    if changed:
        publish_values(uow, values_of_holders(uow.connection, sorted(each.symbol for each in changed)))
        uow.at_commit(valued(max(each.quoted_at for each in changed), uow.now))
    return True


def publish_values(uow: UnitOfWork, accounts: Sequence[AccountValue]) -> None:
    """Publish the accounts' values as one event, where there are any, or as some if it would be too large."""
    for start in range(0, len(accounts), MOST_VALUES):
        some = tuple(accounts[start : start + MOST_VALUES])
        uow.publish(AccountsValued(values=some, at=uow.now))


class LiveValues(Background):
    """Publishes the values that waited for the end of a pause."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("live values")
        self._context = context
        self._database = Outage("the database", part="live values")

    def run(self) -> None:
        pause = 0.0
        while not self.stopping.is_set():
            waiting.wait(POLL_SECONDS)
            self.stopping.wait(max(pause, PAUSE.total_seconds()))
            try:
                waiting.clear()
                with self._context.unit_of_work() as uow:
                    if not publish_changed(uow):
                        uow.after_commit.append(waiting.set)
                self._database.passed()
                pause = 0.0
            except DATABASE_ERRORS as error:
                pause = self._database.failed(error)
                waiting.set()

    def stop(self) -> None:
        self.stopping.set()
        waiting.set()
        super().stop()


_MARK = text("""
INSERT INTO valuation.changed_symbols AS c (symbol, quoted_at)
SELECT * FROM unnest(CAST(:symbols AS text[]), CAST(:times AS timestamptz[]))
ON CONFLICT (symbol) DO UPDATE SET quoted_at = GREATEST(c.quoted_at, excluded.quoted_at)
""")
#: A time that lies ahead was written before the clock went back. Of several processes one begins.
_BEGIN = text("""
UPDATE valuation.publication SET published_at = :now
WHERE published_at <= :before OR published_at > :ahead
""")
#: A row that another transaction is marking is left to it, since it waits for the row of the publication.
_TAKE = text("""
DELETE FROM valuation.changed_symbols WHERE symbol = ANY(ARRAY(
  SELECT symbol FROM valuation.changed_symbols FOR UPDATE SKIP LOCKED))
RETURNING symbol, quoted_at
""")
