"""The exchanges' calendars: which days they trade and at which hours, holidays and half days included.

They come with the release of pandas_market_calendars that is installed: what an exchange announces after it is known
from the next one on. Its times of trading after the close are not used, since it ends them with an early close.
"""

from datetime import date
from typing import Any

from services.marketdata.domain.sessions import Hours, Session, sessions_of
from shared.contracts.markets import KnownMarket

#: What the library calls a calendar where that is not the market's code. Nasdaq trades when New York does. Its XSHG has
#: no holidays after the current year; its SSE has those that can be foreseen.
NAMES = {"XNAS": "XNYS", "XSHG": "SSE"}


def sessions_between(market: KnownMarket, first: date, last: date) -> list[Session]:
    """The sessions of the trading days from ``first`` to ``last``, in order and in UTC."""
    return [session for hours in _hours(market, first, last) for session in sessions_of(market, hours)]


def _hours(market: KnownMarket, first: date, last: date) -> list[Hours]:
    from pandas_market_calendars import get_calendar  # it takes seconds to import, and one job needs it

    calendar = get_calendar(NAMES.get(market.code, market.code))
    schedule = calendar.schedule(first, last)
    if schedule.empty:
        return []
    early = set(calendar.early_closes(schedule).index)
    return [_day(day, times, early_close=day in early) for day, times in schedule.to_dict("index").items()]


def _day(day: Any, times: dict[str, Any], *, early_close: bool) -> Hours:
    return Hours(
        day=day.date(),
        open_at=times["market_open"].to_pydatetime(),
        close_at=times["market_close"].to_pydatetime(),
        early_close=early_close,
        break_start=times["break_start"].to_pydatetime() if "break_start" in times else None,
        break_end=times["break_end"].to_pydatetime() if "break_end" in times else None,
    )
