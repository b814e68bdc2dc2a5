"""The provider yahoo: yfinance asks a local server that answers as Yahoo does, and misbehaves."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yfinance.cache  # type: ignore[import-untyped]
from structlog.testing import capture_logs

from services.marketdata.domain.quote import Quote
from services.marketdata.providers import yahoo_session
from services.marketdata.providers.provider import (
    FoundAction,
    Listed,
    ProviderDown,
    ProviderError,
    Throttled,
    Unsupported,
)
from services.marketdata.providers.settings import YahooSettings
from services.marketdata.providers.yahoo import Yahoo
from shared.contracts.instruments import AssetClass
from tests.component.provider_server import BRK, BTC, EUR, SPY, VOD, Reader, bar_of, numbers
from tests.servers.provider_http import epoch
from tests.servers.provider_streams import YahooStreamServer
from tests.servers.provider_yahoo import YahooServer, chart


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep yfinance's files in a directory of the test."""
    where: Path = tmp_path_factory.mktemp("yfinance")
    yfinance.cache.set_cache_location(str(where))


@pytest.fixture
def server() -> Iterator[YahooServer]:
    server = YahooServer()
    yield server
    server.close()


@pytest.fixture
def yahoo(server: YahooServer) -> Iterator[Yahoo]:
    yahoo = Yahoo(YahooSettings(url=server.url))
    yield yahoo
    yahoo._data.call(yahoo_session._forget)  # the next test's server gives another crumb
    yahoo.close()


def by_symbol(quotes: list[Quote]) -> dict[str, Quote]:
    return {quote.symbol: quote for quote in quotes}


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


def test_one_request_brings_the_quotes_of_all_classes(server: YahooServer, yahoo: Yahoo) -> None:
    """Prices are as written, pence become pounds, and a time is the quote's own."""
    moment = epoch(3)
    server.put("SPY", 570.13, moment, bid=570.12, ask=570.14)
    server.put("BRK-B", 455.1, moment, bid=0, ask=0)
    server.put("VOD.L", 71.26, moment, currency="GBp", bid=71.24, ask=71.28, exchange="LSE")
    server.put("BTC-USD", 63012.457, moment, quoteType="CRYPTOCURRENCY", bid=None, ask=None)
    server.put("EURUSD=X", 1.0884, moment, quoteType="CURRENCY", bid=1.0883, ask=1.0885)
    quotes = by_symbol(yahoo.quotes([SPY, BRK, VOD, BTC, EUR], datetime.now(UTC)))
    assert server.paths().count("/v7/finance/quote") == 1
    assert {symbol: (quote.bid, quote.last, quote.ask) for symbol, quote in quotes.items()} == {
        "SPY": (Decimal("570.12"), Decimal("570.13"), Decimal("570.14")),
        "BRK.B": (None, Decimal("455.1"), None),
        "VOD": (Decimal("0.7124"), Decimal("0.7126"), Decimal("0.7128")),
        "BTC/USD": (None, Decimal("63012.457"), None),
        "EUR/USD": (Decimal("1.0883"), Decimal("1.0884"), Decimal("1.0885")),
    }
    assert quotes["SPY"].quoted_at == datetime.fromtimestamp(moment, UTC)


def test_a_quote_names_its_currency_and_its_delay(server: YahooServer, yahoo: Yahoo) -> None:
    """The check of every price refuses another currency than the instrument's."""
    server.put("VOD.L", 71.26, epoch(), currency="GBp", exchangeDataDelayedBy=15)
    server.put("SPY", 570.13, epoch(), currency="EUR")
    quotes = by_symbol(yahoo.quotes([VOD, SPY], datetime.now(UTC)))
    assert [(quotes[each].currency, quotes[each].delayed) for each in ("VOD", "SPY")] == [("GBP", True), ("EUR", False)]


def test_the_newest_session_has_the_price(server: YahooServer, yahoo: Yahoo) -> None:
    """After the close, the price is that of after-hours trading."""
    server.put("SPY", 570.13, epoch(3600), marketState="POST", postMarketPrice=571.5, postMarketTime=epoch(5))
    (quote,) = yahoo.quotes([SPY], datetime.now(UTC))
    assert (quote.last, quote.volume) == numbers("571.5 0")


