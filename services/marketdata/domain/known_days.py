"""Days on which the calendars are wrong, and the years that the exchanges have announced.

A correction needs a source: an announcement of the exchange, or a report of it. An operator enters another wrong day
by ``POST /api/sessions/changes`` at once, and the next release adds it to this table.

The table was checked against exchange_calendars 4.13 and pandas_market_calendars 5.5. Both have these other unplanned
closures: New York 2001-09-11 to 14, 2012-10-29 and 30 (Sandy), 2018-12-05, 2025-01-09 (Carter), London 2022-09-19
(the Queen's funeral), Tokyo 2020-10-01 (system failure).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from services.marketdata.domain.sessions import Hours, with_times
from shared.contracts.markets import KnownMarket

_HKEX = "https://www.hkex.com.hk/News/Market-Communications"


@dataclass(frozen=True, slots=True)
class Correction:
    """The day was closed, or opened or closed at other times, which are by the market's clock."""

    reason: str
    source: str
    closed: bool = False
    open_at: time | None = None
    close_at: time | None = None


#: Hong Kong stops for typhoon signal 8 and for black rain until 2024-09-22. It has traded through them since.
CORRECTIONS: Mapping[tuple[str, date], Correction] = {
    ("XHKG", date(2019, 7, 31)): Correction(
        "typhoon signal 8 (Wipha) at 13:40, trading ended 15 minutes later",
        "https://www.straitstimes.com/asia/east-asia/tropical-storm-shuts-financial-markets-disrupts-flights",
        close_at=time(13, 55),
    ),
    ("XHKG", date(2020, 8, 19)): Correction(
        "typhoon signal 8 (Higos), no morning", f"{_HKEX}/2020/2008192news", open_at=time(13, 30)
    ),
    ("XHKG", date(2020, 10, 13)): Correction(
        "typhoon signal 8 (Nangka), closed all day", f"{_HKEX}/2020/2010132news", closed=True
    ),
    ("XHKG", date(2021, 4, 6)): Correction(
        "the day following Easter Monday, closed all day", "HKEX trading calendar 2021", closed=True
    ),
    ("XHKG", date(2021, 6, 28)): Correction(
        "black rain, no morning", f"{_HKEX}/2021/2106283news", open_at=time(13, 30)
    ),
    ("XHKG", date(2021, 10, 13)): Correction(
        "typhoon signal 8 (Kompasu), closed all day", f"{_HKEX}/2021/2110132news", closed=True
    ),
    ("XHKG", date(2022, 8, 25)): Correction(
        "typhoon signal 8 (Ma-on) until after 9:00, no morning",
        "https://www.scmp.com/business/article/3190086",
        open_at=time(13),
    ),
    ("XHKG", date(2022, 11, 2)): Correction(
        "typhoon signal 8 (Nalgae) at 13:40, trading ended 15 minutes later",
        "https://news.yahoo.com/hong-kong-cancel-afternoon-trading-055049255.html",
        close_at=time(13, 55),
    ),
    ("XHKG", date(2023, 9, 1)): Correction(
        "typhoon signal 8 (Saola), closed all day", f"{_HKEX}/2023/2309012news", closed=True
    ),
    ("XHKG", date(2023, 9, 8)): Correction(
        "black rain and extreme conditions, closed all day", f"{_HKEX}/2023/2309083news", closed=True
    ),
    ("XHKG", date(2023, 10, 9)): Correction(
        "typhoon signal 8 (Koinu) and black rain, no morning",
        "https://mondovisione.com/media-and-resources/news/"
        "hkex-trading-in-securities-and-derivatives-markets-to-resume-after-cancellation-1/",
        open_at=time(14),
    ),
    ("XHKG", date(2024, 9, 6)): Correction(
        "typhoon signal 8 (Yagi), closed all day",
        "https://www.forexlive.com/news/friday-morning-trade-has-been-cancelled-in-hong-kong-due-massive-storm-20240906/",
        closed=True,
    ),
}
#: The last year that each exchange has announced. Later ones are what its rules foresee: an observed holiday, a half
#: day or a lunar date may still move. Sources: NYSE Group, 2025-12-23 (2026 to 2028). HKEX and the Hong Kong gazette
#: (2027). The State Council of China announces a year at the end of the one before.
ANNOUNCED: Mapping[str, int] = {"XNYS": 2028, "XNAS": 2028, "XHKG": 2027, "XSHG": 2026}
#: That of the other exchanges: the year of the calendars' release.
ANNOUNCED_OTHERWISE = 2026


def is_forecast(market: KnownMarket, day: date) -> bool:
    """True if the exchange had not announced the day's hours when the calendars were released."""
    return market.code != "24/5" and day.year > ANNOUNCED.get(market.code, ANNOUNCED_OTHERWISE)


def corrected(market: KnownMarket, hours: Hours) -> Hours | None:
    """The hours that the exchange really had, where the calendar is known to be wrong. None where it was closed."""
    correction = CORRECTIONS.get((market.code, hours.day))
    if correction is None:
        return hours
    if correction.closed:
        return None
    zone = ZoneInfo(market.timezone)

    def at(moment: time | None) -> datetime | None:
        return None if moment is None else datetime.combine(hours.day, moment, zone).astimezone(hours.open_at.tzinfo)

    return with_times(hours, at(correction.open_at), at(correction.close_at))
