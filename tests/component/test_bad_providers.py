"""Wrong answers of providers are not stored: from local servers, by yfinance and alpaca-py, to the rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yfinance.cache  # type: ignore[import-untyped]
from structlog.testing import capture_logs

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.providers import yahoo_session
from services.marketdata.providers.alpaca import Alpaca
from services.marketdata.providers.settings import AlpacaSettings, YahooSettings
from services.marketdata.providers.yahoo import Yahoo
from services.marketdata.service import prepare
from services.marketdata.usecases.fetch_prices import Order, fetch_prices
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.instruments import AssetClass
from shared.resilience.breakers import breaker_rows
from tests.component.watching import context_of, outbox
from tests.servers.provider_alpaca import KEY, SECRET, AlpacaServer, snapshot
from tests.servers.provider_http import epoch
from tests.servers.provider_yahoo import YahooServer
from tests.support import rows

SYMBOLS = ("AAPL", "IBM", "MSFT", "GOOG", "FB")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[YahooServer]:
    """Yahoo with a good quote of each symbol."""
    yfinance.cache.set_cache_location(str(tmp_path))
    monkeypatch.setattr(yahoo_session, "REQUEST_SECONDS", 0.5)
    server = YahooServer()
    for symbol in SYMBOLS:
        server.put(symbol, 100.25, epoch(10))
    yield server
    server.close()


@pytest.fixture
def yahoo(server: YahooServer) -> Iterator[Yahoo]:
    yahoo = Yahoo(YahooSettings(url=server.url))
    yield yahoo
    yahoo._data.call(yahoo_session._forget)
    yahoo.close()


@pytest.fixture
def marketdata(urls: dict[str, str]) -> Iterator[ServiceContext]:
    """The providers' clocks are real, so this one is too."""
    with context_of("marketdata", urls) as context:
        prepare(context)
        yield context


def fetch(context: ServiceContext, *providers: Any) -> int:
    order: Order = {AssetClass.US_EQUITY: providers, AssetClass.EQUITY: providers}
    return fetch_prices(context, order)


def stored(context: ServiceContext) -> dict[str, tuple[str, str]]:
    """Symbol → last price and provider of those that have one."""
    found = rows(
        context.engine,
        "SELECT symbol, trim_scale(last_price)::text, provider FROM marketdata.instruments WHERE last_price > 0",
    )
    return {symbol: (last, provider) for symbol, last, provider in found}


@pytest.mark.parametrize(
    "wrong",
    [
        {"regularMarketPrice": 0},
        {"regularMarketPrice": -5.0},
        {"regularMarketPrice": "NaN"},
        {"regularMarketPrice": None},
        {"regularMarketTime": None},
        {"regularMarketTime": epoch(-3600)},
        {"regularMarketTime": 10**12},
        {"regularMarketTime": "yesterday"},
        {"currency": "EUR"},
        {"currency": None},
        {"currency": "GBp"},
        {"bid": 110.0, "ask": 90.0},
    ],
)
def test_a_wrong_quote_is_not_stored_and_the_rest_of_the_batch_is(
    marketdata: ServiceContext, server: YahooServer, yahoo: Yahoo, wrong: dict[str, Any]
) -> None:
    """Also one whose clock is an hour ahead. No event has it."""
    server.quotes["IBM"].update(wrong)
    assert fetch(marketdata, yahoo) == len(SYMBOLS) - 1
    assert sorted(stored(marketdata)) == sorted(set(SYMBOLS) - {"IBM"})
    (event,) = [message for message in outbox(marketdata) if message.name.startswith("PricesUpdated")]
    assert "IBM" not in {price["symbol"] for price in event.body["prices"]}


def test_missing_sides_stay_missing(marketdata: ServiceContext, server: YahooServer, yahoo: Yahoo) -> None:
    server.quotes["IBM"].update(bid=0, ask=None)
    fetch(marketdata, yahoo)
    (row,) = rows(marketdata.engine, "SELECT bid, ask, last_price FROM marketdata.instruments WHERE symbol = 'IBM'")
    assert (row.bid, row.ask, str(row.last_price)) == (None, None, "100.25")


def test_pence_are_stored_as_pounds_and_a_delay_is_said(
    marketdata: ServiceContext, server: YahooServer, yahoo: Yahoo
) -> None:
    with marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("VOD", "Vodafone", "XLON", "equity", "GBP")])
    server.put("VOD.L", 71.26, epoch(900), currency="GBp", exchangeDataDelayedBy=15)
    fetch(marketdata, yahoo)
    (row,) = rows(marketdata.engine, "SELECT last_price, delayed FROM marketdata.instruments WHERE symbol = 'VOD'")
    assert (str(row.last_price), row.delayed) == ("0.7126", True)


@pytest.mark.parametrize(
    ("kind", "how"),
    [("html", {}), ("half", {}), ("empty", {}), ("slow", {}), ("status", {"status": 500}), ("status", {"status": 403})],
)
def test_through_an_outage_the_last_prices_stay_and_then_new_ones_come(
    marketdata: ServiceContext, server: YahooServer, yahoo: Yahoo, kind: str, how: dict[str, Any]
) -> None:
    """The log says what to do. Nobody has to start anything again."""
    fetch(marketdata, yahoo)
    before = stored(marketdata)
    server.misbehave(kind, path="/v7/", **how)
    with capture_logs() as logs:
        assert fetch(marketdata, yahoo) == 0
    assert stored(marketdata) == before
    (error,) = [line["error"] for line in logs if line["event"] == "provider failed"]
    assert ":" in error
    server.behave()
    server.put("IBM", 101.5, epoch(1))
    assert fetch(marketdata, yahoo) == 1


def test_after_five_failures_a_provider_is_left_alone(
    marketdata: ServiceContext, server: YahooServer, yahoo: Yahoo
) -> None:
    """The breaker's row, which the alert shows, says what went wrong."""
    server.misbehave("html", path="/v7/")
    for _ in range(7):
        fetch(marketdata, yahoo)
    assert server.paths().count("/v7/finance/quote") == 5
    with marketdata.engine.connect() as connection:
        (breaker,) = breaker_rows(connection)
    assert (breaker["name"], breaker["state"]) == ("provider:yahoo", "open")
    assert "try again later" in breaker["last_error"]


def test_the_next_provider_has_what_the_first_does_not(
    marketdata: ServiceContext, server: YahooServer, yahoo: Yahoo
) -> None:
    """One symbol that Yahoo does not know, and then all of them, while it is down."""
    other = AlpacaServer()
    alpaca = Alpaca(AlpacaSettings(key=KEY, secret=SECRET, url=other.url))
    try:
        for symbol in SYMBOLS:
            other.snapshots[symbol] = snapshot(100.5, utc_now().isoformat())
        del server.quotes["IBM"]
        fetch(marketdata, yahoo, alpaca)
        assert {symbol for symbol, (_, provider) in stored(marketdata).items() if provider == "alpaca"} == {"IBM"}
        server.misbehave("status", path="/v7/", status=429, headers={"Retry-After": "600"})
        for symbol in SYMBOLS:
            other.snapshots[symbol] = snapshot(100.75, utc_now().isoformat())
        assert fetch(marketdata, yahoo, alpaca) == len(SYMBOLS)
        asked = len(server.asked)
        fetch(marketdata, yahoo, alpaca)
        assert len(server.asked) == asked
    finally:
        alpaca.close()
        other.close()
