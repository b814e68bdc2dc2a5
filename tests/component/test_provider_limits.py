"""Limits and outages of the network providers: replicas share them, refusals are obeyed, and calls wait in line."""

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.marketdata.domain.quote import Quote
from services.marketdata.providers.alphavantage import AlphaVantage
from services.marketdata.providers.provider import KeyRefused, Listed, Part, Provider, ProviderDown, Throttled, Traits
from services.marketdata.providers.settings import AlphaVantageSettings
from services.marketdata.usecases.ask_provider import ask
from services.marketdata.usecases.limits import DAY, spread
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.jobs.engine.failures import judge
from shared.jobs.settings import JobSettings
from shared.resilience.breakers import BreakerOpen, breaker_rows
from shared.resilience.rate_limits import NO_WAIT, Rate, RateLimited, rate_limit_rows
from tests.component.provider_server import SPY
from tests.component.watching import context_of
from tests.conftest import FakeClock
from tests.servers import provider_alphavantage as answers
from tests.servers.provider_alphavantage import KEY, AlphaVantageServer

MINUTE = timedelta(minutes=1)


class Counting(Provider):
    """A provider that counts its calls, and fails as it is told to."""

    def __init__(self, rate: Rate | None = None, *, daily: int | None = None, key: str = "") -> None:
        self.traits = Traits(  # type: ignore[misc]
            name="counting",
            parts=frozenset({Part.QUOTES}),
            asset_classes=frozenset(AssetClass),
            rate=rate,
            daily=daily,
        )
        self.key_name = key
        self.asked = 0
        self.error: Exception | None = None

    def quotes(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:  # noqa: ARG002
        self.asked += 1
        if self.error is not None:
            raise self.error
        return []


@pytest.fixture
def replicas(urls: dict[str, str], clock: FakeClock) -> Iterator[list[ServiceContext]]:
    with context_of("marketdata", urls, clock) as one, context_of("marketdata", urls, clock) as other:
        yield [one, other]


def call(context: ServiceContext, provider: Provider, **how: Any) -> list[Quote]:
    return ask(context, provider, lambda: provider.quotes([SPY], context.clock()), **how)


def refused_until(context: ServiceContext, provider: Provider) -> datetime:
    with pytest.raises(RateLimited) as refused:
        call(context, provider, wait=NO_WAIT)
    return refused.value.retry_at


def test_replicas_share_the_limit_of_a_key(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Another key has a limit of its own, and neither limit shows its key."""
    one, other = Counting(Rate(2, MINUTE), key="key-1"), Counting(Rate(2, MINUTE), key="key-1")
    call(replicas[0], one)
    call(replicas[1], other)
    assert refused_until(replicas[0], one) == clock.now + MINUTE / 2
    call(replicas[0], Counting(Rate(2, MINUTE), key="key-2"))


def test_a_refusal_is_obeyed_by_all_replicas(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Nobody calls before the time that the provider named. Then calls pass again by themselves."""
    one, other = Counting(Rate(100, MINUTE)), Counting(Rate(100, MINUTE))
    one.error = Throttled("too many requests: ask less often", 300.0)
    with capture_logs() as logs, pytest.raises(RateLimited) as refused:
        call(replicas[0], one)
    assert refused.value.retry_at == clock.now + timedelta(seconds=300)
    assert [line["error"] for line in logs] == ["too many requests: ask less often"]
    clock.move(seconds=299)
    assert refused_until(replicas[1], other) == refused.value.retry_at
    assert other.asked == 0
    clock.move(seconds=1)
    call(replicas[1], other)
    assert other.asked == 1


def test_a_refusal_without_a_time_pauses_for_a_minute(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Also of a provider that names no limit."""
    provider = Counting()
    provider.error = Throttled("too many requests")
    assert refused_until(replicas[0], provider) == clock.now + MINUTE


def test_refusals_open_no_breaker(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """A provider that refuses is not down. One whose key it refuses neither."""
    provider = Counting()
    for error in (Throttled("busy", 1.0), KeyRefused("check the key")) * 6:
        provider.error = error
        with pytest.raises((RateLimited, KeyRefused)):
            call(replicas[0], provider)
        clock.move(seconds=2)
    with replicas[0].engine.connect() as connection:
        assert breaker_rows(connection) == []


def test_an_outage_opens_the_breaker_and_a_job_waits_for_it(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """The job is run again when the breaker lets an attempt through, and that uses up none of its retries."""
    provider = Counting()
    provider.error = ProviderDown("no answer: check the connection")
    for _ in range(5):
        with pytest.raises(ProviderDown):
            call(replicas[0], provider)
    with pytest.raises(BreakerOpen) as closed_off:
        call(replicas[1], provider)
    verdict = judge(closed_off.value, failures=99, settings=JobSettings(), now=clock.now)
    assert (verdict.retry_at, verdict.uses_retry, provider.asked) == (closed_off.value.next_attempt_at, False, 5)
    clock.now, provider.error = closed_off.value.next_attempt_at, None
    call(replicas[1], provider)
    with replicas[0].engine.connect() as connection:
        assert [row["state"] for row in breaker_rows(connection)] == ["closed"]


def test_a_job_waits_for_a_limit_and_uses_up_no_retry(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """A run that needs prices is postponed for as long as it takes, and does not fail."""
    provider = Counting()
    provider.error = Throttled("too many requests", 300.0)
    with pytest.raises(RateLimited) as refused:
        call(replicas[0], provider)
    verdict = judge(refused.value, failures=99, settings=JobSettings(), now=clock.now)
    assert (verdict.retry_at, verdict.uses_retry) == (clock.now + timedelta(seconds=300), False)


def test_calls_wait_in_line_up_to_a_bound(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Three calls at 50 ms each: the first passes at once, two wait, and all are made."""
    provider = Counting(Rate(1, timedelta(milliseconds=50)))
    threads = [threading.Thread(target=call, args=(replicas[0], provider)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert provider.asked == 3
    with pytest.raises(RateLimited):
        call(replicas[0], provider, wait=timedelta(milliseconds=100))


@pytest.mark.parametrize("budget", [2, 25, 500, 7])
def test_a_budget_is_spread_over_the_day(budget: int) -> None:
    """No day has more calls than the budget, nor fewer by more than a tenth."""
    burst = spread(budget)
    most = burst.allowed + DAY * burst.allowed // burst.period
    assert budget * 0.9 <= most <= budget


def test_the_budget_is_shared_and_not_waited_for(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """25 a day are one an hour. A call that another limit refuses takes nothing of the budget."""
    one, other = (Counting(Rate(1, MINUTE), daily=25) for _ in range(2))
    call(replicas[0], one)
    assert refused_until(replicas[1], other) == clock.now + timedelta(hours=1)
    clock.move(hours=1)
    call(replicas[1], other)
    clock.move(hours=1)
    with replicas[0].engine.connect() as connection:
        limits = {row["name"]: row["available"] for row in rate_limit_rows(connection, clock.now)}
    assert limits == {"provider:counting": 1, "provider:counting:day": 1}


def test_a_refusal_of_status_200_is_obeyed(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Alpha Vantage's note about the day's limit stops all calls for an hour. Its server sees none."""
    server = AlphaVantageServer()
    provider = AlphaVantage(AlphaVantageSettings(key=KEY, url=server.url, requests_per_day=100_000))
    try:
        server.misbehave("status", status=200, body={"Information": answers.DAILY_LIMIT})
        until = refused_until(replicas[0], provider)
        server.behave()
        assert (until, refused_until(replicas[1], provider)) == (clock.now + timedelta(hours=1), until)
        assert len(server.asked) == 1
        server.answers["GLOBAL_QUOTE SPY"] = answers.global_quote("SPY", "530.1", "2024-06-04")
        clock.now = until
        assert [quote.symbol for quote in call(replicas[1], provider)] == ["SPY"]
    finally:
        provider.close()
        server.close()
