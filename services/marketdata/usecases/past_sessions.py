"""Write the sessions of a market's earlier days, when its history needs them."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import text

from services.marketdata.domain.differences import Calendars
from services.marketdata.usecases.update_sessions import EARLIEST, CalendarsFailed, write
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS, KnownMarket
from shared.jobs.run_context import Counts

#: Computes the sessions of markets from the first to the last day.
Compute = Callable[[Sequence[KnownMarket], date, date], Calendars]


def add_past_sessions(context: ServiceContext, compute: Compute, code: str, since: date, run_id: UUID) -> Counts:
    """Write the sessions from ``since`` to the first day that is stored. A market that never closes has none.

    They are computed outside of any transaction. Raises CalendarsFailed, so that the run is repeated.
    """
    market, since = MARKETS.get(code), max(since, EARLIEST)
    if market is None or market.always_open:
        return {}
    with context.engine.begin() as connection:
        first = connection.execute(_FIRST_DAY, {"market": code}).scalar_one() or context.clock().date()
    # a market may begin its year with holidays
    if first - since <= timedelta(days=7):
        return {}
    last = first - timedelta(days=1)
    found = compute([market], since, last)
    if found.failed:
        raise CalendarsFailed(found.failed)
    with context.unit_of_work() as uow:
        return write(uow, [market], since, last, found, run_id)


_FIRST_DAY = text("SELECT min(day) FROM marketdata.market_sessions WHERE market = :market")
