"""The provider ``yahoo``: quotes, bars, splits and dividends, search, news and a stream, without a key.

It goes through yfinance, which knows Yahoo's cookies and crumbs. Yahoo documents no limits, so the ones here are
cautious. Quotes of some exchanges are delayed, and each says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.day_figures import DayFigures
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.day_quotes import DayQuotes
from services.marketdata.providers.numbers import decimal_of, positive, time_of
from services.marketdata.providers.provider import (
    Found,
    FoundAction,
    Headline,
    Listed,
    Part,
    Provider,
    ProviderDown,
    Stream,
    Traits,
)
from services.marketdata.providers.settings import YahooSettings
from services.marketdata.providers.yahoo_symbols import in_currency, our_symbol, yahoo_symbol
from shared.contracts.instruments import AssetClass
from shared.resilience.rate_limits import Rate
from shared.settings import load

if TYPE_CHECKING:
    from services.marketdata.providers.yahoo_session import YahooData

HOST = "https://query1.finance.yahoo.com"
MOST_HEADLINES = 20


class Yahoo(Provider):
    """Yahoo Finance. yfinance, which is large, is imported by the service that asks Yahoo, and by nothing else."""

    modules = ("services.marketdata.providers.yahoo_session", "services.marketdata.providers.yahoo_charts")
    traits = Traits(
        name="yahoo",
        parts=frozenset(Part),
        asset_classes=frozenset(AssetClass),
        intervals=("1m", "5m", "15m", "1h", "1d"),
        rate=Rate(60, timedelta(minutes=1)),
        batch=200,
        lookup_batch=200,
        parallel=4,
    )

    def __init__(self, settings: YahooSettings | None = None) -> None:
        self._settings = settings or load(YahooSettings)
        self._opened: YahooData | None = None
        self._days = DayQuotes(self.traits.name)

    @property
    def _data(self) -> "YahooData":
        if self._opened is None:
            from services.marketdata.providers.yahoo_session import YahooData

            self._opened = YahooData(self._settings.url)
        return self._opened

    def quotes(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        asked = {yahoo_symbol(instrument): instrument for instrument in instruments}
        results = self._results(list(asked))
        quotes = []
        for row in results:
            symbol = row.get("symbol")
            # a pair of dollars also goes by its second currency
            instrument = asked.get(str(symbol)) or asked.get(f"USD{symbol}")
            if instrument is not None and (quote := self._quote(instrument, row, now)) is not None:
                quotes.append(quote)
        return quotes

    def _results(self, symbols: list[str]) -> list[dict[str, Any]]:
        """The results of ``/v7/finance/quote``, one request for all symbols."""
        if not symbols:
            return []
        params = {"symbols": ",".join(symbols), "formatted": "false"}
        answer = self._data.json(f"{HOST}/v7/finance/quote", params)
        results = _part(answer, "quoteResponse").get("result")
        if not isinstance(results, list):
            raise ProviderDown("Yahoo's answer has no quotes: try again later")
        return [row for row in results if isinstance(row, dict)]

    def _quote(self, instrument: Listed, row: dict[str, Any], now: datetime) -> Quote | None:
        self._keep(instrument.symbol, row)
        currency, factor = in_currency(row.get("currency"))
        session, at, last = _newest(row)
        if at is None or last is None:
            self._days.left_out(instrument, "Yahoo's quote has no price, or no time")
            return None
        regular = session == "regular"
        figures = DayFigures(
            day=at.date(),
            at=at,
            last=last * factor,
            high=_scaled(row.get("regularMarketDayHigh"), factor) if regular else None,
            low=_scaled(row.get("regularMarketDayLow"), factor) if regular else None,
            volume=decimal_of(row.get("regularMarketVolume")) if regular else None,
        )
        # Yahoo counts sizes in lots, and does not say how large they are
        return self._days.quote(
            instrument,
            figures,
            now,
            bid=_scaled(row.get("bid"), factor),
            ask=_scaled(row.get("ask"), factor),
            currency=currency or "none",
            delayed=positive(row.get("exchangeDataDelayedBy")) is not None,
        )

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
        from services.marketdata.providers.yahoo_charts import bars

        return bars(self._data, instrument, interval, begin, end)

    def actions(self, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
        from services.marketdata.providers.yahoo_charts import actions

        return actions(self._data, instrument, begin, end)

    def search(self, words: str, limit: int) -> list[Found]:
        """Search, and ask for quotes of what was found, since only they have the currency."""
        answer = self._search(words, quotes=limit, news=0)
        found = [row for row in answer.get("quotes") or [] if isinstance(row, dict) and row.get("isYahooFinance", True)]
        symbols = [row["symbol"] for row in found if isinstance(row.get("symbol"), str)][:limit]
        quoted = {row.get("symbol"): row for row in self._results(symbols)}
        return [self._found(symbol, quoted[symbol]) for symbol in symbols if symbol in quoted]

    def _found(self, symbol: str, row: dict[str, Any]) -> Found:
        ours, market, asset_class = our_symbol(symbol, str(row.get("exchange")), str(row.get("quoteType")))
        name = str(row.get("longName") or row.get("shortName") or ours)
        currency, _ = in_currency(row.get("currency"))
        exchange = str(row.get("fullExchangeName") or row.get("exchange") or "")[:40] or None
        return Found(ours, name[:200], market, currency or None, asset_class, exchange)

    def lookup(self, instrument: Listed) -> Found | None:
        return next(iter(self.lookups([instrument])), None)

    def lookups(self, instruments: Sequence[Listed]) -> list[Found]:
        """Ask for the quotes under Yahoo's own names of the symbols."""
        asked = {instrument: yahoo_symbol(instrument) for instrument in instruments}
        rows = {str(row.get("symbol")): row for row in self._results(list(dict.fromkeys(asked.values())))}
        found = []
        for instrument, theirs in asked.items():
            # a pair of dollars also goes by its second currency
            row = rows.get(theirs) or (rows.get(theirs.removeprefix("USD")) if theirs.endswith("=X") else None)
            result = None if row is None else self._found(str(row["symbol"]), row)
            if result is not None and result.asset_class is not None:
                found.append(replace(result, symbol=instrument.symbol))
        return found

    def news(self, instruments: Sequence[Listed], since: datetime) -> list[Headline]:
        asked = {yahoo_symbol(instrument): instrument.symbol for instrument in instruments}
        headlines: dict[str, Headline] = {}
        for theirs in asked:
            for row in self._search(theirs, quotes=0, news=MOST_HEADLINES).get("news") or []:
                headline = _headline(row, asked)
                if headline is not None and headline.published_at >= since:
                    headlines.setdefault(headline.url, headline)
        return sorted(headlines.values(), key=lambda headline: headline.published_at, reverse=True)

    def _search(self, words: str, *, quotes: int, news: int) -> dict[str, Any]:
        params = {"q": words, "quotesCount": quotes, "newsCount": news, "enableFuzzyQuery": "false", "listsCount": 0}
        answer = self._data.json(f"{HOST}/v1/finance/search", params)
        if not isinstance(answer, dict):
            raise ProviderDown("Yahoo's answer has no search results: try again later")
        return answer

    def stream(self, instruments: Sequence[Listed]) -> Stream:
        from services.marketdata.providers.yahoo_stream import YahooStream

        return YahooStream(self._settings.stream_url, instruments)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _part(answer: Any, name: str) -> dict[str, Any]:
    part = answer.get(name) if isinstance(answer, dict) else None
    return part if isinstance(part, dict) else {}


def _newest(row: dict[str, Any]) -> tuple[str, datetime | None, Decimal | None]:
    """The newest trade of the regular session and those around it: its session, time and price."""
    trades = [
        (session, at, price)
        for session in ("regular", "pre", "post")
        if (at := time_of(row.get(f"{session}MarketTime"))) and (price := positive(row.get(f"{session}MarketPrice")))
    ]
    return max(trades, key=lambda trade: trade[1]) if trades else ("", None, None)


def _scaled(value: object, factor: Decimal) -> Decimal | None:
    number = positive(value)
    return None if number is None else number * factor


def _headline(row: Any, asked: dict[str, str]) -> Headline | None:
    """A piece of news as a headline about the symbols that were asked for."""
    at = time_of(row.get("providerPublishTime")) if isinstance(row, dict) else None
    if at is None or not row.get("title") or not row.get("link"):
        return None
    tickers = row.get("relatedTickers") or []
    symbols = tuple(asked[each] for each in tickers if each in asked)
    if not symbols:
        return None
    source = str(row.get("publisher") or "Yahoo")[:100]
    return Headline(
        title=str(row["title"])[:500],
        url=str(row["link"])[:2000],
        published_at=at.astimezone(UTC),
        symbols=symbols,
        source=source,
    )
