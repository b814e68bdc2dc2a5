"""Prices of network providers: asked beside each other, in the order of their asset class, and checked."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.domain.quote import Quote
from services.marketdata.jobs import jobs
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.providers.provider import Listed, Part, Provider, ProviderDown, Traits
from services.marketdata.usecases import change_instruments
from services.marketdata.usecases.corporate_actions import enter
from services.marketdata.usecases.fetch_prices import fetch_prices
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.corporate_actions import ActionKind, EnterCorporateAction
from shared.contracts.instruments import AssetClass, ChangeInstrument, InstrumentChanges, InstrumentStatus
from shared.contracts.prices import PricesUpdated
from shared.jobs.run_context import RunContext
from tests.component.scripted_prices import made_up_quote
from tests.component.watching import context_of, outbox
from tests.conftest import FakeClock
from tests.support import eventually, rows

Answering = Callable[[Sequence[Listed], datetime], list[Quote]]
SHARES, CRYPTO = AssetClass.US_EQUITY, AssetClass.CRYPTO
COINS = (
    Instrument("BTC/USD", "Bitcoin", "24/7", "crypto"),
    Instrument("ETH/USD", "Ether", "24/7", "crypto"),
)


class Made(Provider):
    """A provider that answers as the test says, and remembers what it was asked."""

    def __init__(self, name: str, answering: Answering | None = None, **traits: Any) -> None:
        self.traits = Traits(  # type: ignore[misc]
            name=name, **{"parts": frozenset(Part), "asset_classes": frozenset(AssetClass), "batch": 100, **traits}
        )
        self._answering = answering or self.all_at_100
        self.asked: list[list[str]] = []

    def all_at_100(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        return [replace(made_up_quote(each.symbol, "100", now), provider=self.traits.name) for each in instruments]

    def quotes(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        self.asked.append([each.symbol for each in instruments])
        return self._answering(instruments, now)


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """Three shares and two coins."""
    with context_of("marketdata", urls, clock) as context:
        with context.engine.begin() as connection:
            shares = [Instrument(symbol, symbol) for symbol in ("AAPL", "IBM", "MSFT")]
            add_instruments(connection, [*shares, *COINS])
        yield context


def sources(context: ServiceContext) -> dict[str, str]:
    found = rows(context.engine, "SELECT symbol, provider FROM marketdata.instruments WHERE last_price IS NOT NULL")
    return {row.symbol: row.provider for row in found}


def test_each_class_is_asked_of_its_own_providers(marketdata: ServiceContext) -> None:
    """In requests of the size that each takes. Each answer is one event."""
    one, two = Made("one", batch=2), Made("two")
    assert fetch_prices(marketdata, {SHARES: [one], CRYPTO: [two]}) == 5
    assert sorted(one.asked) == [["AAPL", "IBM"], ["MSFT"]]
    assert two.asked == [["BTC/USD", "ETH/USD"]]
    assert sources(marketdata) == {"AAPL": "one", "IBM": "one", "MSFT": "one", "BTC/USD": "two", "ETH/USD": "two"}
    published = [PricesUpdated.model_validate(sent.body).prices for sent in outbox(marketdata)]
    assert sorted(len(prices) for prices in published) == [1, 2, 2]
    assert {(price.received_at, price.delayed) for prices in published for price in prices} == {
        (marketdata.clock(), False)
    }


def test_what_one_does_not_have_is_asked_of_the_next(marketdata: ServiceContext) -> None:
    """Symbols that are missing, that fail a check, and all of a provider that fails."""

    def some(instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        good, crossed, *_ = Made("first").all_at_100(instruments, now)
        return [good, replace(crossed, bid=crossed.ask, ask=crossed.bid)]

    def fails(_instruments: Sequence[Listed], _now: datetime) -> list[Quote]:
        raise ProviderDown("no answer")

    first, down, last = Made("first", some), Made("down", fails), Made("last", delayed=True)
    assert fetch_prices(marketdata, {SHARES: [first, down, last]}) == 3
    assert down.asked == last.asked == [["IBM", "MSFT"]]
    assert sources(marketdata) == {"AAPL": "first", "IBM": "last", "MSFT": "last"}
    delayed = rows(marketdata.engine, "SELECT symbol FROM marketdata.instruments_v1 WHERE delayed ORDER BY symbol")
    assert [row.symbol for row in delayed] == ["IBM", "MSFT"]


def test_a_provider_is_not_asked_for_what_it_cannot_have(marketdata: ServiceContext) -> None:
    """Its classes, currencies and parts are known."""
    never = [
        Made("classes", asset_classes=frozenset({CRYPTO})),
        Made("currencies", currencies=frozenset({"EUR"})),
        Made("parts", parts=frozenset({Part.BARS})),
    ]
    assert fetch_prices(marketdata, {SHARES: [*never, Made("last")]}) == 3
    assert [each.asked for each in never] == [[], [], []]


def test_a_mistake_of_a_provider_stops_no_other(marketdata: ServiceContext, caplog: pytest.LogCaptureFixture) -> None:
    """A provider may come from another package."""

    def broken(_instruments: Sequence[Listed], _now: datetime) -> list[Quote]:
        raise KeyError("price")

    assert fetch_prices(marketdata, {SHARES: [Made("broken", broken)], CRYPTO: [Made("good")]}) == 2
    (record,) = [each for each in caplog.records if each.msg == "provider failed"]
    assert (record.provider, record.symbols) == ("broken", 3)  # type: ignore[attr-defined]


def test_a_slow_provider_holds_up_no_other_and_no_transaction(marketdata: ServiceContext) -> None:
    """The prices of the quick one are stored while the slow one is still asked."""
    asked, let_go = threading.Event(), threading.Event()

    def slowly(instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        asked.set()
        assert let_go.wait(30)
        return Made("slow").all_at_100(instruments, now)

    with ThreadPoolExecutor(1) as pool:
        order = {SHARES: [Made("slow", slowly)], CRYPTO: [Made("quick")]}
        fetched = pool.submit(fetch_prices, marketdata, order)
        try:
            assert asked.wait(30)
            eventually(lambda: set(sources(marketdata).values()) == {"quick"})
            (sessions,) = rows(marketdata.engine, _TRANSACTIONS)
            assert sessions.open == 0
            assert not fetched.done()
        finally:
            let_go.set()
        assert fetched.result() == 5


_TRANSACTIONS = """
SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS open FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def test_an_answer_that_does_not_come_is_not_waited_for(marketdata: ServiceContext) -> None:
    """The others are stored. What it brings later is dropped."""
    let_go = threading.Event()

    def stuck(_instruments: Sequence[Listed], _now: datetime) -> list[Quote]:
        assert let_go.wait(30)
        return []

    try:
        order = {SHARES: [Made("stuck", stuck)], CRYPTO: [Made("quick")]}
        assert fetch_prices(marketdata, order, longest=timedelta(seconds=0.5)) == 2
    finally:
        let_go.set()


