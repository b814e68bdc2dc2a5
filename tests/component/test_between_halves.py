"""Between the two halves of a split, marketdata's of the price and that of orders, nobody mixes old and new shares."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from services.orders.usecases.margin import check_margins
from services.valuation import summaries, values
from shared.bus.retries import TryAgainLater
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.test_corporate_actions import applied, apply, enter
from tests.support import rows


def equity(exchange: Exchange, account: UUID) -> Decimal:
    with exchange.valuation.engine.connect() as connection:
        (value,) = values.values_of(connection, [account])
    return value.equity


def position(exchange: Exchange, account: UUID) -> tuple[Decimal, Decimal, Decimal]:
    """(shares, last price, value)."""
    statement = "SELECT qty, last, value FROM valuation.current_positions_v1 WHERE account_id = :account"
    (row,) = rows(exchange.valuation.engine, statement, account=account)
    return row.qty, row.last, row.value


def summarize(exchange: Exchange) -> None:
    """Keep a summary of each account, as the job update_positions does."""
    exchange.clock.move(seconds=1)
    with exchange.valuation.unit_of_work() as uow:
        summaries.snapshot(uow.connection, uuid4(), uow.now)


def holder(exchange: Exchange, text: str = "buy 90 AAPL market", /, **settings: object) -> UUID:
    account = exchange.open("10000", **settings)
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, text)
    exchange.price("AAPL 100/100 100")
    return account


@pytest.mark.parametrize("ratio", ["4", "0.1", "0.333333333", "1.5"])
@pytest.mark.parametrize("text", ["buy 90 AAPL market", "sell 90 AAPL market"])
def test_an_account_is_worth_the_same_before_between_and_after(exchange: Exchange, ratio: str, text: str) -> None:
    """The last price counts as one of the shares that the position has."""
    account = holder(exchange, text, **MARGIN)
    before = position(exchange, account)
    enter(exchange, "split", ratio)
    assert position(exchange, account) == before
    assert equity(exchange, account) == 10000
    event = applied(exchange)[-1]
    apply(exchange, event)
    qty, last, value = position(exchange, account)
    assert (qty, value) == (before[0] * (event.new_shares or 0) / (event.old_shares or 1), before[2])
    assert last != before[1]
    assert equity(exchange, account) == 10000


def test_several_actions_on_their_way_count_together(exchange: Exchange) -> None:
    """Two splits and a dividend, of which orders has handled none, then one, then two."""
    account = holder(exchange)
    before = position(exchange, account)
    for kind, figure in (("split", "4"), ("dividend", "1"), ("split", "0.5")):
        enter(exchange, kind, figure)
    assert position(exchange, account) == before
    for event, last in zip(applied(exchange), (25, 25, 50), strict=True):
        apply(exchange, event)
        qty, price, value = position(exchange, account)
        assert price == last
        assert qty * price == value == 9000


def test_no_false_peak_blocks_an_account_by_its_drawdown(exchange: Exchange) -> None:
    """A reverse split multiplies the price. A summary between the halves once had a peak of ten times the equity."""
    account = holder(exchange, limits={"max_drawdown": "0.2"})
    enter(exchange, "split", "0.1")
    summarize(exchange)
    apply(exchange, applied(exchange)[-1])
    summarize(exchange)
    peak = rows(exchange.valuation.engine, "SELECT max(equity) AS peak FROM valuation.account_summaries_v1")
    assert peak[0].peak == 10000
    exchange.price("AAPL 1000/1000 1000", split_count=1)
    order = exchange.submit(account, "buy 1 IBM limit", limit_price="10")
    assert exchange.status(order) == "accepted"


def test_no_limit_on_losses_is_reached_between_the_halves(exchange: Exchange) -> None:
    """A quarter of the price on the old shares would be a loss of two thirds."""
    account = holder(exchange, limits={"max_drawdown": "0.2"})
    summarize(exchange)
    enter(exchange, "split", "4")
    order = exchange.submit(account, "buy 1 IBM limit", limit_price="10")
    assert exchange.status(order) == "accepted"


@pytest.mark.parametrize(("ratio", "text"), [("4", "buy 190 AAPL market"), ("0.1", "sell 90 AAPL market")])
def test_nobody_is_called_between_the_halves(exchange: Exchange, ratio: str, text: str) -> None:
    """Neither who holds shares on credit nor who is short. Once, a false call sold 1,500 shares."""
    account = holder(exchange, text, **MARGIN, margin_grace=0)
    enter(exchange, "split", ratio)
    held = exchange.held(account)
    for _ in range(2):
        with exchange.orders.unit_of_work() as uow:
            assert check_margins(uow) == {"called": 0, "met": 0, "liquidated": 0}
    apply(exchange, applied(exchange)[-1])
    with exchange.orders.unit_of_work() as uow:
        assert check_margins(uow)["called"] == 0
    assert exchange.held(account) == held * Decimal(ratio)


def test_a_call_that_is_due_is_liquidated_after_the_split(exchange: Exchange) -> None:
    """An order for old shares would sell a quarter of the new ones, or more than there are."""
    account = holder(exchange, "buy 190 AAPL market", **MARGIN, margin_grace=0)
    exchange.price("AAPL 60/60 60")
    with exchange.orders.unit_of_work() as uow:
        assert check_margins(uow)["called"] == 1
    enter(exchange, "split", "4")
    with exchange.orders.unit_of_work() as uow:
        assert check_margins(uow)["liquidated"] == 0
    apply(exchange, applied(exchange)[-1])
    exchange.clock.move(seconds=1)
    with exchange.orders.unit_of_work() as uow:
        assert check_margins(uow)["liquidated"] == 1
    (order,) = rows(exchange.orders.engine, "SELECT side, qty FROM orders.orders o WHERE o.is_open")
    assert (order.side, order.qty, exchange.held(account)) == ("sell", 760, 760)


def test_an_order_waits_for_the_books(exchange: Exchange) -> None:
    """It is of new shares, which the account does not have yet. Orders in other symbols do not wait."""
    account = holder(exchange)
    enter(exchange, "split", "4")
    with pytest.raises(TryAgainLater, match="AAPL"):
        exchange.submit(account, "sell 360 AAPL market")
    exchange.submit(account, "buy 1 IBM limit", limit_price="10")
    apply(exchange, applied(exchange)[-1])
    order = exchange.submit(account, "sell 360 AAPL market")
    assert exchange.status(order) == "accepted"


def test_an_order_does_not_wait_for_ever(exchange: Exchange) -> None:
    """The message about the split may have become a dead letter. The rejection says what it waits for."""
    account = holder(exchange)
    enter(exchange, "split", "4")
    asked_at = exchange.clock.now
    exchange.clock.move(seconds=10)
    order = exchange.submit(account, "sell 90 AAPL market", submitted_at=asked_at)
    assert (exchange.status(order), exchange.reason(order)) == ("rejected", "not_tradable")
    assert "wait for a split or dividend of AAPL" in exchange.order(order).reject_message


def test_a_replacement_waits_for_the_books(exchange: Exchange) -> None:
    """Its numbers are of new shares, and those of the order that it replaces are of old ones."""
    account = holder(exchange)
    stop = exchange.submit(account, "sell 90 AAPL stop", stop_price="80")
    enter(exchange, "split", "4")
    with pytest.raises(TryAgainLater, match="AAPL"):
        exchange.replace(account, stop, stop_price=Decimal(21))
    apply(exchange, applied(exchange)[-1])
    new = exchange.replace(account, stop, stop_price=Decimal(21))
    assert (exchange.order(new).qty, exchange.order(new).stop_price) == (360, 21)
