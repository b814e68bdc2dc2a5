"""Alpaca's answers as ours: times, corporate actions, assets and news."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from services.marketdata.providers.numbers import positive
from services.marketdata.providers.provider import Found, FoundAction, Headline, Unsupported
from shared.contracts.instruments import AssetClass

#: The time that one request covers. alpaca-py gathers all of it in memory.
_PAGES: Mapping[str, timedelta] = {
    "1m": timedelta(days=7),
    "5m": timedelta(days=30),
    "15m": timedelta(days=90),
    "1h": timedelta(days=365),
    "1d": timedelta(days=3650),
}
#: The sessions of Alpaca's exchanges.
_MARKETS: Mapping[str, str] = {
    "NASDAQ": "XNAS",
    **dict.fromkeys(("NYSE", "ARCA", "AMEX", "BATS"), "XNYS"),
    "CRYPTO": "24/7",
}
_HALF_A_DAY = timedelta(hours=12)


def pages(interval: str, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The parts of the time that are asked for one after the other."""
    if interval not in _PAGES:
        raise Unsupported(f"alpaca has no bars of {interval}: choose one of {', '.join(_PAGES)}")
    at = begin
    while at < end:
        until = min(at + _PAGES[interval], end)
        yield at, until
        at = until


def moment_of(written: object) -> datetime | None:
    """A time of RFC 3339. Its nanoseconds are cut to microseconds."""
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def day_of(start: datetime) -> date:
    """The day of a daily bar, which starts at midnight of New York, of Chicago, or of UTC."""
    return (start.astimezone(UTC) + _HALF_A_DAY).date()


def action_of(symbol: str, kind: str, row: Any) -> FoundAction | None:
    """A corporate action. None for one of a kind that changes no position here, and one that cannot be read."""
    day = _date(row.get("ex_date") or row.get("process_date")) if isinstance(row, dict) else None
    if day is None or symbol not in (row.get("symbol"), row.get("old_symbol")):
        return None
    if kind == "name_changes" and row.get("new_symbol"):
        return FoundAction(symbol=symbol, kind="symbol_change", ex_date=day, new_symbol=str(row["new_symbol"]))
    new, old = _shares(kind, row)
    if new is not None and old is not None:
        ratio = Fraction(new) / Fraction(old)
        return FoundAction(
            symbol=symbol, kind="split", ex_date=day, new_shares=ratio.numerator, old_shares=ratio.denominator
        )
    amount = positive(row.get("rate")) if kind == "cash_dividends" else None
    if amount is None:
        return None
    paid = _date(row.get("payable_date"))
    return FoundAction(symbol=symbol, kind="dividend", ex_date=day, amount=amount, pay_date=paid)


def _shares(kind: str, row: dict[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    """New shares for old ones, as written."""
    if kind in ("forward_splits", "reverse_splits"):
        return positive(row.get("new_rate")), positive(row.get("old_rate"))
    rate = positive(row.get("rate")) if kind == "stock_dividends" else None
    return (1 + rate, Decimal(1)) if rate is not None else (None, None)


def found_of(asset: dict[str, Any]) -> Found:
    symbol = str(asset.get("symbol"))
    crypto = asset.get("class") == "crypto"
    currency = symbol.partition("/")[2] if crypto else "USD"
    name = str(asset.get("name") or symbol)[:200]
    asset_class = AssetClass.CRYPTO if crypto else AssetClass.US_EQUITY
    exchange = str(asset.get("exchange") or "")[:40] or None
    return Found(symbol, name, _MARKETS.get(exchange or ""), currency, asset_class, exchange)


def headline_of(row: Any, tickers: Mapping[str, str]) -> Headline | None:
    at = moment_of(row.get("created_at")) if isinstance(row, dict) else None
    if at is None or not row.get("headline") or not row.get("url"):
        return None
    symbols = tuple(tickers[each] for each in row.get("symbols") or [] if each in tickers)
    if not symbols:
        return None
    return Headline(
        title=str(row["headline"])[:500],
        url=str(row["url"])[:2000],
        published_at=at,
        symbols=symbols,
        source=str(row.get("source") or "Alpaca")[:100],
        summary=str(row.get("summary") or "")[:2000],
    )


def _date(written: object) -> date | None:
    try:
        return date.fromisoformat(str(written))
    except ValueError:
        return None
