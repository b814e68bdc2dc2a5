"""A provider that keeps failing or reached its rate limit is not called, and its last prices stay."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from services.marketdata.jobs import jobs
from services.marketdata.providers.stateful import Answer, ProviderState
from services.marketdata.service import prepare
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Counts, RunContext
from shared.resilience.breakers import BreakerOpen, breaker_rows
from shared.resilience.rate_limits import Rate, RateLimited
from tests.component.scripted_prices import Scripted, made_up_quote
from tests.component.watching import context_of, outbox
from tests.conftest import FakeClock
from tests.support import value

FAILURES = 5
MINUTE = timedelta(minutes=1)


class Moody(Scripted):
    """A provider that answers or fails, and counts its calls."""

    away = False
    asked = 0

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        self.asked += 1
        if self.away:
            raise ConnectionError("no route to the provider")
        self.quotes = [made_up_quote("AAPL", "100", now)]
        return super().poll(state, symbols, now)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Moody:
    moody = Moody()
    monkeypatch.setattr("services.marketdata.jobs.configured_provider", lambda: moody)
    return moody


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("marketdata", urls, clock) as context:
        prepare(context)
        yield context


def update_market_data(context: ServiceContext) -> Counts:
    return jobs.declared["update_market_data"].run(RunContext(uuid4(), context, context.clock(), {}))


def price(context: ServiceContext) -> object:
    return value(
        context.engine, "SELECT ROW(last_price, quoted_at)::text FROM marketdata.instruments WHERE symbol = 'AAPL'"
    )


def fail_until_it_opens(context: ServiceContext, provider: Moody) -> None:
    provider.away = True
    for _ in range(FAILURES):
        with pytest.raises(ConnectionError):
            update_market_data(context)


def test_a_provider_that_is_down_is_not_called_and_its_last_prices_stay(
    marketdata: ServiceContext, provider: Moody, clock: FakeClock
) -> None:
    """No row and no event has a made-up price."""
    update_market_data(marketdata)
    before = (price(marketdata), outbox(marketdata))
    clock.move(minutes=1)
    fail_until_it_opens(marketdata, provider)
    with pytest.raises(BreakerOpen) as refused:
        update_market_data(marketdata)
    assert (refused.value.name, provider.asked) == ("provider:scripted", 1 + FAILURES)
    assert (price(marketdata), outbox(marketdata)) == before


def test_a_provider_that_is_back_is_called_again(marketdata: ServiceContext, provider: Moody, clock: FakeClock) -> None:
    """One poll after the pause closes the breaker."""
    fail_until_it_opens(marketdata, provider)
    with marketdata.engine.connect() as connection:
        (breaker,) = breaker_rows(connection)
    assert breaker["last_error"] == "ConnectionError: no route to the provider"
    clock.now, provider.away = breaker["next_attempt_at"], False
    assert update_market_data(marketdata) == {"prices_written": 1}
    with marketdata.engine.connect() as connection:
        assert [row["state"] for row in breaker_rows(connection)] == ["closed"]


def test_a_provider_is_polled_no_more_often_than_it_allows(
    marketdata: ServiceContext, provider: Moody, clock: FakeClock
) -> None:
    """A poll that comes too early is postponed, and is not a failure of the provider."""
    provider.rate = Rate(2, MINUTE)
    for _ in range(2):
        update_market_data(marketdata)
        clock.move(seconds=1)
    for _ in range(FAILURES):
        with pytest.raises(RateLimited) as refused:
            update_market_data(marketdata)
    assert provider.asked == 2
    clock.now = refused.value.retry_at
    assert update_market_data(marketdata) == {"prices_written": 1}
