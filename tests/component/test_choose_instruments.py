"""The instruments that a poll asks for: those of markets that are due, the most wanted first."""

from datetime import date

import pytest

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.providers.provider import Listed
from services.marketdata.settings import PollSettings
from services.marketdata.usecases.choose_instruments import choose
from shared.contracts.instruments import AssetClass
from tests.component.auction_days import WEDNESDAY, at, move_to_new_york
from tests.component.paper_exchange import Exchange
from tests.component.scripted_prices import push
from tests.component.watching import context_of, statements
from tests.component.watchlist_rows import watch
from tests.conftest import FakeClock

AAPL, IBM, MSFT = (Listed(symbol, "XNYS", AssetClass.US_EQUITY, "USD") for symbol in ("AAPL", "IBM", "MSFT"))
BTC = Listed("BTC/USD", "24/7", AssetClass.CRYPTO, "USD")
LISTED = {AAPL: 0, BTC: 0, IBM: 0, MSFT: 0}
EVERY = PollSettings().intervals()
SATURDAY = date(2026, 11, 28)


@pytest.fixture
def priced(exchange: Exchange) -> Exchange:
    """Three shares in New York, whose open is at 14:30, and a coin. All have prices of an hour before."""
    move_to_new_york(exchange)
    with exchange.marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("BTC/USD", "Bitcoin", "24/7", "crypto")])
    at(exchange, "08:00")
    push(exchange.marketdata, {each.symbol: "100" for each in LISTED})
    return exchange


def chosen(exchange: Exchange, clock: str, day: date = WEDNESDAY) -> str:
    at(exchange, clock, day)
    return " ".join(each.symbol for each in choose(exchange.marketdata, EVERY, LISTED))


def test_each_market_has_the_interval_of_its_phase(priced: Exchange) -> None:
    """A minute in regular trading, five around it, half an hour while it is closed, and two hours on a weekend."""
    everything, coin = "AAPL BTC/USD IBM MSFT", "BTC/USD"
    assert chosen(priced, "09:05") == everything  # pre-market
    assert [chosen(priced, clock) for clock in ("09:06", "09:09", "09:10")] == [coin, coin, everything]
    assert [chosen(priced, clock) for clock in ("14:30", "14:31", "20:59")] == [everything] * 3
    assert [chosen(priced, clock) for clock in ("21:00", "21:03", "21:04")] == [coin, coin, everything]
    assert [chosen(priced, clock, date(2026, 11, 26)) for clock in ("03:00", "03:29", "03:30")] == [
        everything, coin, everything,
    ]  # fmt: skip
    assert [chosen(priced, clock, SATURDAY) for clock in ("12:00", "13:59", "14:00")] == [everything, coin, everything]


def test_a_symbol_without_a_price_is_asked_for_at_once(priced: Exchange) -> None:
    """Its market may not be due for two hours."""
    assert chosen(priced, "12:00", SATURDAY) == "AAPL BTC/USD IBM MSFT"
    with priced.marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("SPY", "S&P 500", "XNYS")])
    at(priced, "12:01", SATURDAY)
    spy = Listed("SPY", "XNYS", AssetClass.US_EQUITY, "USD")
    assert list(choose(priced.marketdata, EVERY, {**LISTED, spy: 0})) == [spy, BTC]


def test_a_symbol_that_a_stream_just_brought_is_not_asked_for(priced: Exchange) -> None:
    at(priced, "15:00")
    push(priced.marketdata, {"AAPL": "101"})
    assert chosen(priced, "15:00") == "BTC/USD IBM MSFT"
    assert chosen(priced, "15:01") == "BTC/USD IBM MSFT AAPL"


def test_prices_of_a_clock_that_was_ahead_are_asked_for_again(priced: Exchange) -> None:
    """The clock is put right by an hour."""
    at(priced, "16:00")
    push(priced.marketdata, {"AAPL": "101"})
    assert chosen(priced, "15:00") == "BTC/USD IBM MSFT AAPL"


def test_those_that_a_spent_limit_left_out_come_first_in_the_next_poll(priced: Exchange) -> None:
    """A list that is longer than the limit of a minute is polled in turns."""
    assert chosen(priced, "15:00") == "AAPL BTC/USD IBM MSFT"
    push(priced.marketdata, {"AAPL": "101", "BTC/USD": "101"})
    assert chosen(priced, "15:02") == "IBM MSFT AAPL BTC/USD"
    push(priced.marketdata, {"IBM": "101", "MSFT": "101"})
    assert chosen(priced, "15:04") == "AAPL BTC/USD IBM MSFT"


def test_held_and_ordered_symbols_come_first(priced: Exchange) -> None:
    """So a spent limit leaves out those that nobody waits for."""
    at(priced, "15:00")
    account = priced.open()
    priced.submit(account, symbol="MSFT")
    assert chosen(priced, "15:02") == "MSFT AAPL BTC/USD IBM"
    priced.price("MSFT 99/101 100")
    assert chosen(priced, "15:04") == "MSFT AAPL BTC/USD IBM"


def test_watched_symbols_come_after_those_of_traders_and_before_the_others(
    priced: Exchange, urls: dict[str, str], clock: FakeClock
) -> None:
    """A symbol that is both held and watched has its place among the held ones."""
    with context_of("gateway", urls, clock) as gateway:
        watched = watch(gateway, clock.now, "MSFT", "GONE")
        at(priced, "15:00")
        assert chosen(priced, "15:02") == "MSFT AAPL BTC/USD IBM"
        priced.submit(priced.open(), symbol="IBM")
        assert chosen(priced, "15:04") == "IBM MSFT AAPL BTC/USD"
        watch(gateway, clock.now, "IBM", "BTC/USD", watchlist_id=watched)
        assert chosen(priced, "15:06") == "IBM BTC/USD AAPL MSFT"


def test_the_number_of_statements_is_constant(priced: Exchange) -> None:
    with statements(priced.marketdata.engine) as few:
        chosen(priced, "15:00")
    with priced.marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument(f"S{number}", "x", "XNYS") for number in range(50)])
    with statements(priced.marketdata.engine) as many:
        chosen(priced, "15:02")
    assert len(few) == len(many) <= 7