def test_the_bar_is_what_was_traded_since_the_quote_before(server: YahooServer, yahoo: Yahoo) -> None:
    """Yahoo gives the day's figures. The high of this bar is the day's, since it is new."""
    figures: dict[str, Any] = {"regularMarketDayHigh": 571.0, "regularMarketDayLow": 565.0}
    server.put("SPY", 570.0, epoch(60), regularMarketVolume=1000, **figures)
    yahoo.quotes([SPY], datetime.now(UTC))
    figures["regularMarketDayHigh"] = 573.0
    server.put("SPY", 571.0, epoch(2), regularMarketVolume=1700, **figures)
    (quote,) = yahoo.quotes([SPY], datetime.now(UTC))
    assert (quote.open, quote.high, quote.low, quote.close, quote.volume) == numbers("570 573 570 571 700")
    assert quote.bar_start is not None
    assert timedelta(0) < quote.quoted_at - quote.bar_start < timedelta(minutes=2)


def test_a_quote_from_the_future_is_not_remembered(server: YahooServer, yahoo: Yahoo) -> None:
    """The next bar begins at the last time that can be right."""
    server.put("SPY", 570.0, epoch(60), regularMarketVolume=1000)
    yahoo.quotes([SPY], datetime.now(UTC))
    server.put("SPY", 571.0, epoch(-3600), regularMarketVolume=1200)
    yahoo.quotes([SPY], datetime.now(UTC))
    server.put("SPY", 571.0, epoch(2), regularMarketVolume=1700)
    (quote,) = yahoo.quotes([SPY], datetime.now(UTC))
    assert (quote.open, quote.volume) == numbers("570 700")


def test_what_cannot_be_stored_is_left_out_and_the_rest_is_kept(server: YahooServer, yahoo: Yahoo) -> None:
    """An unknown symbol and a price that is no number do not spoil the batch."""
    server.put("SPY", 570.13, epoch())
    server.put("BRK-B", 1.0, epoch(), regularMarketPrice="NaN")
    gone = Listed("GONE", "XNYS", AssetClass.US_EQUITY, "USD")
    with capture_logs() as logs:
        quotes = yahoo.quotes([gone, SPY, BRK], datetime.now(UTC))
    assert [quote.symbol for quote in quotes] == ["SPY"]
    assert {line["symbol"]: line["reason"] for line in logs if line["event"] == "quote left out"} == {
        "BRK.B": "Yahoo's quote has no price, or no time",
    }


@pytest.mark.parametrize(
    ("kind", "how", "error", "words"),
    [
        ("html", {}, ProviderDown, "cannot be read"),
        ("half", {}, ProviderDown, "no answer from Yahoo"),
        ("empty", {}, ProviderDown, "cannot be read"),
        ("slow", {}, ProviderDown, "no answer from Yahoo"),
        ("status", {"status": 500}, ProviderDown, "status 500"),
        ("status", {"status": 502, "body": "<html>"}, ProviderDown, "status 502"),
        ("status", {"status": 401, "body": {"finance": {"result": None}}}, ProviderDown, "status 401"),
        ("status", {"status": 403}, ProviderDown, "status 403"),
        ("status", {"status": 404, "body": {"finance": {"result": None}}}, ProviderDown, "no quotes"),
        ("status", {"status": 429}, Throttled, "no more requests"),
        ("status", {"status": 200, "body": {"quoteResponse": {"result": None}}}, ProviderDown, "no quotes"),
        ("status", {"status": 200, "body": [1, 2]}, ProviderDown, "no quotes"),
    ],
)
def test_a_bad_answer_is_an_error_that_says_what_to_do(
    server: YahooServer,
    yahoo: Yahoo,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    how: dict[str, Any],
    error: type[ProviderError],
    words: str,
) -> None:
    """And the next good answer is taken."""
    monkeypatch.setattr(yahoo_session, "REQUEST_SECONDS", 0.5)
    server.put("SPY", 570.13, epoch())
    server.misbehave(kind, path="/v7/", **how)
    with pytest.raises(error, match=words):
        yahoo.quotes([SPY], datetime.now(UTC))
    server.behave()
    assert len(yahoo.quotes([SPY], datetime.now(UTC))) == 1


