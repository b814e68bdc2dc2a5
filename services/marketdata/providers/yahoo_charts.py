"""Yahoo's charts: bars, splits and dividends.

A chart's prices are adjusted for all splits until today, and its volumes too. They are turned back into those that were
traded. Its prices are floats of 32 bits.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from services.marketdata.domain.bar import Bar
from services.marketdata.providers.numbers import decimal_of, positive, shortest
from services.marketdata.providers.provider import FoundAction, Listed, ProviderDown, ProviderError, Unsupported
from services.marketdata.providers.yahoo_session import YahooData
from services.marketdata.providers.yahoo_symbols import in_currency, yahoo_symbol

log = structlog.get_logger(__name__)

HOST = "https://query2.finance.yahoo.com"
#: The time that one request may cover, by interval. Minutes come for a week at a time.
PAGES = {
    "1m": timedelta(days=7),
    "5m": timedelta(days=30),
    "15m": timedelta(days=30),
    "1h": timedelta(days=365),
    "1d": timedelta(days=3650),
}
_SECONDS = {"1m": 60, "5m": 60, "15m": 60, "1h": 60, "1d": 1}
#: Later than any event.
_FOREVER = 9_999_999_999
_PLACES = Decimal("1e-9")
_COLUMNS = ("open", "high", "low", "close")


def bars(data: YahooData, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
    """The bars of ``[begin, end)`` as traded, in pages."""
    if interval not in PAGES:
        raise Unsupported(f"yahoo has no bars of {interval}: choose one of {', '.join(PAGES)}")
    splits = _splits(_chart(data, instrument, "1d", int(begin.timestamp()), _FOREVER, events=True))
    at = begin
    while at < end:
        until = min(at + PAGES[interval], end)
        chart = _chart(data, instrument, interval, int(at.timestamp()), int(until.timestamp()))
        page = [bar for bar in _bars(chart, instrument, interval, splits) if begin <= bar.start < end]
        if page:
            yield page
        at = until


def actions(data: YahooData, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
    """Splits and cash dividends per share, as they were paid, whose ex-date lies in ``[begin, end]``."""
    first = int(datetime.combine(begin - timedelta(days=1), time(), UTC).timestamp())
    chart = _chart(data, instrument, "1d", first, _FOREVER, events=True)
    zone, splits = _zone(chart), _splits(chart)
    factor = _factor(chart, instrument)
    found = [
        FoundAction(
            symbol=instrument.symbol, kind="split", ex_date=_day(at, zone), new_shares=ratio.numerator,
            old_shares=ratio.denominator,
        )
        for at, ratio in splits
    ]  # fmt: skip
    for event in _events(chart, "dividends"):
        amount = shortest(event.get("amount"))
        if amount is not None and amount > 0:
            paid = _times(amount * factor, _after(splits, event["date"]))
            found.append(
                FoundAction(symbol=instrument.symbol, kind="dividend", ex_date=_day(event["date"], zone), amount=paid)
            )
    return sorted((each for each in found if begin <= each.ex_date <= end), key=lambda each: each.ex_date)


def _chart(
    data: YahooData, instrument: Listed, interval: str, begin: int, end: int, *, events: bool = False
) -> dict[str, Any]:
    params = {"period1": begin, "period2": end, "interval": interval, "includePrePost": "true"}
    if events:
        params["events"] = "div,splits"
    symbol = yahoo_symbol(instrument)
    answer = data.json(f"{HOST}/v8/finance/chart/{symbol}", params)
    chart = answer.get("chart") if isinstance(answer, dict) else None
    if not isinstance(chart, dict):
        raise ProviderDown("Yahoo's answer has no chart: try again later")
    if chart.get("error"):
        reason = str(chart["error"].get("description"))[:200] if isinstance(chart["error"], dict) else "no reason"
        raise Unsupported(f"Yahoo has no {interval} chart of {symbol}: {reason}")
    results = chart.get("result")
    if not isinstance(results, list) or not results or not isinstance(results[0], dict):
        raise ProviderDown(f"Yahoo's chart of {symbol} is empty: try again later")
    result: dict[str, Any] = results[0]
    return result


def _bars(
    chart: dict[str, Any], instrument: Listed, interval: str, splits: list[tuple[int, Fraction]]
) -> Iterator[Bar]:
    zone, factor = _zone(chart), _factor(chart, instrument)
    quotes = (chart.get("indicators") or {}).get("quote") or [{}]
    columns = [quotes[0].get(name) or [] for name in (*_COLUMNS, "volume")]
    for at, *prices, volume in zip(chart.get("timestamp") or [], *columns, strict=False):
        values = [shortest(price) for price in prices]
        # the last row may be the trade of this moment, which is no bar: its time is that of the trade
        if interval != "1d" and at % _SECONDS[interval]:
            continue
        if any(value is None or value <= 0 for value in values):
            continue  # Yahoo leaves minutes without trades empty
        ratio = _after(splits, at)
        opened, high, low, close = (_times(value * factor, ratio) for value in values if value is not None)
        if not low <= min(opened, close) <= max(opened, close) <= high:
            log.warning("bar left out", provider="yahoo", symbol=instrument.symbol, reason="its low or high is wrong")
            continue
        traded = decimal_of(volume) or Decimal(0)
        start = datetime.combine(_day(at, zone), time(), UTC) if interval == "1d" else datetime.fromtimestamp(at, UTC)
        yield Bar(
            instrument.symbol, interval, start, opened, high, low, close, _times(traded, 1 / ratio), "yahoo"
        )  # fmt: skip


def _factor(chart: dict[str, Any], instrument: Listed) -> Decimal:
    currency, factor = in_currency((chart.get("meta") or {}).get("currency"))
    if currency != instrument.currency:
        raise ProviderError(
            f"Yahoo has {instrument.symbol} in {currency or 'no currency'}, and the instrument is in "
            f"{instrument.currency}: correct the instrument's market or currency"
        )
    return factor


def _zone(chart: dict[str, Any]) -> ZoneInfo:
    name = str((chart.get("meta") or {}).get("exchangeTimezoneName") or "UTC")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def _events(chart: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    events = (chart.get("events") or {}).get(kind) or {}
    return [event for event in events.values() if isinstance(event, dict) and isinstance(event.get("date"), int)]


def _splits(chart: dict[str, Any]) -> list[tuple[int, Fraction]]:
    """The splits: time and new shares for each old one."""
    splits = []
    for event in _events(chart, "splits"):
        new, old = positive(event.get("numerator")), positive(event.get("denominator"))
        if new is not None and old is not None:
            splits.append((event["date"], Fraction(new) / Fraction(old)))
    return splits


def _after(splits: list[tuple[int, Fraction]], at: int) -> Fraction:
    """The shares of today that one share at that time has become."""
    ratio = Fraction(1)
    for split_at, each in splits:
        if split_at > at:
            ratio *= each
    return ratio


def _times(value: Decimal, ratio: Fraction) -> Decimal:
    if ratio == 1:
        return value
    return (value * ratio.numerator / ratio.denominator).quantize(_PLACES).normalize() + Decimal(0)


def _day(at: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(at, zone).date()
