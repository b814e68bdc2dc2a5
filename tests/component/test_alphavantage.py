"""The provider alphavantage against a local server that answers as Alpha Vantage does, and misbehaves."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.marketdata.providers import bounded_session
from services.marketdata.providers.alphavantage import AlphaVantage
from services.marketdata.providers.provider import (
    FoundAction,
    KeyRefused,
    ProviderDown,
    ProviderError,
    Throttled,
    Unsupported,
)
from services.marketdata.providers.settings import AlphaVantageSettings
from shared.resilience.rate_limits import Rate
from tests.component.provider_server import BRK, BTC, EUR, SPY, VOD, bar_of
from tests.servers import provider_alphavantage as answers
from tests.servers.provider_alphavantage import KEY, AlphaVantageServer

NOW = datetime(2024, 6, 5, 15, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[AlphaVantageServer]:
    server = AlphaVantageServer()
    yield server
    server.close()


def provider(server: AlphaVantageServer, **settings: Any) -> AlphaVantage:
    return AlphaVantage(AlphaVantageSettings(**{"key": KEY, "url": server.url, **settings}))


@pytest.fixture
def alphavantage(server: AlphaVantageServer) -> Iterator[AlphaVantage]:
    made = provider(server)
    yield made
    made.close()


def test_a_share_has_the_price_of_the_close(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    """A quote that names its day only is of that day's close, and delayed."""
    server.answers["GLOBAL_QUOTE BRK-B"] = answers.global_quote("BRK-B", "411.2300", "2024-06-04")
    (quote,) = alphavantage.quotes([BRK], NOW)
    assert (quote.symbol, quote.last, quote.bid, quote.delayed) == ("BRK.B", Decimal("411.2300"), None, True)
    assert quote.quoted_at == datetime(2024, 6, 4, 20, tzinfo=UTC)


def test_a_price_of_a_session_is_as_old_as_the_key_may_see(server: AlphaVantageServer) -> None:
    server.answers["GLOBAL_QUOTE SPY"] = answers.global_quote("SPY", "530.1", "2024-06-05")
    realtime = provider(server, entitlement="realtime")
    (quote,) = realtime.quotes([SPY], NOW)
    assert (quote.quoted_at, quote.delayed) == (NOW, False)
    (late,) = provider(server, entitlement="delayed").quotes([SPY], NOW)
    assert (late.quoted_at, late.delayed) == (datetime(2024, 6, 5, 14, 45, tzinfo=UTC), True)
    assert server.asked[-1].query["entitlement"] == "delayed"