def test_a_split_during_the_request_drops_the_price_of_old_shares(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The next poll asks again."""

    def splits(instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        action = EnterCorporateAction.model_validate(
            {
                "action_id": uuid4(),
                "symbol": "IBM",
                "kind": ActionKind.SPLIT,
                "ratio": "2",
                "effective_at": clock.now - timedelta(seconds=1),
            }
        )
        with marketdata.unit_of_work() as uow:
            enter(uow, action)
        return Made("x").all_at_100(instruments, now)

    assert fetch_prices(marketdata, {SHARES: [Made("x", splits)]}) == 2
    assert set(sources(marketdata)) == {"AAPL", "MSFT"}


def test_a_retired_instrument_is_asked_for_while_somebody_holds_it(
    marketdata: ServiceContext, urls: dict[str, str]
) -> None:
    """Its holder has to know what it is worth."""
    retired = InstrumentChanges(status=InstrumentStatus.RETIRED)
    with marketdata.unit_of_work() as uow:
        for symbol in ("AAPL", "IBM"):
            change_instruments.change(uow, ChangeInstrument(request_id=uuid4(), symbol=symbol, changes=retired))
    with context_of("orders", urls) as orders, orders.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO orders.accounts (id, number, name, cash, currency, created_at)"
            " VALUES (gen_random_uuid(), 'A1', 'a', 0, 'USD', now())"
        )
        connection.exec_driver_sql(
            "INSERT INTO orders.positions (account_id, symbol, qty, cost, updated_at)"
            " SELECT id, 'AAPL', 1, 1, now() FROM orders.accounts"
        )
    one = Made("one")
    fetch_prices(marketdata, {SHARES: [one]})
    assert one.asked == [["AAPL", "MSFT"]]


def test_the_job_asks_the_configured_providers(marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class without any is left alone, and no feed is asked."""
    made = Made("mine")
    monkeypatch.setattr("services.marketdata.jobs.configured_provider", lambda: None)
    monkeypatch.setattr("services.marketdata.jobs.configured_order", lambda: {CRYPTO: [made]})
    run = RunContext(uuid4(), marketdata, marketdata.clock(), {})
    assert jobs.declared["update_market_data"].run(run) == {"prices_written": 2}
    assert made.asked == [["BTC/USD", "ETH/USD"]]
