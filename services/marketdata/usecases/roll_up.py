"""Roll minutes up into longer bars: those that came since the last time, and once a day those that came late."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import text

from services.marketdata.persistence import bars
from shared.bus.unit_of_work import ServiceContext

#: Minutes may come so much later than they end. Later ones are rolled up by the first run of the next day.
LATE = timedelta(hours=2)
LATE_BY_DAYS = timedelta(days=2)
_PART = timedelta(days=1)


def roll_up_new(context: ServiceContext, progress: Callable[[int, int], None]) -> int:
    """Roll up what came since the last run, and return the number of rows written."""
    now = context.clock()
    with context.engine.begin() as connection:
        until: datetime | None = connection.execute(_UNTIL).scalar()
    is_new_day = until is None or until.date() != now.date()
    begin = min(until or now, now) - (LATE_BY_DAYS if is_new_day else LATE)
    written = roll_up_between(context, None, begin, now, progress)
    with context.engine.begin() as connection:
        connection.execute(_ROLLED_UP, {"now": now})
    return written


def roll_up_between(
    context: ServiceContext,
    symbols: Sequence[str] | None,
    begin: datetime,
    end: datetime,
    progress: Callable[[int, int], None],
) -> int:
    """Roll up the minutes of that time, a day in each transaction, and return the number of rows written."""
    written, done, total = 0, 0, -(-(end - begin) // _PART)
    while begin < end:
        following = min(end, begin + _PART)
        with context.engine.begin() as connection:
            written += bars.roll_up(connection, None if symbols is None else list(symbols), begin, following)
        begin, done = following, done + 1
        progress(done, total)
    return written


_UNTIL = text("SELECT until FROM marketdata.roll_ups WHERE source = '1m'")
_ROLLED_UP = text("""
INSERT INTO marketdata.roll_ups (source, until) VALUES ('1m', :now)
ON CONFLICT (source) DO UPDATE SET until = excluded.until
""")