def test_a_busy_server_is_asked_once_and_its_time_is_kept(server: YahooServer, yahoo: Yahoo) -> None:
    """The answer 429 is not followed by requests for another cookie."""
    yahoo.quotes([SPY], datetime.now(UTC))
    server.asked.clear()
    server.misbehave("status", path="/v7/", status=429, headers={"Retry-After": "120"})
    with pytest.raises(Throttled) as busy:
        yahoo.quotes([SPY], datetime.now(UTC))
    paths = server.paths()  # a request of the call before may arrive late
    assert (busy.value.retry_after, paths[paths.index("/v7/finance/quote") :]) == (120, ["/v7/finance/quote"])


def test_an_old_crumb_is_renewed(server: YahooServer, yahoo: Yahoo) -> None:
    server.put("SPY", 570.13, epoch())
    yahoo.quotes([SPY], datetime.now(UTC))
    server.crumb = "new.Crumb"
    assert len(yahoo.quotes([SPY], datetime.now(UTC))) == 1


def test_a_refused_crumb_is_not_kept(server: YahooServer, yahoo: Yahoo) -> None:
    """Yfinance would send the words "Too Many Requests" as its crumb ever after."""
    server.put("SPY", 570.13, epoch())
    server.misbehave("status", path="/v1/test/getcrumb", status=429, body="Too Many Requests", times=1)
    with pytest.raises(Throttled):
        yahoo.quotes([SPY], datetime.now(UTC))
    assert len(yahoo.quotes([SPY], datetime.now(UTC))) == 1


def test_bars_are_as_they_were_traded(server: YahooServer, yahoo: Yahoo) -> None:
    """Before a split of four for one, prices are four times Yahoo's, and volumes a quarter. Floats keep 7 digits."""
    split = at(2024, 6, 10, 13, 30)
    rows = [
        (at(2024, 6, 7, 13, 30), 35.560001373291016, 36.0, 35.0, 35.5, 4000),
        (split, 142.24000549316406, 143.0, 141.0, 142.5, 1000),
        (at(2024, 6, 11, 13, 30), None, None, None, None, None),
    ]
    event = {"date": split, "numerator": 4.0, "denominator": 1.0, "splitRatio": "4:1"}
    server.charts["SPY"] = chart(rows, splits={str(split): event})
    begin, end = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
    bars = [bar for page in yahoo.bars(SPY, "1d", begin, end) for bar in page]
    assert bars == [
        bar_of("SPY", "1d", datetime(2024, 6, 7, tzinfo=UTC), "142.24 144 140 142 1000", "yahoo"),
        bar_of("SPY", "1d", datetime(2024, 6, 10, tzinfo=UTC), "142.24 143 141 142.5 1000", "yahoo"),
    ]


def test_minutes_come_in_pages_without_the_trade_of_this_moment(server: YahooServer, yahoo: Yahoo) -> None:
    """Yahoo ends its minutes with a row for the newest trade, at a time of its own."""
    first = at(2024, 6, 3, 13, 30)
    rows = [(first, 1.0, 2.0, 1.0, 2.0, 5), (first + 8 * 86_400, 2.0, 2.5, 2.0, 2.0, 6)]
    server.charts["SPY"] = chart([*rows, (first + 8 * 86_400 + 77, 9.0, 9.0, 9.0, 9.0, 0)])
    begin, end = datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 15, tzinfo=UTC)
    pages = list(yahoo.bars(SPY, "1m", begin, end))
    assert [[bar.close for bar in page] for page in pages] == [[2], [2]]


