"""Live values are coalesced: a burst of prices becomes one event at once and one after the pause."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.service import prepare
from services.valuation import actors
from services.valuation.live_values import LiveValues
from services.valuation.values import PAUSE, TOTALS, TOTALS_AND_STALE
from shared.bus.unit_of_work import ServiceContext
from tests.component.scripted_prices import push
from tests.component.watching import context_of, outbox
from tests.conftest import FakeClock
from tests.support import eventually, price, prices, rows, value

_OPEN = """
INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
VALUES (%s, %s, 'test', 'USD', 1000, now())
"""
#: The prices of these two are stale.
_PRICES = """
prices AS MATERIALIZED (
  SELECT symbol, currency, last, symbol IN ('SAP', 'SONY') AS stale FROM valuation.last_prices_v1
)
"""
_HOLD = "INSERT INTO orders.positions VALUES (%s, %s, %s, %s, now())"


@dataclass
class Market:
    marketdata: ServiceContext
    orders: ServiceContext
    valuation: ServiceContext
    clock: FakeClock

    def hold(self, symbol: str, qty: str = "10") -> UUID:
        account = uuid4()
        with self.orders.engine.begin() as connection:
            connection.exec_driver_sql(_OPEN, (account, str(account)))
            connection.exec_driver_sql(_HOLD, (account, symbol, Decimal(qty), Decimal(qty) * 100))
        return account

    def price(self, symbol: str, last: str) -> None:
        """Store the price, and let valuation handle the event about it."""
        push(self.marketdata, {symbol: last})
        with self.valuation.unit_of_work() as uow:
            actors.value_holders(prices(price(symbol, last, at=self.clock.now)), uow)
        self.clock.move(milliseconds=1)

    def published(self) -> list[dict[UUID, Decimal]]:
        """The equities of each event."""
        events = [sent.body["values"] for sent in outbox(self.valuation)]
        return [{UUID(each["account_id"]): Decimal(each["equity"]) for each in event} for event in events]


@pytest.fixture
def market(urls: dict[str, str], clock: FakeClock) -> Iterator[Market]:
    with (
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
        context_of("valuation", urls, clock) as valuation,
    ):
        prepare(marketdata)
        yield Market(marketdata, orders, valuation, clock)


def test_a_burst_of_prices_is_two_events(market: Market) -> None:
    """The first price is published at once. The later ones wait, and their last values are one event."""
    first, second = market.hold("AAPL"), market.hold("IBM")
    for number in range(20):
        market.price("AAPL", str(100 + number))
        market.price("IBM", str(50 + number))
    assert market.published() == [{first: Decimal(2000)}]
    market.clock.move(seconds=PAUSE.total_seconds())
    market.price("AAPL", "120")
    assert market.published()[1:] == [{first: Decimal(2200), second: Decimal(1690)}]
    assert value(market.valuation.engine, "SELECT count(*) FROM valuation.changed_symbols") == 0


def test_what_waited_is_published_without_another_price(market: Market) -> None:
    """A thread of the process does it, and finds what another process left behind too."""
    holder = market.hold("AAPL")
    market.price("AAPL", "100")
    market.price("AAPL", "101")
    market.clock.move(seconds=1)
    thread = LiveValues(market.valuation)
    thread.start()
    try:
        eventually(lambda: len(market.published()) == 2, what="the value is published")
    finally:
        thread.stop()
    assert market.published()[1] == {holder: Decimal(2010)}


def test_a_clock_that_went_back_holds_nothing_up(market: Market) -> None:
    """The last publication then lies far ahead. The price of an earlier time is refused, and the value published."""
    holder = market.hold("AAPL")
    market.price("AAPL", "100")
    market.clock.move(hours=-1)
    market.price("AAPL", "102")
    assert market.published()[1:] == [{holder: Decimal(2000)}]


def test_the_grouped_values_are_those_of_the_view(market: Market) -> None:
    """Long, short, fractional, without a price, a rate or a position: the same figures, however many are asked for.

    A stale position counts also where it has no rate and so no value.
    """
    for symbol, qty in (("AAPL", "1.5"), ("IBM", "-4"), ("MSFT", "3")):
        market.hold(symbol, qty)
    with market.orders.engine.begin() as connection:
        connection.exec_driver_sql(_OPEN, (uuid4(), "flat"))
    with market.marketdata.engine.begin() as connection:
        added = [Instrument("SAP", "SAP", currency="EUR"), Instrument("SONY", "Sony", currency="JPY")]
        add_instruments(connection, [*added, Instrument("EUR/USD", "Euro")])
    in_euros, without_rate = (market.hold(symbol, "2.5") for symbol in ("SAP", "SONY"))
    push(market.marketdata, {"AAPL": "10.01", "IBM": "50", "SAP": "33.33", "SONY": "3000", "EUR/USD": "1.1111"})
    names = "account_id, cash, long_value, short_value, equity, market_value, unrealized_pl, positions"
    one = rows(market.valuation.engine, f"SELECT {names} FROM valuation.account_values_v1 ORDER BY 1")
    assert rows(market.valuation.engine, f"SELECT {names} FROM ({TOTALS}) t ORDER BY 1") == one
    stale = f"WITH {_PRICES} SELECT {names}, stale_positions FROM ({TOTALS_AND_STALE}) t ORDER BY 1"
    of_all = rows(market.valuation.engine, stale)
    assert [row[:-1] for row in of_all] == [tuple(row) for row in one]
    assert {row.account_id for row in of_all if row.stale_positions == 1} == {in_euros, without_rate}
    assert {row.equity for row in one} == {*map(Decimal, ("1015.02", "800", "1000", "1092.58"))}
