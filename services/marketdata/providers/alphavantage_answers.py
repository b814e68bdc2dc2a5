"""Alpha Vantage's answers and names, and the refusals that it sends with status 200."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from services.marketdata.domain.bar import Bar
from services.marketdata.providers.numbers import decimal_of, positive
from services.marketdata.providers.provider import (
    Found,
    Headline,
    KeyRefused,
    Listed,
    ProviderError,
    Throttled,
    Unsupported,
)
from shared.contracts.instruments import AssetClass

#: The suffix of each market. London has none here: its quotes do not say whether they are in pounds or pence.
SUFFIXES = {"XNYS": "", "XNAS": "", "XTSE": ".TRT", "XETR": ".DEX", "XSHG": ".SHH"}
INTRADAY = {"1m": "1min", "5m": "5min", "15m": "15min", "1h": "60min"}
_ZONES = {"XTSE": "America/Toronto", "XETR": "Europe/Berlin", "XSHG": "Asia/Shanghai"}
_UNITED_STATES = "America/New_York"
_CLOSES = {"XETR": time(17, 30), "XSHG": time(15)}
_CLOSE = time(16)
_COLUMNS = ("1. open", "2. high", "3. low", "4. close")


def refuse(answer: dict[str, Any], function: str) -> None:
    """Raise the refusal in an answer, if it is one. Its text may hold the key, and is not repeated."""
    said = " ".join(str(answer[word]) for word in ("Note", "Information") if word in answer)
    if "is a premium endpoint" in said:
        raise KeyRefused(f"Alpha Vantage's {function} needs a premium key: choose another provider for it")
    if said:
        period, seconds = _period(said)
        raise Throttled(
            f"Alpha Vantage takes no more requests for this {period}: ask for fewer symbols, or set "
            "PAPERPROFIT_ALPHAVANTAGE_REQUESTS_PER_DAY and _PER_MINUTE to the limits of the key",
            seconds,
        )
    if "Error Message" in answer:
        if "apikey" in str(answer["Error Message"]):
            raise KeyRefused("Alpha Vantage refuses the key: check PAPERPROFIT_ALPHAVANTAGE_KEY")
        raise ProviderError(f"Alpha Vantage refuses {function} of this symbol: check that it has it")


def _period(said: str) -> tuple[str, float]:
    """The limit that was reached. A text about the shorter one also names the limit of a day."""
    if "per second" in said:
        return "second", 2.0
    if "per day" in said and "per minute" not in said:
        return "day", 3600.0
    return "minute", 60.0


def symbol_of(instrument: Listed) -> str:
    """Alpha Vantage's name of a share. Raises Unsupported for a market that it does not have."""
    suffix = SUFFIXES.get(instrument.market)
    if suffix is None:
        raise Unsupported(f"alphavantage has no quotes of {instrument.market}: choose another provider for it")
    return instrument.symbol.removesuffix(suffix).replace(".", "-") + suffix


def ticker_of(instrument: Listed) -> str:
    """The name by which articles mention it."""
    base = instrument.symbol.partition("/")[0]
    if instrument.asset_class is AssetClass.CRYPTO:
        return f"CRYPTO:{base}"
    return f"FOREX:{base}" if instrument.asset_class is AssetClass.CURRENCY_PAIR else symbol_of(instrument)


def found_of(row: dict[str, Any]) -> Found:
    """A result of a search. The market is None where the result does not tell it."""
    theirs = str(row.get("1. symbol", ""))
    root, dot, ending = theirs.rpartition(".")
    market = next((code for code, suffix in SUFFIXES.items() if suffix and suffix == dot + ending), None)
    united_states = row.get("4. region") == "United States"
    symbol = root if market else theirs
    return Found(
        symbol.replace("-", "."),
        str(row.get("2. name"))[:200],
        market,
        str(row.get("8. currency") or "") or None,
        AssetClass.US_EQUITY if united_states else AssetClass.EQUITY,
    )


