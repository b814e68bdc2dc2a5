"""The holidays that European exchanges publish, as rules: a second source for calendars that no other library has.

They are those in force since 2022, when Frankfurt began to trade on Whit Monday. Sources: the trading calendars of
Euronext, Deutsche Boerse (Xetra), BME and Nasdaq Stockholm. Hours and half days are not among them.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

#: The first year of the rules.
SINCE = 2022
_SATURDAY = 5


def easter(year: int) -> date:
    """Easter Sunday, by the anonymous Gregorian algorithm (Meeus, Astronomical Algorithms, chapter 8)."""
    golden, (century, rest) = year % 19, divmod(year, 100)
    leaps, skipped = divmod(century, 4)
    moon = (19 * golden + century - leaps - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    weekday = (32 + 2 * skipped + 2 * (rest // 4) - moon - rest % 4) % 7
    shift = (golden + 11 * moon + 22 * weekday) // 451
    month, day = divmod(moon + weekday - 7 * shift + 114, 31)
    return date(year, month, day + 1)


def _target(year: int) -> set[date]:
    """The closing days of the euro's payment system, which Euronext and Madrid follow."""
    sunday = easter(year)
    good_friday, easter_monday = sunday - timedelta(days=2), sunday + timedelta(days=1)
    fixed = {date(year, month, day) for month, day in ((1, 1), (5, 1), (12, 25), (12, 26))}
    return {*fixed, good_friday, easter_monday}


def _xetra(year: int) -> set[date]:
    return {*_target(year), date(year, 12, 24), date(year, 12, 31)}


def _milan(year: int) -> set[date]:
    return {*_xetra(year), date(year, 8, 15)}


def _stockholm(year: int) -> set[date]:
    ascension = easter(year) + timedelta(days=39)
    midsummer_eve = next(day for n in range(7) if (day := date(year, 6, 19) + timedelta(days=n)).weekday() == 4)
    return {*_xetra(year), date(year, 1, 6), date(year, 6, 6), ascension, midsummer_eve}


HOLIDAYS: Mapping[str, Callable[[int], set[date]]] = {
    "XPAR": _target,
    "XAMS": _target,
    "XMAD": _target,
    "XETR": _xetra,
    "XMIL": _milan,
    "XSTO": _stockholm,
}


def trading_days(market: str, first: date, last: date) -> list[date]:
    """The days from ``first`` to ``last`` on which the market trades by its rules."""
    closed = {day for year in range(first.year, last.year + 1) for day in HOLIDAYS[market](year)}
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [day for day in days if day.year >= SINCE and day.weekday() < _SATURDAY and day not in closed]
