"""The usual hours of the known markets, their half days and fixed holidays, by which schedules are checked.

Marketdata has the sessions of each day.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.markets import CURRENCIES


@dataclass(frozen=True)
class MarketDays:
    """Trading by the market's clock: regular sessions of a day and of a half day, and days of the year without any."""

    regular: str
    half: str
    closed: str
    extended: bool = False


_NEW_YORK = MarketDays("09:30-16:00", "09:30-13:00", "01-01 06-19 07-04 12-25", extended=True)
_EURONEXT = MarketDays("09:00-17:30", "09:00-14:05", "01-01 05-01 12-25 12-26")
_FRANKFURT = MarketDays("09:00-17:30", "09:00-14:00", "01-01 05-01 12-24 12-25 12-26 12-31")
_TOKYO_CLOSED = "01-01 01-02 01-03 02-11 02-23 04-29 05-03 05-04 05-05 08-11 11-03 11-23 12-31"
MARKET_DAYS: Mapping[str, MarketDays] = {
    "XNYS": _NEW_YORK,
    "XNAS": _NEW_YORK,
    "XTSE": MarketDays("09:30-16:00", "09:30-13:00", "01-01 07-01 12-25 12-26"),
    "XLON": MarketDays("08:00-16:30", "08:00-12:30", "01-01 12-25 12-26"),
    "XETR": _FRANKFURT,
    "XPAR": _EURONEXT,
    "XAMS": _EURONEXT,
    "XMIL": MarketDays("09:00-17:30", "09:00-17:30", "01-01 05-01 08-15 12-24 12-25 12-26 12-31"),
    "XMAD": MarketDays("09:00-17:30", "09:00-14:00", "01-01 05-01 12-25 12-26"),
    "XSWX": MarketDays("09:00-17:30", "09:00-17:30", "01-01 01-02 05-01 08-01 12-24 12-25 12-26 12-31"),
    "XSTO": MarketDays("09:00-17:30", "09:00-13:00", "01-01 01-06 05-01 06-06 12-24 12-25 12-26 12-31"),
    "XTKS": MarketDays("09:00-11:30 12:30-15:30", "09:00-11:30", _TOKYO_CLOSED),
    "XHKG": MarketDays("09:30-12:00 13:00-16:00", "09:30-12:00", "01-01 05-01 07-01 10-01 12-25 12-26"),
    "XSHG": MarketDays("09:30-11:30 13:00-15:00", "09:30-11:30", "01-01 05-01 10-01 10-02 10-03"),
    "XASX": MarketDays("10:00-16:00", "10:00-14:10", "01-01 01-26 04-25 12-25 12-26"),
    CURRENCIES: MarketDays("", "", "01-01 12-25"),
}
