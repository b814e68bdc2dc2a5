"""Prices that orders missed while it was down are made up for: from stored bars, in order, and once."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from services.orders.persistence import quotes
from services.orders.usecases import catch_up as recovery
from services.orders.usecases.catch_up import catch_up
from services.orders.usecases.execute import fill_on
from shared.contracts.prices import PricesUpdated
from tests.component.paper_exchange import Exchange
from tests.support import broken_invariants, price, value


def nothing(_done: int, _of: int) -> None:
    """Progress that nobody asks for."""


def recover(exchange: Exchange) -> int:
    filled = catch_up(exchange.orders, nothing)
    assert broken_invariants(exchange.orders.engine) == {}
    return filled


@pytest.fixture
def account(exchange: Exchange) -> UUID:
    """It fills inside of bars. The price was 100 when orders was last there."""
    account = exchange.open(fills={"fills_on": "bar"})
    exchange.price("AAPL 100/100 100")
    return account


def test_missed_bars_fill_what_would_have_filled(exchange: Exchange, account: UUID) -> None:
    """One was traded through in the second minute, one is bought at the first open, and one never."""
    low = exchange.submit(account, "buy 10 AAPL limit", limit_price="91")
    market = exchange.submit(account, "buy 1 AAPL market")
    never = exchange.submit(account, "buy 10 AAPL limit", limit_price="80")
    exchange.missed([("101", "104", "99", "103"), ("103", "103", "90", "95"), ("95", "99", "94", "98")])
    assert recover(exchange) == 2
    assert exchange.fills(low) == [(Decimal(10), Decimal(91))]
    assert exchange.fills(market) == [(Decimal(1), Decimal("101.0101"))]
    assert exchange.status(never) == "accepted"
    assert recover(exchange) == 0


def test_a_bar_that_began_before_an_order_does_not_fill_it(exchange: Exchange, account: UUID) -> None:
    """It came while the others were stored. Only what follows it counts."""
    exchange.missed([("100", "101", "90", "95")])
    late = exchange.submit(account, "buy 10 AAPL limit", limit_price="91")
    exchange.missed([("95", "96", "94", "95"), ("95", "96", "94", "95")])
    assert recover(exchange) == 0
    assert exchange.status(late) == "accepted"


def test_an_order_of_the_day_fills_on_bars_before_its_end_and_expires_after_it(
    exchange: Exchange, account: UUID
) -> None:
    """Orders was down over midnight, when the demo market's day ends."""
    exchange.clock.now = exchange.clock.now.replace(hour=23, minute=50)
    exchange.price("AAPL 100/100 100")
    fills, ends = (
        exchange.submit(account, "buy 1 AAPL limit", limit_price=limit, time_in_force="day") for limit in ("96", "92")
    )
    minutes = [("100", "100", "95", "99")] * 9 + [("99", "99", "90", "90")] * 9
    exchange.missed(minutes)
    assert recover(exchange) == 1
    assert exchange.expire() == 1
    assert (exchange.status(fills), exchange.status(ends)) == ("filled", "expired")


def test_an_order_of_the_day_fills_on_the_last_bar_of_its_session(exchange: Exchange, account: UUID) -> None:
    """It starts at a minute to midnight and is quoted at midnight, which is the order's end."""
    exchange.clock.now = exchange.clock.now.replace(hour=23, minute=50)
    exchange.price("AAPL 100/100 100")
    buying = exchange.submit(account, "buy 1 AAPL limit", limit_price="92", time_in_force="day")
    exchange.missed([("100", "100", "95", "99")] * 8 + [("99", "99", "91", "95"), ("95", "95", "90", "90")])
    assert recover(exchange) == 1
    assert exchange.fills(buying) == [(Decimal(1), Decimal(92))]


def test_the_bar_of_a_price_that_has_become_stale_is_made_up_for(exchange: Exchange, account: UUID) -> None:
    """The market closed with it, so no later price comes. The sweep fills nothing on a stale price."""
    buying = exchange.submit(account, "buy 10 AAPL limit", limit_price="91")
    exchange.missed([("100", "101", "95", "96"), ("96", "97", "90", "94")])
    with exchange.marketdata.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE marketdata.instruments SET quoted_at = quoted_at - interval '1 minute', sequence = sequence - 1 "
            "WHERE symbol = 'AAPL'"
        )
    exchange.clock.move(seconds=59)
    assert recover(exchange) == 0
    exchange.clock.move(minutes=10)
    assert (recover(exchange), exchange.sweep()) == (1, 0)
    assert exchange.fills(buying) == [(Decimal(10), Decimal(91))]
    assert recover(exchange) == 0