def close_of(instrument: Listed, day: date) -> datetime:
    """The usual close of the instrument's market on a day."""
    zone = ZoneInfo(_ZONES.get(instrument.market, _UNITED_STATES))
    return datetime.combine(day, _CLOSES.get(instrument.market, _CLOSE), zone).astimezone(UTC)


def series(instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[dict[str, str]]:
    """The requests that together bring the bars: one for all days, or one for each month of minutes."""
    symbol = symbol_of(instrument)
    if interval == "1d":
        yield {"function": "TIME_SERIES_DAILY", "symbol": symbol, "outputsize": "full"}
        return
    month = begin.astimezone(ZoneInfo(_UNITED_STATES)).date().replace(day=1)
    while datetime.combine(month, time(), UTC) < end:
        yield {
            "function": "TIME_SERIES_INTRADAY",
            "symbol": symbol,
            "interval": INTRADAY[interval],
            "month": month.strftime("%Y-%m"),
            "outputsize": "full",
            "adjusted": "false",
        }
        month = (month + timedelta(days=32)).replace(day=1)


def bars_of(answer: dict[str, Any], instrument: Listed, interval: str) -> list[Bar]:
    """The bars of a time series, oldest first. A bar that cannot be read is left out."""
    name = next((key for key in answer if key.startswith("Time Series")), None)
    rows = answer.get(name) if name is not None else None
    zone = _zone((answer.get("Meta Data") or {}).get("6. Time Zone"))
    bars = []
    for written, row in sorted(rows.items()) if isinstance(rows, dict) else ():
        start = _start(str(written), zone)
        prices = [positive(row.get(column)) for column in _COLUMNS] if isinstance(row, dict) else [None]
        volume = decimal_of(row.get("5. volume")) if isinstance(row, dict) else None
        opened, high, low, close = prices if len(prices) == len(_COLUMNS) else [None] * len(_COLUMNS)
        if start is None or opened is None or high is None or low is None or close is None:
            continue
        if low <= min(opened, close) and max(opened, close) <= high and volume is not None and volume >= 0:
            bars.append(Bar(instrument.symbol, interval, start, opened, high, low, close, volume, "alphavantage"))
    return bars


def headline_of(row: dict[str, Any], tickers: dict[str, str]) -> Headline | None:
    """An article about one of the tickers, with its own score."""
    try:
        at = datetime.strptime(str(row.get("time_published")), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    mentioned = [each.get("ticker") for each in rows_of(row, "ticker_sentiment")]
    symbols = tuple(tickers[each] for each in mentioned if each in tickers)
    if not symbols or not row.get("title") or not row.get("url"):
        return None
    score = decimal_of(row.get("overall_sentiment_score"))
    return Headline(
        title=str(row["title"])[:500],
        url=str(row["url"])[:2000],
        published_at=at,
        symbols=symbols,
        source=str(row.get("source") or "Alpha Vantage")[:100],
        summary=str(row.get("summary") or "")[:2000],
        score=float(max(Decimal(-1), min(Decimal(1), score))) if score is not None else None,
    )


def rows_of(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = answer.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def date_of(written: object) -> date | None:
    try:
        return date.fromisoformat(str(written))
    except ValueError:
        return None


def moment_of(written: object, zone: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(written)).replace(tzinfo=_zone(zone)).astimezone(UTC)
    except ValueError:
        return None


def _start(written: str, zone: ZoneInfo) -> datetime | None:
    """The start of a bar: midnight UTC of a day, or the moment of a minute."""
    day = date_of(written)
    return datetime.combine(day, time(), UTC) if day is not None else moment_of(written, str(zone))


def _zone(written: object) -> ZoneInfo:
    """The zone that an answer names. Series of shares are in New York's time unless they say otherwise."""
    try:
        return ZoneInfo({"US/Eastern": _UNITED_STATES}.get(str(written), str(written)))
    except (KeyError, ValueError, OSError):
        return ZoneInfo(_UNITED_STATES)