def test_bars_in_another_currency_are_refused(server: YahooServer, yahoo: Yahoo) -> None:
    server.charts["VOD.L"] = chart([(at(2024, 6, 3, 7, 0), 70.0, 71.0, 70.0, 71.0, 5)], currency="USD")
    with pytest.raises(ProviderError, match="correct the instrument's market or currency"):
        list(yahoo.bars(VOD, "1d", datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)))


def test_bars_of_an_unknown_symbol_are_refused(yahoo: Yahoo) -> None:
    with pytest.raises(Unsupported, match="may be delisted"):
        list(yahoo.bars(SPY, "1d", datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)))


def test_splits_and_dividends(server: YahooServer, yahoo: Yahoo) -> None:
    """A dividend from before a split is what a share was paid then. Its ex-date is the exchange's."""
    ex, split = at(2024, 5, 10, 13, 30), at(2024, 6, 10, 13, 30)
    server.charts["SPY"] = chart(
        [],
        splits={str(split): {"date": split, "numerator": 3.0, "denominator": 2.0, "splitRatio": "3:2"}},
        dividends={str(ex): {"date": ex, "amount": 0.5}},
    )
    assert yahoo.actions(SPY, date(2024, 5, 10), date(2024, 6, 10)) == [
        FoundAction(symbol="SPY", kind="dividend", ex_date=date(2024, 5, 10), amount=Decimal("0.75")),
        FoundAction(symbol="SPY", kind="split", ex_date=date(2024, 6, 10), new_shares=3, old_shares=2),
    ]


@pytest.mark.parametrize(
    ("instrument", "theirs", "answer", "expected"),
    [
        (SPY, "SPY", {"exchange": "PCX", "fullExchangeName": "NYSEArca"}, ("SPY", "XNYS", "NYSEArca", "USD")),
        (BRK, "BRK-B", {"fullExchangeName": "NYSE"}, ("BRK.B", "XNYS", "NYSE", "USD")),
        (VOD, "VOD.L", {"exchange": "LSE", "fullExchangeName": "L", "currency": "GBp"}, ("VOD", "XLON", "L", "GBP")),
        (BTC, "BTC-USD", {"quoteType": "CRYPTOCURRENCY", "fullExchangeName": "CCC"}, ("BTC/USD", "24/7", "CCC", "USD")),
        (EUR, "EURUSD=X", {"quoteType": "CURRENCY", "fullExchangeName": "CCY"}, ("EUR/USD", None, "CCY", "USD")),
    ],
    ids=lambda each: each.symbol if isinstance(each, Listed) else "",
)
def test_an_instrument_is_looked_up_under_yahoo_s_own_name(
    server: YahooServer, yahoo: Yahoo, instrument: Listed, theirs: str, answer: dict[str, Any], expected: Any
) -> None:
    """In one request. An option is none of ours, and an unknown symbol has no answer."""
    assert yahoo.lookup(instrument) is None
    server.put(theirs, 100.5, epoch(), quoteType="OPTION")
    assert yahoo.lookup(instrument) is None
    server.put(theirs, 100.5, epoch(), **answer)
    found = yahoo.lookup(instrument)
    assert found is not None
    assert (found.symbol, found.market, found.exchange, found.currency) == expected
    assert found.asset_class is instrument.asset_class


def test_instruments_are_looked_up_in_one_request(server: YahooServer, yahoo: Yahoo) -> None:
    """Each under its own symbol, also two that Yahoo has under one, and a pair of dollars under its second currency."""
    server.put("SPY", 100.5, epoch())
    server.put("VOD.L", 71.2, epoch(), exchange="LSE", currency="GBp")
    server.put("USDJPY=X", 150.1, epoch(), quoteType="CURRENCY")
    server.quotes["USDJPY=X"]["symbol"] = "JPY=X"
    yen = Listed("USD/JPY", "24/5", AssetClass.CURRENCY_PAIR, "JPY")
    dotted = Listed("VOD.L", "XLON", AssetClass.EQUITY, "GBP")
    assert [each.symbol for each in yahoo.lookups([SPY, BRK, VOD, dotted, yen])] == ["SPY", "VOD", "VOD.L", "USD/JPY"]
    assert server.paths().count("/v7/finance/quote") == 1


