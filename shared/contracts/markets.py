"""The markets that PaperProfit knows: what an instrument trades on, and what a job's schedule may follow.

The codes are ISO 10383 market identifiers, but for the two that never close. Their sessions marketdata publishes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownMarket:
    """``timezone`` is the IANA name of its clock, by which its trading days are counted."""

    code: str
    name: str
    timezone: str
    always_open: bool = False


MARKETS: Mapping[str, KnownMarket] = {
    market.code: market
    for market in (
        KnownMarket("DEMO", "Demo market, open at all hours", "UTC", always_open=True),
        KnownMarket("24/7", "Open at all hours", "UTC", always_open=True),
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
