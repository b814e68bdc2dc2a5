"""A backfill from the providers of an asset class in their order, against local servers in the providers' places."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import yfinance.cache  # type: ignore[import-untyped]

from services.marketdata import history_jobs
from services.marketdata.domain.differences import Calendars
from services.marketdata.domain.sessions import Session
from services.marketdata.jobs import jobs
from services.marketdata.persistence.coverage import Gap
from services.marketdata.providers import yahoo_session
from services.marketdata.providers.alpaca import Alpaca
from services.marketdata.providers.alphavantage import AlphaVantage
from services.marketdata.providers.provider import Listed, Provider, ProviderDown
from services.marketdata.providers.settings import AlpacaSettings, AlphaVantageSettings, YahooSettings
from services.marketdata.providers.yahoo import Yahoo
from services.marketdata.usecases import past_sessions
from services.marketdata.usecases.backfill import NoBars, backfill_by_order
from services.marketdata.usecases.update_sessions import CalendarsFailed
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.contracts.markets import KnownMarket
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import RunContext
from shared.resilience.rate_limits import RateLimited
from tests.component.watching import marketdata_at
from tests.conftest import FakeClock
from tests.servers.provider_alpaca import KEY, SECRET, AlpacaServer, bar
from tests.servers.provider_yahoo import YahooServer, chart
from tests.support import rows, value

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
#: A Monday, when New York opened at 13:30 UTC.
OPEN = datetime(2026, 3, 9, 13, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
APPLE = Listed("AAPL", "DEMO", AssetClass.US_EQUITY, "USD")


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(NOW, urls, clock) as context:
        yield context


@pytest.fixture
def alpaca() -> Iterator[tuple[AlpacaServer, Alpaca]]:
    server = AlpacaServer()
    made = Alpaca(AlpacaSettings.model_validate({"key": KEY, "secret": SECRET, "url": server.url}))
    yield server, made
    made.close()
    server.close()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep yfinance's files in a directory of the test."""
    yfinance.cache.set_cache_location(str(tmp_path_factory.mktemp("yfinance")))


@pytest.fixture
def yahoo() -> Iterator[tuple[YahooServer, Yahoo]]:
    server = YahooServer()
    made = Yahoo(YahooSettings(url=server.url))
    yield server, made
    made._data.call(start_anew)
    made.close()
    server.close()


def start_anew(data: Any) -> None:
    """Leave yfinance, of which a process has one, as it was before a provider failed."""
    yahoo_session._forget(data)
    data._cookie_strategy = "basic"


def fill(context: ServiceContext, *providers: Provider, interval: str = "1m") -> Any:
    wanted = Gap(OPEN, OPEN + 10 * MINUTE)
    return backfill_by_order(context, providers, APPLE, interval, wanted, lambda _done, _total: None)


def stored(context: ServiceContext) -> list[tuple[Any, ...]]:
    statement = (
        "SELECT close, provider FROM marketdata.bars_v1 WHERE symbol = 'AAPL' AND interval = '1m' ORDER BY start_at"
    )
    return [tuple(row) for row in rows(context.engine, statement)]


def serve(alpaca: AlpacaServer, yahoo: YahooServer) -> None:
    """Two minutes at each, with prices that tell them apart."""
    alpaca.bars["AAPL"] = [
        bar(f"{OPEN + n * MINUTE:%Y-%m-%dT%H:%M:%SZ}", 100 + n, 101 + n, 99 + n, 100 + n, 300) for n in range(2)
    ]
    first = int(OPEN.timestamp())
    yahoo.charts["AAPL"] = chart([(first + 60 * n, 200.0, 201.0, 199.0, 200.0 + n, 300) for n in range(2)])


def test_the_first_provider_s_bars_are_stored_and_the_next_is_not_asked(
    marketdata: ServiceContext, alpaca: tuple[AlpacaServer, Alpaca], yahoo: tuple[YahooServer, Yahoo]
) -> None:
    """A repeated run asks nobody: the time is covered."""
    serve(alpaca[0], yahoo[0])
    assert fill(marketdata, alpaca[1], yahoo[1])["bars_written"] == 2
    assert stored(marketdata) == [(100, "alpaca"), (101, "alpaca")]
    asked = len(alpaca[0].asked)
    assert fill(marketdata, alpaca[1], yahoo[1])["gaps"] == 0
    assert (len(alpaca[0].asked), yahoo[0].asked) == (asked, [])


@pytest.mark.parametrize(
    "how",
    [{"kind": "status", "status": 500}, {"kind": "status", "status": 403, "body": {"message": "forbidden."}},
     {"kind": "html"}, {"kind": "half"}],
    ids=str,
)  # fmt: skip
def test_the_next_provider_is_asked_where_the_first_fails(
    marketdata: ServiceContext,
    alpaca: tuple[AlpacaServer, Alpaca],
    yahoo: tuple[YahooServer, Yahoo],
    how: dict[str, Any],
) -> None:
    """Whatever the failure is."""
    serve(alpaca[0], yahoo[0])
    alpaca[0].misbehave(**how)
    assert fill(marketdata, alpaca[1], yahoo[1])["bars_written"] == 2
    assert stored(marketdata) == [(200, "yahoo"), (201, "yahoo")]


