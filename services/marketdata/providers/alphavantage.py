"""The provider ``alphavantage``: quotes, bars, splits and dividends, search and news, with a key.

Alpha Vantage answers a request beyond the limits with status 200 and a "Note" or "Information". A free key has 25
requests a day, and its quotes of shares are those of the last close. The name of its documentation stands beside each
function that is asked: https://www.alphavantage.co/documentation/
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.day_figures import DayFigures
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.alphavantage_answers import (
    INTRADAY,
    bars_of,
    close_of,
    date_of,
    found_of,
    headline_of,
    moment_of,
    refuse,
    rows_of,
    series,
    symbol_of,
    ticker_of,
)
from services.marketdata.providers.day_quotes import DayQuotes
from services.marketdata.providers.numbers import decimal_of, positive
from services.marketdata.providers.provider import (
    Found,
    FoundAction,
    Headline,
    KeyRefused,
    Listed,
    Part,
    Provider,
    ProviderDown,
    Traits,
    Unsupported,
    name_of_key,
)
from services.marketdata.providers.settings import AlphaVantageSettings
from shared.contracts.instruments import AssetClass
from shared.resilience.rate_limits import Rate
from shared.settings import load

if TYPE_CHECKING:
    from services.marketdata.providers.bounded_session import BoundedSession

_DELAY = timedelta(minutes=15)


class AlphaVantage(Provider):
    """Alpha Vantage. The limits in its traits are those of the settings."""

    modules = ("services.marketdata.providers.bounded_session",)
    traits = Traits(
        name="alphavantage",
        parts=frozenset(Part) - {Part.STREAM},
        asset_classes=frozenset(AssetClass),
        intervals=("1m", "5m", "15m", "1h", "1d"),
        rate=Rate(1, timedelta(seconds=12)),
        daily=25,
        delayed=True,
    )

    def __init__(self, settings: AlphaVantageSettings | None = None) -> None:
        self._settings = chosen = settings or load(AlphaVantageSettings)
        # no two at once: a free key has one request a second
        rate = Rate(1, timedelta(minutes=1) / chosen.requests_per_minute)
        realtime = chosen.entitlement == "realtime"
        self.traits = replace(  # type: ignore[misc]
            type(self).traits, rate=rate, daily=chosen.requests_per_day, delayed=not realtime
        )
        self._opened: BoundedSession | None = None
        self._days = DayQuotes("alphavantage")
        self.key_name = name_of_key(chosen.key.get_secret_value())

    def quotes(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        """GLOBAL_QUOTE for a share, CURRENCY_EXCHANGE_RATE for a pair and a coin: one request each."""
        quotes = []
        for instrument in instruments:
            pair = instrument.asset_class in (AssetClass.CURRENCY_PAIR, AssetClass.CRYPTO)
            quote = self._rate(instrument, now) if pair else self._share(instrument, now)
            if quote is not None:
                quotes.append(quote)
        return quotes

    def _share(self, instrument: Listed, now: datetime) -> Quote | None:
        row = self._ask("GLOBAL_QUOTE", symbol=symbol_of(instrument), **self._entitlement()).get("Global Quote")
        if not isinstance(row, dict) or not row:
            self._days.left_out(instrument, "Alpha Vantage does not know the symbol")
            return None
        self._keep(instrument.symbol, row)
        last, day = positive(row.get("05. price")), date_of(row.get("07. latest trading day"))
        if last is None or day is None:
            self._days.left_out(instrument, "Alpha Vantage's quote has no price, or no day")
            return None
        figures = DayFigures(
            day=day,
            at=self._time_of_quote(instrument, day, now),
            last=last,
            high=positive(row.get("03. high")),
            low=positive(row.get("04. low")),
            volume=decimal_of(row.get("06. volume")),
        )
        return self._days.quote(instrument, figures, now, delayed=self.traits.delayed)

    def _time_of_quote(self, instrument: Listed, day: date, now: datetime) -> datetime:
        """The time of a quote that has a day only: the close of that day, or before it the time that the key may see.

        Without an entitlement, there is no quote of the day before its close.
        """
        return min(close_of(instrument, day), now if self._settings.entitlement == "realtime" else now - _DELAY)

    def _rate(self, instrument: Listed, now: datetime) -> Quote | None:
        base, _, quoted = instrument.symbol.partition("/")
        answer = self._ask("CURRENCY_EXCHANGE_RATE", from_currency=base, to_currency=quoted)
        row = answer.get("Realtime Currency Exchange Rate")
        if not isinstance(row, dict):
            self._days.left_out(instrument, "Alpha Vantage has no rate of the pair")
            return None
        self._keep(instrument.symbol, row)
        last = positive(row.get("5. Exchange Rate"))
        at = moment_of(row.get("6. Last Refreshed"), row.get("7. Time Zone"))
        if last is None or at is None:
            self._days.left_out(instrument, "Alpha Vantage's rate has no price, or no time")
            return None
        figures = DayFigures(day=at.date(), at=at, last=last, high=None, low=None, volume=None)
        return self._days.quote(
            instrument, figures, now, bid=positive(row.get("8. Bid Price")), ask=positive(row.get("9. Ask Price"))
        )

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
        """TIME_SERIES_DAILY as one page, TIME_SERIES_INTRADAY as one page a month. Shares only."""
        if instrument.asset_class not in (AssetClass.US_EQUITY, AssetClass.EQUITY):
            raise Unsupported("alphavantage has bars of shares only: choose another provider for pairs and coins")
        if interval != "1d" and interval not in INTRADAY:
            raise Unsupported(f"alphavantage has no bars of {interval}: choose one of 1m, 5m, 15m, 1h, 1d")
        for asked in series(instrument, interval, begin, end):
            answer = self._ask(**asked, **self._entitlement())
            page = [bar for bar in bars_of(answer, instrument, interval) if begin <= bar.start < end]
            if page:
                yield page

    def actions(self, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
        """SPLITS and DIVIDENDS. A dividend's pay-date may be missing."""
        symbol = symbol_of(instrument)
        found = []
        for row in rows_of(self._ask("SPLITS", symbol=symbol), "data"):
            day, factor = date_of(row.get("effective_date")), positive(row.get("split_factor"))
            if day is not None and factor is not None:
                new, old = factor.as_integer_ratio()
                found.append(
                    FoundAction(symbol=instrument.symbol, kind="split", ex_date=day, new_shares=new, old_shares=old)
                )
        for row in rows_of(self._ask("DIVIDENDS", symbol=symbol), "data"):
            day, amount = date_of(row.get("ex_dividend_date")), positive(row.get("amount"))
            if day is not None and amount is not None:
                paid = date_of(row.get("payment_date"))
                found.append(
                    FoundAction(symbol=instrument.symbol, kind="dividend", ex_date=day, amount=amount, pay_date=paid)
                )
        return sorted((each for each in found if begin <= each.ex_date <= end), key=lambda each: each.ex_date)

    def search(self, words: str, limit: int) -> list[Found]:
        """SYMBOL_SEARCH. London's results, whose currency is GBX, name no market that is asked for quotes here."""
        return [found_of(row) for row in rows_of(self._ask("SYMBOL_SEARCH", keywords=words), "bestMatches")[:limit]]

    def lookup(self, instrument: Listed) -> Found | None:
        if instrument.asset_class not in (AssetClass.US_EQUITY, AssetClass.EQUITY):
            raise Unsupported(f"alphavantage searches for shares only, and {instrument.symbol} is a pair")
        return super().lookup(instrument)

    def news(self, instruments: Sequence[Listed], since: datetime) -> list[Headline]:
        """NEWS_SENTIMENT. The score is the article's, from -1 to 1."""
        tickers = {ticker_of(instrument): instrument.symbol for instrument in instruments}
        asked = {"time_from": since.astimezone(UTC).strftime("%Y%m%dT%H%M"), "sort": "LATEST", "limit": "200"}
        headlines: dict[str, Headline] = {}
        for ticker in tickers:  # several in one request would ask for articles about all of them
            for row in rows_of(self._ask("NEWS_SENTIMENT", tickers=ticker, **asked), "feed"):
                headline = headline_of(row, tickers)
                if headline is not None and headline.published_at >= since:
                    headlines.setdefault(headline.url, headline)
        return sorted(headlines.values(), key=lambda headline: headline.published_at, reverse=True)

    def _entitlement(self) -> dict[str, str]:
        chosen = self._settings.entitlement
        return {} if chosen == "none" else {"entitlement": chosen}

    def _ask(self, function: str, **asked: str) -> dict[str, Any]:
        """The JSON object of the answer. Raises for the refusals that come with status 200."""
        key = self._settings.key.get_secret_value()
        if not key:
            raise KeyRefused(
                "Alpha Vantage needs a key: get one from alphavantage.co and set PAPERPROFIT_ALPHAVANTAGE_KEY"
            )
        response = self._session.get(
            f"{self._settings.url}/query", params={"function": function, **asked, "apikey": key}
        )
        if response.status_code in (401, 403):
            raise KeyRefused("Alpha Vantage refuses the key: check PAPERPROFIT_ALPHAVANTAGE_KEY")
        try:
            answer = response.json()
        except ValueError:
            raise ProviderDown("Alpha Vantage's answer cannot be read: try again later") from None
        if response.status_code != 200 or not isinstance(answer, dict):
            raise ProviderDown(f"Alpha Vantage answered with status {response.status_code}: try again later")
        refuse(answer, function)
        return answer

    @property
    def _session(self) -> "BoundedSession":
        if self._opened is None:
            from services.marketdata.providers.bounded_session import BoundedSession

            self._opened = BoundedSession("Alpha Vantage")
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
