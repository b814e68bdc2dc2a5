"""The known markets, on which instruments trade and which job schedules can follow.

The codes are ISO 10383 market identifiers, except for the two markets that never close and the one that closes only at
weekends. Marketdata has their sessions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class KnownMarket:
    """A market. ``timezone`` is the IANA name of the zone whose dates are its trading days."""

    code: str
    name: str
    timezone: str
    always_open: bool = False

    def day_bounds(self, day: date) -> tuple[datetime, datetime]:
        """The begin and end of the trading day, by the market's clock. Currencies begin the evening before."""
        zone, begins = ZoneInfo(self.timezone), CURRENCY_DAY if self.code == CURRENCIES else time()
        first = day - timedelta(days=1) if begins > time() else day
        begin, end = (datetime.combine(each, begins, zone) for each in (first, first + timedelta(days=1)))
        return begin, end


#: The market of currency pairs, and the time at which its day ends and the next begins.
CURRENCIES = "24/5"
CURRENCY_DAY = time(17)

MARKETS: Mapping[str, KnownMarket] = {
    market.code: market
    for market in (
        KnownMarket("DEMO", "Demo market, open at all hours", "UTC", always_open=True),
        KnownMarket("24/7", "Open at all hours", "UTC", always_open=True),
        KnownMarket("24/5", "Currencies, from Sunday to Friday 17:00 in New York", "America/New_York"),
        KnownMarket("XNYS", "New York Stock Exchange", "America/New_York"),
        KnownMarket("XNAS", "Nasdaq", "America/New_York"),
        KnownMarket("XTSE", "Toronto Stock Exchange", "America/Toronto"),
        KnownMarket("XLON", "London Stock Exchange", "Europe/London"),
        KnownMarket("XETR", "Xetra", "Europe/Berlin"),
        KnownMarket("XPAR", "Euronext Paris", "Europe/Paris"),
        KnownMarket("XAMS", "Euronext Amsterdam", "Europe/Amsterdam"),
        KnownMarket("XMIL", "Borsa Italiana", "Europe/Rome"),
        KnownMarket("XMAD", "Bolsa de Madrid", "Europe/Madrid"),
        KnownMarket("XSWX", "SIX Swiss Exchange", "Europe/Zurich"),
        KnownMarket("XSTO", "Nasdaq Stockholm", "Europe/Stockholm"),
        KnownMarket("XTKS", "Tokyo Stock Exchange", "Asia/Tokyo"),
        KnownMarket("XHKG", "Hong Kong Stock Exchange", "Asia/Hong_Kong"),
        KnownMarket("XSHG", "Shanghai Stock Exchange", "Asia/Shanghai"),
        KnownMarket("XASX", "Australian Securities Exchange", "Australia/Sydney"),
    )
}
#: The market of an instrument or a job for which none is given.
DEFAULT_MARKET = "DEMO"
