"""The provider ``alpaca``: quotes, bars, a stream, corporate actions, search and news, with the user's own key.

It goes through alpaca-py. The free plan has 200 requests a minute, and the trades and quotes of IEX, one exchange of
many: its volumes are a small part of all trading.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.day_figures import DayFigures
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.alpaca_answers import action_of, day_of, found_of, headline_of, moment_of, pages
from services.marketdata.providers.day_quotes import DayQuotes
from services.marketdata.providers.numbers import decimal_of, positive
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
    Unsupported,
    name_of_key,
    same_market,
)
from services.marketdata.providers.settings import AlpacaSettings
from shared.clock import utc_now
from shared.contracts.instruments import AssetClass
from shared.resilience.rate_limits import Rate
from shared.settings import load

if TYPE_CHECKING:
    from services.marketdata.providers.alpaca_client import AlpacaClients

CLASSES = frozenset({AssetClass.US_EQUITY, AssetClass.CRYPTO})
MOST_HEADLINES = 200


class Alpaca(Provider):
    """Alpaca. alpaca-py, which is large, is imported by the service that asks Alpaca, and by nothing else."""

    modules = ("services.marketdata.providers.alpaca_client", "services.marketdata.providers.alpaca_stream")
    traits = Traits(
        name="alpaca",
        parts=frozenset(Part),
        asset_classes=CLASSES,
        intervals=("1m", "5m", "15m", "1h", "1d"),
        currencies=frozenset({"USD"}),
        rate=Rate(200, timedelta(minutes=1)),
        batch=200,
        news_batch=50,
        lookup_batch=2000,
        parallel=4,
    )

    def __init__(self, settings: AlpacaSettings | None = None) -> None:
        self._settings = chosen = settings or load(AlpacaSettings)
        rate = Rate(chosen.requests_per_minute, timedelta(minutes=1))
        self.traits = replace(  # type: ignore[misc]
            type(self).traits, rate=rate, delayed=chosen.feed == "delayed_sip"
        )
        self._opened: AlpacaClients | None = None
        self._days = DayQuotes("alpaca")
        self.key_name = name_of_key(chosen.key.get_secret_value())
        self._assets: list[dict[str, Any]] = []
        self._assets_of: date | None = None

    @property
    def _clients(self) -> "AlpacaClients":
        if self._opened is None:
            from services.marketdata.providers.alpaca_client import AlpacaClients

            chosen = self._settings
            self._opened = AlpacaClients(
                chosen.key.get_secret_value(),
                chosen.secret.get_secret_value(),
                url=chosen.url,
                trading_url=chosen.trading_url,
                paper=chosen.paper,
            )
        return self._opened

    def quotes(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        """The snapshots: newest trade and quote, and the day's figures. One request a class."""
        quotes = []
        for asset_class in sorted(CLASSES):
            known = {each.symbol: each for each in instruments if each.asset_class is asset_class}
            for symbol, snapshot in self._snapshots(asset_class, list(known)).items():
                if symbol in known and (quote := self._quote(known[symbol], snapshot, now)) is not None:
                    quotes.append(quote)
        return quotes

    def _snapshots(self, asset_class: AssetClass, symbols: list[str]) -> dict[str, Any]:
        """The snapshots. A request that names a malformed symbol is refused as a whole, and made again without it."""
        from services.marketdata.providers.alpaca_client import BadSymbol

        if not symbols:
            return {}
        try:
            answer = self._ask(lambda: self._snapshot(asset_class, symbols))
        except BadSymbol as error:
            rest = [symbol for symbol in symbols if symbol not in error.said]
            if len(rest) == len(symbols):
                raise
            return self._snapshots(asset_class, rest)
        if not isinstance(answer, dict):
            raise ProviderDown("Alpaca's answer has no snapshots: try again later")
        return answer

    def _snapshot(self, asset_class: AssetClass, symbols: list[str]) -> Any:
        from alpaca.data.enums import DataFeed
        from alpaca.data.requests import CryptoSnapshotRequest, StockSnapshotRequest

        if asset_class is AssetClass.CRYPTO:
            return self._clients.crypto.get_crypto_snapshot(CryptoSnapshotRequest(symbol_or_symbols=symbols))
        feed = DataFeed(self._settings.feed)
        return self._clients.stocks.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols=symbols, feed=feed))

    def _quote(self, instrument: Listed, snapshot: Any, now: datetime) -> Quote | None:
        if not isinstance(snapshot, dict):
            self._days.left_out(instrument, "Alpaca has no snapshot of the symbol")
            return None
        self._keep(instrument.symbol, snapshot)
        trade, quote, day = (snapshot.get(name) or {} for name in ("latestTrade", "latestQuote", "dailyBar"))
        last, at = positive(trade.get("p")), moment_of(trade.get("t"))
        if last is None or at is None:
            self._days.left_out(instrument, "Alpaca's snapshot has no trade")
            return None
        at = max(at, moment_of(quote.get("t")) or at)
        figures = DayFigures(
            day=day_of(moment_of(day.get("t")) or at),
            at=at,
            last=last,
            high=positive(day.get("h")),
            low=positive(day.get("l")),
            volume=decimal_of(day.get("v")),
        )
        return self._days.quote(
            instrument,
            figures,
            now,
            bid=positive(quote.get("bp")),
            ask=positive(quote.get("ap")),
            bid_size=positive(quote.get("bs")),
            ask_size=positive(quote.get("as")),
            currency="USD",
            delayed=self.traits.delayed,
        )

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
        """The bars, a page for each request. Alpaca's end is inclusive, ours is not."""
        if instrument.asset_class not in CLASSES:
            raise Unsupported(f"alpaca has no bars of {instrument.symbol}: choose another provider for it")
        for page_begin, page_end in pages(interval, begin, end):
            rows = self._bar_rows(instrument, interval, page_begin, page_end)
            page = [
                bar for row in rows if (bar := _bar(instrument, interval, row)) and page_begin <= bar.start < page_end
            ]
            if page:
                yield sorted(page, key=lambda bar: bar.start)

    def _bar_rows(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> list[Any]:
        from alpaca.data.enums import Adjustment, DataFeed
        from alpaca.data.requests import CryptoBarsRequest, StockBarsRequest
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        unit = {"m": TimeFrameUnit.Minute, "h": TimeFrameUnit.Hour, "d": TimeFrameUnit.Day}[interval[-1]]
        asked = {
            "symbol_or_symbols": instrument.symbol,
            "timeframe": TimeFrame(int(interval[:-1]), unit),
            "start": begin,
            "end": end,
        }
        if instrument.asset_class is AssetClass.CRYPTO:
            answer = self._ask(lambda: self._clients.crypto.get_crypto_bars(CryptoBarsRequest(**asked)))
        else:
            feed = DataFeed(self._settings.feed)
            request = StockBarsRequest(**asked, adjustment=Adjustment.RAW, feed=feed)
            answer = self._ask(lambda: self._clients.stocks.get_stock_bars(request))
        rows = answer.get(instrument.symbol) if isinstance(answer, dict) else None
        return rows if isinstance(rows, list) else []

    def actions(self, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
        """Splits, stock dividends as splits, cash dividends and new symbols."""
        from alpaca.data.requests import CorporateActionsRequest

        request = CorporateActionsRequest(symbols=[instrument.symbol], start=begin, end=end, limit=None)
        answer = self._ask(lambda: self._clients.actions.get_corporate_actions(request))
        rows = [(kind, row) for kind, rows in answer.items() if isinstance(rows, list) for row in rows]
        found = [action for kind, row in rows if (action := action_of(instrument.symbol, kind, row))]
        return sorted((each for each in found if begin <= each.ex_date <= end), key=lambda each: each.ex_date)

    def search(self, words: str, limit: int) -> list[Found]:
        """The assets by symbol, then by name."""
        sought = words.casefold()
        ranked = [
            (symbol != sought, not symbol.startswith(sought), symbol, asset)
            for asset in self._all_assets()
            if sought in (symbol := str(asset.get("symbol")).casefold()) or sought in str(asset.get("name")).casefold()
        ]
        return [found_of(asset) for *_, asset in sorted(ranked, key=lambda each: each[:3])[:limit]]

    def lookups(self, instruments: Sequence[Listed]) -> list[Found]:
        symbols = {each.symbol: each.market for each in instruments}
        found = [found_of(asset) for asset in self._all_assets() if asset.get("symbol") in symbols]
        return [each for each in found if same_market(each.market, symbols[each.symbol])]

    def _all_assets(self) -> list[dict[str, Any]]:
        """The list of all assets, which is long, and read once a day."""
        today = utc_now().date()
        if not self._assets or self._assets_of != today:
            answer = self._ask(self._clients.trading.get_all_assets)
            if not isinstance(answer, list):
                raise ProviderDown("Alpaca's answer has no assets: try again later")
            self._assets = [each for each in answer if isinstance(each, dict) and each.get("status") == "active"]
            self._assets_of = today
        return self._assets

    def news(self, instruments: Sequence[Listed], since: datetime) -> list[Headline]:
        """Headlines. Alpaca writes a coin's symbol without its slash there."""
        from alpaca.data.requests import NewsRequest

        tickers = {instrument.symbol.replace("/", ""): instrument.symbol for instrument in instruments}
        request = NewsRequest(symbols=",".join(tickers), start=since, limit=MOST_HEADLINES)
        answer = self._ask(lambda: self._clients.news.get_news(request))
        headlines = [headline_of(row, tickers) for row in answer.get("news") or []]
        kept = [each for each in headlines if each is not None and each.published_at >= since]
        return sorted(kept, key=lambda headline: headline.published_at, reverse=True)

    def stream(self, instruments: Sequence[Listed]) -> Stream:
        from services.marketdata.providers.alpaca_stream import AlpacaStream

        lasts = {quote.symbol: quote.last for quote in self.quotes(instruments, utc_now())}
        return AlpacaStream(self._settings, instruments, lasts)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _ask(self, call: Callable[[], Any]) -> Any:
        from services.marketdata.providers.alpaca_client import asked

        return asked(call)


def _bar(instrument: Listed, interval: str, row: Any) -> Bar | None:
    """A row as a bar. None where it has no time or prices, or its low or high is wrong."""
    start = moment_of(row.get("t")) if isinstance(row, dict) else None
    prices = [positive(row.get(name)) for name in "ohlc"] if start is not None else []
    if start is None or None in prices:
        return None
    opened, high, low, close = (price for price in prices if price is not None)
    if not low <= min(opened, close) <= max(opened, close) <= high:
        return None
    if interval == "1d":
        start = datetime.combine(day_of(start), time(), UTC)
    volume = decimal_of(row.get("v")) or Decimal(0)
    return Bar(instrument.symbol, interval, start, opened, high, low, close, volume, "alpaca")