def test_search_names_market_and_currency(server: YahooServer, yahoo: Yahoo) -> None:
    server.found = [{"symbol": "VOD.L", "exchange": "LSE"}, {"symbol": "GONE", "exchange": "NYQ"}]
    server.put("VOD.L", 71.2, epoch(), currency="GBp", exchange="LSE", longName="Vodafone Group Plc")
    (found,) = yahoo.search("vodafone", 5)
    assert (found.symbol, found.name, found.market, found.currency, found.asset_class) == (
        "VOD", "Vodafone Group Plc", "XLON", "GBP", AssetClass.EQUITY,
    )  # fmt: skip


def test_news_of_the_symbols(server: YahooServer, yahoo: Yahoo) -> None:
    """Old headlines and those of other symbols are left out."""
    server.news = [
        {"title": "Berkshire buys", "link": "https://x/1", "publisher": "Wire", "providerPublishTime": epoch(60),
         "relatedTickers": ["BRK-B", "XOM"]},
        {"title": "Oil", "link": "https://x/2", "providerPublishTime": epoch(60), "relatedTickers": ["XOM"]},
        {"title": "Old", "link": "https://x/3", "providerPublishTime": epoch(90_000), "relatedTickers": ["BRK-B"]},
    ]  # fmt: skip
    (headline,) = yahoo.news([BRK], datetime.now(UTC) - timedelta(hours=1))
    assert (headline.title, headline.symbols, headline.source) == ("Berkshire buys", ("BRK.B",), "Wire")


@pytest.fixture
def streams() -> Iterator[YahooStreamServer]:
    streams = YahooStreamServer()
    yield streams
    streams.close()


def test_the_stream_brings_the_trades_of_its_symbols(
    streams: YahooStreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that cannot be read, one of another symbol, and pence without their currency, are left out."""
    monkeypatch.setattr("services.marketdata.providers.yahoo_stream.RENEW_SECONDS", 0.0)
    reader = Reader(Yahoo(YahooSettings(stream_url=streams.url)).stream([SPY, VOD]))
    streams.wait_for(lambda: streams.received)
    assert streams.received[0] == {"subscribe": ["SPY", "VOD.L"]}
    moment = epoch() * 1000
    for frame in (
        "no JSON",
        "[]",
        '{"message": "AAAA"}',
        streams.tick("QQQ", 1.0, moment),
        streams.tick("VOD.L", 71.25, moment),
        streams.tick("SPY", 570.13, moment, day_volume=100, day_high=571.0, day_low=560.0),
        streams.tick("VOD.L", 71.25, moment, currency="GBp"),
        streams.tick("SPY", 570.2, moment + 500, day_volume=130, day_high=571.0, day_low=560.0, bid=570.1),
    ):
        streams.send(frame)
    reader.wait_for(3)
    assert [(each.symbol, each.bid, *map(str, (each.last, each.volume))) for each in reader.quotes] == [
        ("SPY", None, "570.13", "0"),
        ("VOD", None, "0.7125", "0"),
        ("SPY", Decimal("570.1"), "570.2", "30"),
    ]
    streams.wait_for(lambda: len(streams.received) > 1)  # the subscription is renewed
    reader.stream.subscribe([SPY])
    streams.wait_for(lambda: {"unsubscribe": ["VOD.L"]} in streams.received)
    reader.stream.close()
    assert reader.join() is None


def test_a_cut_stream_is_an_error(streams: YahooStreamServer) -> None:
    reader = Reader(Yahoo(YahooSettings(stream_url=streams.url)).stream([SPY]))
    streams.wait_for(lambda: streams.received)
    streams.cut()
    assert isinstance(reader.join(), ProviderDown)


def test_no_stream_is_an_outage() -> None:
    with pytest.raises(ProviderDown, match="check the connection to the internet"):
        Yahoo(YahooSettings(stream_url="ws://127.0.0.1:9/")).stream([SPY])
