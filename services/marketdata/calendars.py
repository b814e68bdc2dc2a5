"""The exchanges' calendars: which days they trade and at which hours, holidays and half days included.

They come with the installed release of pandas_market_calendars. Later announcements of an exchange come with a later
release. Its times of trading after the close are not used, because it ends them with an early close.
"""

from datetime import date

from services.marketdata.domain.sessions import Hours, Session, sessions_of
from shared.contracts.markets import KnownMarket

#: The library's names of calendars that differ from the market's code. Nasdaq trades when New York does. The library's
#: XSHG has no holidays after the current year. Its SSE has those that can be foreseen.
NAMES = {"XNAS": "XNYS", "XSHG": "SSE"}


def sessions_between(market: KnownMarket, first: date, last: date) -> list[Session]:
    """The sessions of the trading days from ``first`` to ``last``, in order and in UTC."""
    from pandas_market_calendars import get_calendar  # it takes seconds to import, and one job needs it

    calendar = get_calendar(NAMES.get(market.code, market.code))
    schedule = calendar.schedule(first, last)
    if schedule.empty:
        return []
    early = set(calendar.early_closes(schedule).index)
    sessions = []
    for day, times in schedule.to_dict("index").items():
        hours = Hours(
            day=day.date(),
            open_at=times["market_open"].to_pydatetime(),
            close_at=times["market_close"].to_pydatetime(),
            early_close=day in early,
            break_start=times["break_start"].to_pydatetime() if "break_start" in times else None,
            break_end=times["break_end"].to_pydatetime() if "break_end" in times else None,
        )
        sessions += sessions_of(market, hours)
    return sessions
