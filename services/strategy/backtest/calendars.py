"""The calendar of a market for the bars of a file, where no database has its sessions."""

import warnings
from datetime import date, datetime

from services.strategy.backtest.series import Calendar
from services.strategy.strategies.view import Session
from shared.contracts.markets import CURRENCIES, MARKETS

#: Nasdaq has the hours and holidays of the New York Stock Exchange.
_SAME = {"XNAS": "XNYS"}


class UnknownMarket(ValueError):
    """There is no market of that code, or its calendar is not installed. The message says which."""


def calendar_of(code: str, begin: date, end: date) -> Calendar:
    """Regular trading of a market on the days from ``begin`` to ``end``, as exchange_calendars has them.

    Raises UnknownMarket.
    """
    known = MARKETS.get(code)
    if known is None:
        raise UnknownMarket(f"there is no market {code!r}, choose one of {', '.join(MARKETS)}")
    if known.always_open or code == CURRENCIES:
        return Calendar(code)
    try:
        from exchange_calendars import get_calendar  # type: ignore[import-untyped]
    except ImportError:
        raise UnknownMarket("exchange_calendars is not installed, which has the sessions of markets") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses old names of pandas
        calendar = get_calendar(_SAME.get(code, code), start=str(begin), end=str(end))
    rows = calendar.schedule.to_dict("index")
    return Calendar(code, {day.date(): Session(_time(row["open"]), _time(row["close"])) for day, row in rows.items()})


def _time(stamp: object) -> datetime:
    found: datetime = stamp.to_pydatetime()  # type: ignore[attr-defined]
    return found