def test_pairs_and_coins_have_their_sides_and_times(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    """A side that is a hyphen is missing."""
    at = "2024-06-05 14:59:01"
    server.answers["CURRENCY_EXCHANGE_RATE EUR"] = answers.exchange_rate("EUR", "USD", "1.0884", at, "1.0883", "1.0885")
    server.answers["CURRENCY_EXCHANGE_RATE BTC"] = answers.exchange_rate("BTC", "USD", "71000.5", at)
    eur, btc = alphavantage.quotes([EUR, BTC], NOW)
    assert (eur.bid, eur.last, eur.ask) == (Decimal("1.0883"), Decimal("1.0884"), Decimal("1.0885"))
    assert (btc.bid, btc.last, btc.quoted_at) == (None, Decimal("71000.5"), datetime(2024, 6, 5, 14, 59, 1, tzinfo=UTC))


def test_an_unknown_symbol_is_left_out(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    server.answers["GLOBAL_QUOTE SPY"] = answers.global_quote("SPY", "530.1", "2024-06-04")
    with capture_logs() as logs:
        quotes = alphavantage.quotes([BRK, SPY], NOW)
    assert ([quote.symbol for quote in quotes], [line["symbol"] for line in logs]) == (["SPY"], ["BRK.B"])


@pytest.mark.parametrize(
    ("body", "error", "seconds", "words"),
    [
        ({"Information": answers.DAILY_LIMIT}, Throttled, 3600, "this day"),
        ({"Information": answers.BURST_LIMIT}, Throttled, 2, "this second"),
        ({"Note": answers.MINUTE_LIMIT}, Throttled, 60, "this minute"),
        ({"Note": "something new"}, Throttled, 60, "REQUESTS_PER_DAY"),
        ({"Information": answers.PREMIUM}, KeyRefused, None, "premium key"),
        ({"Error Message": answers.BAD_KEY}, KeyRefused, None, "check PAPERPROFIT_ALPHAVANTAGE_KEY"),
        ({"Error Message": "Invalid API call."}, ProviderError, None, "check that it has it"),
    ],
)
def test_refusals_come_with_status_200(
    server: AlphaVantageServer,
    alphavantage: AlphaVantage,
    body: object,
    error: type[Exception],
    seconds: Any,
    words: str,
) -> None:
    """No error repeats the key, which Alpha Vantage's text does."""
    server.misbehave("status", status=200, body=body)
    with pytest.raises(error, match=words) as refused:
        alphavantage.quotes([SPY], NOW)
    assert getattr(refused.value, "retry_after", None) == seconds
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "how", "error"),
    [
        ("html", {}, ProviderDown),
        ("half", {}, ProviderDown),
        ("empty", {}, ProviderDown),
        ("slow", {}, ProviderDown),
        ("status", {"status": 200, "body": []}, ProviderDown),
        ("status", {"status": 404, "body": {}}, ProviderDown),
        ("status", {"status": 500}, ProviderDown),
        ("status", {"status": 401}, KeyRefused),
        ("status", {"status": 403}, KeyRefused),
        ("status", {"status": 429, "headers": {"Retry-After": "7"}}, Throttled),
    ],
)
def test_a_bad_answer_names_no_key(
    server: AlphaVantageServer,
    alphavantage: AlphaVantage,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    how: dict[str, Any],
    error: type[Exception],
) -> None:
    """The key is in each URL, so neither the error nor its causes may show one."""
    monkeypatch.setattr(bounded_session, "REQUEST_SECONDS", 0.5)
    server.answers["GLOBAL_QUOTE SPY"] = answers.global_quote("SPY", "530.1", "2024-06-04")
    server.misbehave(kind, **how)
    with pytest.raises(error) as refused:
        alphavantage.quotes([SPY], NOW)
    assert KEY not in f"{refused.value!r} {refused.value.__cause__!r}"
    server.behave()
    assert len(alphavantage.quotes([SPY], NOW)) == 1


def test_no_server_is_an_outage(server: AlphaVantageServer) -> None:
    down = provider(server, url="http://127.0.0.1:9")
    with pytest.raises(ProviderDown, match="check the connection to the internet") as refused:
        down.quotes([SPY], NOW)
    assert KEY not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_without_a_key_nothing_is_asked(server: AlphaVantageServer) -> None:
    with pytest.raises(KeyRefused, match="set PAPERPROFIT_ALPHAVANTAGE_KEY"):
        provider(server, key="").quotes([SPY], NOW)
    assert server.asked == []


def test_limits_are_those_of_the_key(server: AlphaVantageServer) -> None:
    traits = provider(server, requests_per_day=500, requests_per_minute=75).traits
    assert (traits.daily, traits.rate, traits.batch) == (500, Rate(1, timedelta(seconds=0.8)), 1)


def test_daily_bars(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    """One that cannot be read, and those outside the range, are left out."""
    rows = {
        "2024-06-05": ("2", "3", "1", "2.5", "100"),
        "2024-06-04": ("2", "1", "3", "2.5", "100"),
        "2024-06-03": ("1", "2", "0.5", "1.5", "300"),
        "2024-05-31": ("1", "1", "1", "1", "1"),
    }
    server.answers["TIME_SERIES_DAILY SPY"] = answers.daily("SPY", rows)
    (page,) = alphavantage.bars(SPY, "1d", datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 7, tzinfo=UTC))
    assert [(bar.start.day, str(bar.volume)) for bar in page] == [(3, "300"), (5, "100")]


