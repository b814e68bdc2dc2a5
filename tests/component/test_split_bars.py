"""Bars are stored as they were traded, and read in today's shares."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.strategy.persistence import market
from shared.storage.engine import make_engine
from tests.component.paper_exchange import Exchange
from tests.component.test_corporate_actions import enter
from tests.support import rows

_STORE = """
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
VALUES ('AAPL', '1m', %s, %s, %s, %s, %s, %s, 'test')
"""


def bar(exchange: Exchange, close: str, volume: str = "1000") -> None:
    """Store a minute of AAPL that begins now, and let the minute go by."""
    with exchange.marketdata.engine.begin() as connection:
        numbers = [Decimal(close)] * 4
        connection.exec_driver_sql(_STORE, (exchange.clock.now, *numbers, Decimal(volume)))
    exchange.clock.move(minutes=1)


def read(exchange: Exchange, version: int) -> list[tuple[Any, ...]]:
    """(close, volume) of each bar in the view of that version, by time."""
    statement = f"SELECT * FROM marketdata.bars_v{version} WHERE symbol = 'AAPL' ORDER BY start_at"
    found = rows(exchange.valuation.engine, statement)
    assert all(row.open == row.high == row.low == row.close for row in found)
    return [(row.close, row.volume) for row in found]


def test_bars_from_before_splits_are_read_in_todays_shares(exchange: Exchange) -> None:
    """A split of 4 for 1, and later one of 1 for 3. What was traded stays stored. A dividend changes no bar."""
    bar(exchange, "120")
    enter(exchange, "split", "4")
    bar(exchange, "30", "4000")
    enter(exchange, "split", "0.333333333")
    enter(exchange, "dividend", "1")
    bar(exchange, "90")
    assert read(exchange, 1) == [(120, 1000), (30, 4000), (90, 1000)]
    assert read(exchange, 2) == [(90, Decimal("1333.333333333")), (90, Decimal("1333.333333333")), (90, 1000)]


def test_a_split_that_has_not_taken_effect_changes_no_bar(exchange: Exchange) -> None:
    """Prices keep the digits that they have."""
    bar(exchange, "120.50")
    enter(exchange, "split", "4", minutes=5)
    assert read(exchange, 2) == [(Decimal("120.50"), 1000)]


def test_a_price_of_another_number_of_digits_is_rounded_to_nine_decimals(exchange: Exchange) -> None:
    """A third of 100."""
    bar(exchange, "100")
    enter(exchange, "split", "3")
    assert read(exchange, 2) == [(Decimal("33.333333333"), 3000)]


@pytest.mark.parametrize("ratio", ["4", "0.1"])
def test_a_strategy_sees_no_jump_at_a_split(exchange: Exchange, urls: dict[str, str], ratio: str) -> None:
    """Its averages once fell with the price per share, and it sold on that signal."""
    for _ in range(3):
        bar(exchange, "100")
    enter(exchange, "split", ratio)
    bar(exchange, str(Decimal(100) / Decimal(ratio)))
    engine = make_engine(urls["strategy"], name="strategy", pool_size=1)
    with engine.connect() as connection:
        now = exchange.clock.now + timedelta(minutes=2)
        (bars,) = market.bars(connection, {("AAPL", "1m"): (5, None)}, now).values()
    engine.dispose()
    assert {each.close for each in bars} == {Decimal(100) / Decimal(ratio)}
    assert len(bars) > 1
