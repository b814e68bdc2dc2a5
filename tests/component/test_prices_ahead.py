"""A price with a sequence or a split count far ahead of marketdata's own is dropped, and shuts out no later price."""

from datetime import timedelta
from decimal import Decimal

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.contracts.prices import SEQUENCES_AHEAD, Price, PricesUpdated
from tests.component.paper_exchange import Exchange
from tests.support import price

MOST = 2**63 - 1


def early() -> float:
    return REGISTRY.get_sample_value("paperprofit_updates_early_total", {"consumer": "orders.prices"}) or 0


def forged(exchange: Exchange, sequence: int, **fields: int) -> Price:
    return price("AAPL", "1", at=exchange.clock.now, sequence=sequence).model_copy(update=fields)


@pytest.mark.parametrize("sequence", [MOST, 2**40, SEQUENCES_AHEAD + 2])
@pytest.mark.parametrize("known", [True, False])
def test_a_price_far_ahead_is_dropped_and_shuts_out_no_later_price(
    exchange: Exchange, sequence: int, *, known: bool
) -> None:
    """It fills nothing, is counted and logged once, and the next real price fills: also where it is the first."""
    account = exchange.open()
    if known:
        exchange.price("AAPL 99/101 100")
    buying = exchange.submit(account, "buy 1 AAPL market")
    before = early()
    with capture_logs() as lines:
        ibm = price("IBM", "5", at=exchange.clock.now)
        exchange.handle(PricesUpdated(prices=(forged(exchange, sequence), ibm), at=exchange.clock.now))
    assert [(line["event"], line["symbols"]) for line in lines if "symbols" in line] == [
        ("prices far ahead of marketdata's sequence were dropped", ["AAPL"])
    ]
    assert (exchange.status(buying), early() - before) == ("accepted", 1)
    exchange.price("AAPL 99/101 100")
    assert exchange.fills(buying) == [(1, Decimal(101))]


@pytest.mark.parametrize("field", ["quoted_at", "since", "bar_start"])
def test_a_price_with_any_time_ahead_is_dropped(exchange: Exchange, field: str) -> None:
    """The times of the bar count too: orders compare their own with them."""
    account = exchange.open()
    buying = exchange.submit(account, "buy 1 AAPL market")
    tomorrow = exchange.clock.now + timedelta(days=1)
    exchange.handle(PricesUpdated(prices=(forged(exchange, 1).model_copy(update={field: tomorrow}),)))
    assert exchange.status(buying) == "accepted"
    exchange.price("AAPL 99/101 100")
    assert exchange.status(buying) == "filled"


def test_a_split_count_far_ahead_is_dropped_where_no_price_was_before(exchange: Exchange) -> None:
    """The real prices of the shares that exist are applied."""
    account = exchange.open()
    buying = exchange.submit(account, "buy 1 AAPL market")
    exchange.handle(PricesUpdated(prices=(forged(exchange, 1, split_count=2**31 - 1),), at=exchange.clock.now))
    assert exchange.status(buying) == "accepted"
    exchange.price("AAPL 99/101 100")
    assert exchange.status(buying) == "filled"


def test_many_small_steps_ahead_give_way_to_the_price_that_marketdata_has(exchange: Exchange) -> None:
    """Each is within the bound of the one before, but marketdata's own row says which price is the newest."""
    account = exchange.open()
    exchange.price("AAPL 99/101 100")
    for step in (1, 2, 3):
        exchange.handle(PricesUpdated(prices=(forged(exchange, step * SEQUENCES_AHEAD),), at=exchange.clock.now))
    buying = exchange.submit(account, "buy 1 AAPL market")
    exchange.price("AAPL 99/101 100")
    exchange.price("AAPL 99/101 100")
    assert exchange.fills(buying) == [(1, Decimal(101))]


def test_an_honest_gap_of_any_length_is_applied(exchange: Exchange) -> None:
    """After a long outage of orders, marketdata has counted far: its own row has the price's sequence."""
    account = exchange.open()
    exchange.price("AAPL 99/101 100")
    exchange.sequences["AAPL"] += 50 * SEQUENCES_AHEAD
    exchange.clock.now += timedelta(days=30)
    buying = exchange.submit(account, "buy 1 AAPL market")
    exchange.price("AAPL 99/101 100")
    assert exchange.status(buying) == "filled"


@pytest.mark.parametrize("field", ["sequence", "split_count"])
def test_a_count_beyond_its_column_is_no_price(field: str) -> None:
    """The database could not store it."""
    given = price("AAPL", "1").model_dump(mode="json")
    with pytest.raises(ValueError, match="less than or equal"):
        Price.model_validate({**given, field: 2**63})