def test_minutes_are_in_the_time_of_new_york(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    rows = {"2024-06-03 09:30:00": ("1", "2", "0.5", "1.5", "300")}
    server.answers["TIME_SERIES_INTRADAY SPY"] = answers.daily("SPY", rows, "Time Series (1min)")
    begin, end = datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 4, tzinfo=UTC)
    (page,) = alphavantage.bars(SPY, "1m", begin, end)
    start = datetime(2024, 6, 3, 13, 30, tzinfo=UTC)
    assert page == [bar_of("SPY", "1m", start, "1 2 0.5 1.5 300", "alphavantage")]
    assert server.asked[-1].query["month"] == "2024-06"


def test_a_market_that_it_does_not_have_is_refused(alphavantage: AlphaVantage) -> None:
    with pytest.raises(Unsupported, match="XLON"):
        alphavantage.quotes([VOD], NOW)


def test_splits_and_dividends(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    server.answers["SPLITS SPY"] = {
        "symbol": "SPY", "data": [{"effective_date": "2024-06-10", "split_factor": "1.5000"}]
    }  # fmt: skip
    server.answers["DIVIDENDS SPY"] = {
        "symbol": "SPY",
        "data": [
            {"ex_dividend_date": "2024-05-10", "declaration_date": "None", "record_date": "None",
             "payment_date": "2024-05-17", "amount": "0.24"},
            {"ex_dividend_date": "1999-05-10", "payment_date": "None", "amount": "0.1"},
        ],
    }  # fmt: skip
    assert alphavantage.actions(SPY, date(2024, 1, 1), date(2024, 12, 31)) == [
        FoundAction(
            symbol="SPY", kind="dividend", ex_date=date(2024, 5, 10), amount=Decimal("0.24"),
            pay_date=date(2024, 5, 17),
        ),
        FoundAction(symbol="SPY", kind="split", ex_date=date(2024, 6, 10), new_shares=3, old_shares=2),
    ]  # fmt: skip


def test_search(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    match = {"1. symbol": "SHOP.TRT", "2. name": "Shopify Inc", "3. type": "Equity", "4. region": "Toronto",
             "8. currency": "CAD", "9. matchScore": "0.8"}  # fmt: skip
    server.answers["SYMBOL_SEARCH shop"] = {"bestMatches": [match]}
    (found,) = alphavantage.search("shop", 5)
    assert (found.symbol, found.market, found.currency) == ("SHOP", "XTSE", "CAD")


def test_a_pair_cannot_be_looked_up(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    """Its search knows shares only, and is not asked."""
    match = {"1. symbol": "BRK-B", "2. name": "Berkshire", "4. region": "United States", "8. currency": "USD"}
    server.answers["SYMBOL_SEARCH BRK.B"] = {"bestMatches": [match]}
    found = alphavantage.lookup(BRK)
    assert found is not None
    assert (found.symbol, found.currency) == ("BRK.B", "USD")
    with pytest.raises(Unsupported, match="EUR/USD is a pair"):
        alphavantage.lookup(EUR)


def test_news_has_the_score_of_the_provider(server: AlphaVantageServer, alphavantage: AlphaVantage) -> None:
    article = {
        "title": "Berkshire buys", "url": "https://x/1", "time_published": "20240605T120000", "source": "Wire",
        "summary": "It buys.", "overall_sentiment_score": 0.23,
        "ticker_sentiment": [{"ticker": "BRK-B", "relevance_score": "0.9", "ticker_sentiment_score": "0.3"}],
    }  # fmt: skip
    server.answers["NEWS_SENTIMENT BRK-B"] = {"items": "1", "feed": [article, {**article, "url": "https://x/2",
                                              "time_published": "bad"}]}  # fmt: skip
    (headline,) = alphavantage.news([BRK], datetime(2024, 6, 5, tzinfo=UTC))
    assert (headline.symbols, headline.score) == (("BRK.B",), 0.23)