def test_what_a_provider_does_not_have_is_asked_of_the_next(
    marketdata: ServiceContext, alpaca: tuple[AlpacaServer, Alpaca], yahoo: tuple[YahooServer, Yahoo]
) -> None:
    """Alpaca has no chart of a currency pair. An unknown symbol and a missing key are no reason to stop either."""
    pair = Listed("EUR/USD", "24/5", AssetClass.CURRENCY_PAIR, "USD")
    first = int(OPEN.timestamp())
    yahoo[0].charts["EURUSD=X"] = chart([(first, 1.1, 1.2, 1.0, 1.1, 0)])
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO marketdata.instruments (id, symbol, name, asset_class, market, currency, tick_size)"
            " VALUES (%s, 'EUR/USD', 'Euro', 'currency_pair', '24/5', 'USD', 0.00001)",
            (uuid4(),),
        )
    without_key = AlphaVantage(AlphaVantageSettings())
    wanted = Gap(OPEN, OPEN + 10 * MINUTE)
    counts = backfill_by_order(
        marketdata, [alpaca[1], without_key, yahoo[1]], pair, "1m", wanted, lambda _done, _total: None
    )
    assert (counts["bars_written"], alpaca[0].asked) == (1, [])


def test_without_any_provider_that_has_the_bars_the_reasons_are_told(
    marketdata: ServiceContext, yahoo: tuple[YahooServer, Yahoo]
) -> None:
    """Each one's own."""
    with pytest.raises(NoBars) as told:
        fill(marketdata, AlphaVantage(AlphaVantageSettings()), yahoo[1])
    assert "alphavantage has no quotes of DEMO: choose another provider for it; Yahoo" in str(told.value)
    assert "may be delisted" in str(told.value)


def test_a_run_is_repeated_where_all_fail_for_the_moment(
    marketdata: ServiceContext, alpaca: tuple[AlpacaServer, Alpaca], yahoo: tuple[YahooServer, Yahoo]
) -> None:
    """A refusal names the time of the next try, and defers the run to it."""
    yahoo[0].misbehave("status", status=500)
    alpaca[0].misbehave("status", status=500)
    with pytest.raises(ProviderDown):
        fill(marketdata, alpaca[1], yahoo[1])
    alpaca[0].behave()
    alpaca[0].misbehave("status", status=429, headers={"Retry-After": "30"})
    with pytest.raises(RateLimited):
        fill(marketdata, alpaca[1], yahoo[1])


# the job


def run_of(context: ServiceContext, **parameters: Any) -> RunContext:
    given = {"symbols": ("AAPL",), "interval": "1m", "begin": OPEN, "end": OPEN + 10 * MINUTE, "provider": None}
    return RunContext(uuid4(), context, NOW, {**given, **parameters})


def test_the_job_asks_the_providers_of_the_instrument_s_class(
    marketdata: ServiceContext,
    alpaca: tuple[AlpacaServer, Alpaca],
    yahoo: tuple[YahooServer, Yahoo],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the parameters name none."""
    serve(alpaca[0], yahoo[0])
    alpaca[0].misbehave("status", status=500)
    orders = {AssetClass.US_EQUITY: [alpaca[1], yahoo[1]]}
    monkeypatch.setattr(history_jobs, "history_order", lambda asset_class: orders.get(asset_class, []))
    assert jobs.declared["backfill_bars"].run(run_of(marketdata))["bars_written"] == 2
    assert stored(marketdata) == [(200, "yahoo"), (201, "yahoo")]
    orders.clear()
    with pytest.raises(Permanent, match="none of us_equity has bars"):
        jobs.declared["backfill_bars"].run(run_of(marketdata))


def test_a_backfill_of_earlier_years_brings_their_sessions(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first day that is wanted to the first that is stored, once, and none for a market that never closes."""
    asked: list[tuple[str, date, date]] = []

    def compute(markets: list[KnownMarket], first: date, last: date) -> Calendars:
        asked.append((markets[0].code, first, last))
        opened = datetime(first.year, first.month, first.day, 14, 30, tzinfo=UTC)
        return Calendars([Session("XNYS", first, "regular", opened, opened + timedelta(hours=6), early_close=False)])

    monkeypatch.setattr(history_jobs, "compute_sessions", compute)
    begin = datetime(2005, 1, 3, tzinfo=UTC)
    given = {"symbols": ("IBM",), "interval": "1d", "begin": begin, "end": NOW, "provider": "replay"}
    jobs.declared["backfill_bars"].run(run_of(marketdata, **given))
    assert asked == []
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS' WHERE symbol = 'IBM'")
        connection.exec_driver_sql(
            "INSERT INTO marketdata.market_sessions VALUES ('XNYS', %s, %s, 'regular', %s)",
            (OPEN, OPEN + timedelta(hours=6), OPEN.date()),
        )
    for _ in range(2):
        jobs.declared["backfill_bars"].run(run_of(marketdata, **given))
    assert asked == [("XNYS", date(2005, 1, 3), OPEN.date() - timedelta(days=1))]
    assert value(marketdata.engine, "SELECT min(day) FROM marketdata.sessions_v2") == date(2005, 1, 3)


def test_a_backfill_whose_calendar_fails_is_repeated(marketdata: ServiceContext) -> None:
    """Without their sessions, minutes of those days would make no daily bars."""
    failed = Calendars(failed={"XNYS": "it raised"})
    with pytest.raises(CalendarsFailed, match="it raised"):
        past_sessions.add_past_sessions(marketdata, lambda *_: failed, "XNYS", date(2005, 1, 3), uuid4())
