"""One day of bars, replayed, pushed, pushed over HTTP, and backfilled and recovered: the same fills to the cent."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.gateway.instruments.prices_api import NewPrice, NewPrices
from services.marketdata.domain.bar import Bar
from services.marketdata.persistence.coverage import Gap
from services.marketdata.providers.provider import Listed
from services.marketdata.providers.recorded_history import RecordedHistory
from services.marketdata.providers.replay import TapeProvider
from services.marketdata.usecases.backfill import backfill
from services.marketdata.usecases.push_prices import push_prices
from services.marketdata.usecases.update_prices import update_prices
from services.orders.usecases.catch_up import catch_up
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.contracts.prices import NumberedPrice, PricesUpdated, PushPrices
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY, Trader, open_account
from tests.component.paper_exchange import Exchange
from tests.component.watching import outbox
from tests.conftest import FakeClock, running_system
from tests.support import broken_invariants, eventually, price, rows, value

MINUTE = timedelta(minutes=1)
#: Open, high, low and close of each minute: down to 96.4, and up to 104.2.
DAY = [
    ("100", "100.4", "99.2", "99.5"), ("99.5", "99.6", "98.1", "98.3"), ("98.2", "98.4", "96.9", "97.2"),
    ("97.2", "97.6", "96.4", "97.5"), ("97.7", "99.4", "97.5", "99.3"), ("99.3", "101.2", "99.1", "101.1"),
    ("101.6", "103.3", "101.5", "103.1"), ("103.1", "104.2", "102.7", "103.0"), ("102.8", "103.1", "101.4", "101.5"),
    ("101.5", "101.8", "100.2", "100.3"),
]  # fmt: skip
ORDERS = {
    "buy 10 AAPL limit": {"limit_price": "97.53"},
    "buy 3 AAPL limit": {"limit_price": "96.41"},
    "buy 7 AAPL limit": {"limit_price": "90"},
    "buy 5 AAPL stop": {"stop_price": "101.37"},
    "buy 2 AAPL stop_limit": {"stop_price": "102.2", "limit_price": "102.9"},
}
Fills = dict[str, list[tuple[Decimal, Decimal]]]


def bars(begin: datetime) -> list[Bar]:
    return [
        Bar("AAPL", "1m", begin + number * MINUTE, opened, high, low, close, Decimal(100_000), "test")
        for number, numbers in enumerate(DAY)
        for opened, high, low, close in (map(Decimal, numbers),)
    ]


def replayed(exchange: Exchange, day: list[Bar]) -> None:
    """Each step at the end of its minute, as the feed makes it."""
    provider = TapeProvider("day.csv", day)
    for bar in day:
        exchange.clock.now = bar.start + MINUTE
        context = ServiceContext("marketdata", exchange.marketdata.engine, exchange.clock)
        assert update_prices(context, provider, provider.advance, interval="replay", length=None) == 1
        _handle_last(exchange)


def pushed(exchange: Exchange, day: list[Bar]) -> None:
    """Each bar as a client sends it in JSON, read as the gateway reads it, without a quote."""
    for bar in day:
        exchange.clock.now = bar.start + MINUTE
        body = json.dumps({"prices": [{"symbol": bar.symbol, "bar": _json(bar)}]})
        (given,) = NewPrices.model_validate_json(body).prices
        asked = NumberedPrice(**NewPrice.model_validate(given).model_dump(), index=0)
        with exchange.marketdata.unit_of_work() as uow:
            push_prices(uow, PushPrices(push_id=uuid4(), pushed=(asked,), received_at=exchange.clock.now))
        _handle_last(exchange)


def _json(bar: Bar) -> dict[str, str]:
    numbers = {name: str(getattr(bar, name)) for name in ("open", "high", "low", "close", "volume")}
    return {**numbers, "start": bar.start.isoformat(), "end": (bar.start + MINUTE).isoformat()}


def recovered(exchange: Exchange, day: list[Bar]) -> None:
    """Orders was down, the bars were backfilled, and then it catches up."""
    exchange.clock.now = day[-1].start + 2 * MINUTE
    apple = Listed("AAPL", "DEMO", AssetClass.US_EQUITY, "USD")
    wanted = Gap(day[0].start, day[-1].start + MINUTE)
    counts = backfill(exchange.marketdata, RecordedHistory(day), apple, "1m", wanted, lambda *_: None)
    assert counts["bars_written"] == len(day)
    exchange.sequences["AAPL"] += len(day) + 1
    exchange.show(price("AAPL", day[-1].close, at=exchange.clock.now, sequence=exchange.sequences["AAPL"]))
    catch_up(exchange.orders, lambda *_: None)


def _handle_last(exchange: Exchange) -> None:
    """Let orders have the newest event about prices at the moment of its price."""
    sent = [each.body for each in outbox(exchange.marketdata) if each.name == PricesUpdated.wire_name()]
    now = exchange.clock.now
    exchange.handle(PricesUpdated.model_validate(sent[-1]))
    exchange.clock.now = now


@pytest.mark.parametrize("way", [replayed, pushed, recovered])
def test_a_day_fills_the_same_whichever_way_it_comes(
    exchange: Exchange, way: Callable[[Exchange, list[Bar]], None]
) -> None:
    """Limits, a stop and a stop limit, inside of their bars, an order that is never reached, and one at the market."""
    account = exchange.open(fills={"fills_on": "bar"})
    exchange.price("AAPL 100/100 100")
    placed: dict[str, UUID] = {text: exchange.submit(account, text, **terms) for text, terms in ORDERS.items()}
    begin = exchange.clock.now.replace(second=0, microsecond=0) + MINUTE
    exchange.clock.now = begin - timedelta(seconds=1)
    exchange.price("AAPL 100/100 100")  # at the begin of the first minute
    placed["buy 4 AAPL market"] = exchange.submit(account, "buy 4 AAPL market")
    way(exchange, bars(begin))
    assert broken_invariants(exchange.orders.engine) == {}
    assert {text: exchange.fills(order_id) for text, order_id in placed.items()} == EXPECTED


def test_a_day_that_is_pushed_over_http_fills_the_same(urls: dict[str, str], clock: FakeClock) -> None:
    """Orders and prices are requests. Orders handles each price before the next minute begins."""
    clock.now = (clock.now + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    with running_system(urls, clock) as system, DocumentedClient(system.app()) as client:
        quotes = system.contexts["orders"].engine

        def push(**given: Any) -> None:
            answer = client.post("/api/prices", json={"prices": [{"symbol": "AAPL", **given}]}, headers=KEY)
            assert answer.json()["refused"] == [], answer.text
            applied = "SELECT count(*) = 1 FROM orders.quotes WHERE symbol = 'AAPL' AND quoted_at = :at"
            eventually(lambda: value(quotes, applied, at=clock.now), what="orders has the price")

        push(**QUOTE)
        trader = open_account(system, client, fills={"fills_on": "bar"})
        placed = {}
        for text, terms in ORDERS.items():
            placed[text] = _ordered(trader, text, **terms)
            clock.move(seconds=1)
        clock.now = begin = clock.now.replace(second=0) + MINUTE
        push(**QUOTE)
        clock.move(seconds=1)
        placed["buy 4 AAPL market"] = _ordered(trader, "buy 4 AAPL market")
        for bar in bars(begin):
            clock.now = bar.start + MINUTE
            push(bar=_json(bar))
        fills = {text: _fills(trader, order_id) for text, order_id in placed.items()}
        assert (fills, trader.books_hold()) == (EXPECTED, True)


def _ordered(trader: Trader, text: str, **terms: str) -> str:
    side, qty, symbol, kind = text.split()
    order = trader.order(symbol=symbol, side=side, qty=qty, type=kind, time_in_force="gtc", **terms)
    return str(trader.awaited(order["id"], "new")["id"])


def _fills(trader: Trader, order_id: str) -> list[tuple[Decimal, Decimal]]:
    found = rows(
        trader.system.contexts["orders"].engine,
        "SELECT qty, price FROM orders.fills WHERE order_id = :id ORDER BY filled_at",
        id=order_id,
    )
    return [(row.qty, row.price) for row in found]


QUOTE = {"bid": "100", "ask": "100", "bid_size": "100", "ask_size": "100", "last": "100"}
EXPECTED: Fills = {
    "buy 10 AAPL limit": [(Decimal(10), Decimal("97.53"))],
    "buy 3 AAPL limit": [(Decimal(3), Decimal("96.41"))],
    "buy 7 AAPL limit": [],
    "buy 5 AAPL stop": [(Decimal(5), Decimal("101.6"))],
    "buy 2 AAPL stop_limit": [(Decimal(2), Decimal("102.2"))],
    "buy 4 AAPL market": [(Decimal(4), Decimal("99.51"))],
}