def test_each_bar_has_its_own_volume_to_take_from(exchange: Exchange) -> None:
    """A tenth of a thousand shares in each of three minutes, although none of them has a sequence of its own."""
    account = exchange.open(fills={"fills_on": "bar", "participation": "0.1"})
    exchange.price("AAPL 100/100 100")
    buying = exchange.submit(account, "buy 250 AAPL limit", limit_price="101")
    exchange.missed([("100", "101", "99", "100")] * 3)
    assert recover(exchange) == 3
    assert [qty for qty, _ in exchange.fills(buying)] == [100, 100, 50]


def test_two_that_recover_at_once_apply_no_bar_after_a_later_one(exchange: Exchange, account: UUID) -> None:
    """The other read the same bars, and comes when all are applied: a stop that has followed since is not reached."""
    exchange.submit(account, "buy 10 AAPL market")
    exchange.price("AAPL 100/100 100")
    stop = exchange.submit(account, "sell 10 AAPL trailing_stop", trail_price="20")
    exchange.missed([("100", "101", "95", "100"), ("112", "130", "112", "129"), ("129", "130", "128", "129")])
    with exchange.orders.engine.begin() as connection:
        read_before = quotes.missed_bars(connection, exchange.clock.now - timedelta(minutes=2))
    assert recover(exchange) == 0
    for bar in read_before[:2]:
        with exchange.orders.unit_of_work() as uow:
            assert fill_on(uow, [bar], at=bar.quoted_at) == 0
    assert exchange.status(stop) == "accepted"
    applied = value(exchange.orders.engine, "SELECT quoted_at FROM orders.quotes WHERE symbol = 'AAPL'")
    assert applied == read_before[-1].quoted_at


def test_a_long_outage_is_made_up_for_in_parts(
    exchange: Exchange, account: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all bars are read at once. None is left out, and the progress counts those that are known."""
    monkeypatch.setattr(quotes, "BARS_AT_ONCE", 2)
    buying = exchange.submit(account, "buy 10 AAPL limit", limit_price="91")
    exchange.missed([("100", "101", "95", "96")] * 4 + [("96", "96", "90", "92")])
    said: list[tuple[int, int]] = []
    assert catch_up(exchange.orders, lambda done, of: said.append((done, of))) == 1
    assert exchange.fills(buying) == [(Decimal(10), Decimal(91))]
    assert said == [(1, 2), (2, 2), (3, 4), (4, 4), (5, 5)]


def test_events_that_come_after_all_go_first(exchange: Exchange, account: UUID) -> None:
    """The queue kept them: the bars before them are not applied any more, and nothing fills twice."""
    buying = exchange.submit(account, "buy 10 AAPL limit", limit_price="91")
    exchange.missed([("100", "101", "90", "95")] * 3)
    late = price("AAPL", "95", at=exchange.clock.now, sequence=exchange.sequences["AAPL"])
    exchange.handle(PricesUpdated(prices=(late,), at=exchange.clock.now))
    assert recover(exchange) == 0
    assert exchange.status(buying) == "accepted"


def test_an_event_that_is_late_fills_and_one_that_was_stale_does_not(exchange: Exchange, account: UUID) -> None:
    """It waited for ten minutes in the queue. The other's price was ten minutes old when it became known."""
    first, second = exchange.submit(account, "buy 1 AAPL market"), exchange.submit(account, "buy 1 IBM market")
    quoted = exchange.clock.move(seconds=1)
    exchange.clock.move(minutes=10)
    exchange.handle(PricesUpdated(prices=(price("AAPL", "100", at=quoted, sequence=2),), at=quoted))
    stale = price("IBM", "100", at=quoted, sequence=1)
    exchange.handle(PricesUpdated(prices=(stale,), at=quoted + timedelta(minutes=10)))
    assert (exchange.status(first), exchange.status(second)) == ("filled", "accepted")


def test_a_recovery_that_is_killed_goes_on_where_it_was(
    exchange: Exchange, account: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the second of three bars. The order that the third fills fills once."""
    buying = exchange.submit(account, "buy 10 AAPL limit", limit_price="91")
    exchange.missed([("100", "101", "95", "96"), ("96", "97", "93", "94"), ("94", "94", "90", "92")])
    seen: list[object] = []

    def dying(*given: object, **more: object) -> int:
        seen.append(given)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return fill_on(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "fill_on", dying)
    with pytest.raises(KeyboardInterrupt):
        catch_up(exchange.orders, nothing)
    monkeypatch.undo()
    applied = value(exchange.orders.engine, "SELECT quoted_at FROM orders.quotes WHERE symbol = 'AAPL'")
    assert applied == exchange.clock.now - timedelta(minutes=2)
    assert recover(exchange) == 1
    assert exchange.fills(buying) == [(Decimal(10), Decimal(91))]
