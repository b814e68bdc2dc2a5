"""Interest, margin calls and liquidation."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from services.orders.persistence.accounts import lock_accounts
from services.orders.persistence.orders import lock_open_orders
from services.orders.usecases.expire import end_orders
from services.orders.usecases.margin import charge_interest, check_margins
from shared.contracts.reasons import CancelReason
from shared.storage.errors import is_transient
from tests.component.paper_exchange import MARGIN, Exchange
from tests.support import broken_invariants, rows


def check(exchange: Exchange) -> dict[str, int]:
    exchange.clock.move(seconds=1)
    with exchange.orders.unit_of_work() as uow:
        done = check_margins(uow)
    assert broken_invariants(exchange.orders.engine) == {}
    return done


def charge(exchange: Exchange, day: date) -> int:
    with exchange.orders.unit_of_work() as uow:
        count = charge_interest(uow, day)
    assert broken_invariants(exchange.orders.engine) == {}
    return count


def said(exchange: Exchange, account: UUID, event: str) -> list[dict[str, Any]]:
    return [body for name, body in exchange.said(account) if name == event]


@pytest.fixture
def leveraged(exchange: Exchange) -> UUID:
    """190 shares at 100 on 10,000 of its own. At 60 its equity is a fifth of them."""
    account = exchange.open("10000", multiplier=2, margin_grace=1)
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, "buy 190 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100")
    return account


def test_an_account_is_called_once_and_the_call_ends_when_it_is_met(exchange: Exchange, leveraged: UUID) -> None:
    """A rise of the price meets it here. 25 % of the long value is required."""
    assert check(exchange) == {"called": 0, "met": 0, "liquidated": 0}
    exchange.price("AAPL 60/60 60")
    assert [check(exchange)["called"] for _ in range(2)] == [1, 0]
    (called,) = said(exchange, leveraged, "MarginCalled")
    assert (called["equity"], called["required"]) == ("2400.00", "2850.00")
    exchange.price("AAPL 90/90 90")
    assert check(exchange) == {"called": 0, "met": 1, "liquidated": 0}
    assert [body["how"] for body in said(exchange, leveraged, "MarginCallEnded")] == ["met"]
    assert exchange.held(leveraged) == 190


def test_a_call_that_nobody_answers_closes_everything(exchange: Exchange, leveraged: UUID) -> None:
    """After the grace: open orders are canceled, what is held is sold at the market, once."""
    resting = exchange.submit(leveraged, "buy 1 AAPL limit", limit_price="1")
    exchange.price("AAPL 60/60 60")
    check(exchange)
    exchange.clock.move(hours=1)
    assert [check(exchange)["liquidated"] for _ in range(2)] == [1, 0]
    assert (exchange.status(resting), exchange.reason(resting)) == ("canceled", "margin_call")
    exchange.price("AAPL 60/60 60")
    assert exchange.held(leveraged) == 0
    assert exchange.account(leveraged).cash == 2400
    assert check(exchange)["met"] == 1
    found = rows(exchange.orders.engine, "SELECT how FROM orders.margin_calls")
    assert [row.how for row in found] == ["liquidated"]


def test_a_short_account_is_called_when_the_price_rises(exchange: Exchange) -> None:
    """30 % of what is short is required."""
    account = exchange.open("10000", **MARGIN)
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, "sell 150 AAPL market")
    exchange.price("AAPL 100/100 100")
    exchange.price("AAPL 120/120 120")
    assert check(exchange)["called"] == 0
    exchange.price("AAPL 140/140 140")
    assert check(exchange)["called"] == 1
    (called,) = said(exchange, account, "MarginCalled")
    assert (called["equity"], called["required"]) == ("4000.00", "6300.00")


def test_a_short_account_that_may_sell_short_no_more_is_called_all_the_same(exchange: Exchange) -> None:
    """It still owes the shares."""
    account = exchange.open("10000", **MARGIN)
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, "sell 150 AAPL market")
    exchange.price("AAPL 100/100 100")
    exchange.configure(account, borrow_rate="36.5")
    exchange.price("AAPL 140/140 140")
    assert check(exchange)["called"] == 1
    assert charge(exchange, date(2026, 11, 25)) == 1


def test_a_loan_is_not_lost_with_the_margin(exchange: Exchange, leveraged: UUID) -> None:
    """A multiple of one for what is to come does not pay back what is owed."""
    exchange.configure(leveraged, loan_rate="7.3")
    assert charge(exchange, date(2026, 11, 25)) == 1
    exchange.price("AAPL 60/60 60")
    assert check(exchange)["called"] == 1


def test_a_call_of_an_account_with_nothing_left_ends(exchange: Exchange, leveraged: UUID) -> None:
    """Everything was closed at a loss beyond its equity: there is nothing more to call for."""
    exchange.price("AAPL 60/60 60")
    check(exchange)
    exchange.clock.move(hours=1)
    exchange.price("AAPL 40/40 40")
    check(exchange)
    exchange.price("AAPL 40/40 40")
    assert (exchange.held(leveraged), exchange.account(leveraged).cash) == (0, -1400)
    assert [check(exchange) for _ in range(2)] == [
        {"called": 0, "met": 1, "liquidated": 0},
        {"called": 0, "met": 0, "liquidated": 0},
    ]


def test_interest_is_charged_once_a_day_on_what_is_lent(exchange: Exchange) -> None:
    """It is on the value of borrowed shares and on cash that is owed, rounded up. Who borrows nothing pays nothing."""
    owing = exchange.open("10000", multiplier=2, loan_rate="7.3")
    short = exchange.open("10000", borrow_rate="36.5", **MARGIN)
    exchange.open("10000", loan_rate="10")
    exchange.price("AAPL 100/100 100")
    exchange.submit(owing, "buy 150 AAPL limit", limit_price="100")
    exchange.submit(short, "sell 50 AAPL market")
    exchange.price("AAPL 100/100 100")
    today, tomorrow = date(2026, 11, 25), date(2026, 11, 26)
    assert [charge(exchange, day) for day in (today, today, tomorrow)] == [2, 0, 2]
    assert exchange.account(owing).cash == Decimal(-5000) - 1 - Decimal("1.01")  # 1.0002 on what is owed by then
    assert exchange.account(short).cash == Decimal(15000) - 10
    assert [body["amount"] for body in said(exchange, short, "InterestCharged")] == ["5.00", "5.00"]


def test_an_order_waits_for_the_view_that_values_its_account(exchange: Exchange) -> None:
    """Valuation may not have published it yet. Its absence counts as transient, so the command is tried again."""
    account = exchange.open(**MARGIN)
    with exchange.valuation.engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW valuation.account_values_v1")
    with pytest.raises(psycopg.errors.UndefinedTable) as missing:
        exchange.submit(account)
    assert is_transient(missing.value)
    assert rows(exchange.orders.engine, "SELECT id FROM orders.orders") == []


def liquidating(exchange: Exchange, account: UUID) -> Any:
    """The open order of the margin call, once it is overdue."""
    exchange.price("AAPL 60/60 60")
    check(exchange)
    exchange.clock.move(hours=2)
    assert check(exchange)["liquidated"] == 1
    (row,) = open_orders(exchange, account)
    return row


def open_orders(exchange: Exchange, account: UUID) -> list[Any]:
    return rows(exchange.orders.engine, "SELECT * FROM orders.orders WHERE account_id = :a AND is_open", a=account)


def test_a_debtor_can_neither_cancel_nor_change_a_liquidation(exchange: Exchange, leveraged: UUID) -> None:
    """Nor does it expire. It fills with the next price."""
    order = liquidating(exchange, leveraged)
    exchange.cancel(leveraged, order.id)
    exchange.replace(leveraged, order.id, qty="1")
    exchange.expire(days=100)
    assert (order.liquidation, exchange.status(order.id)) == (True, "accepted")
    refused = said(exchange, leveraged, "CancelRejected") + said(exchange, leveraged, "ReplaceRejected")
    assert [body["reason"] for body in refused] == ["under_margin_call"] * 2
    exchange.price("AAPL 60/60 60")
    assert (exchange.held(leveraged), check(exchange)["met"]) == (0, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"limits": {"blocked_symbols": ["AAPL"]}},
        {"limits": {"allowed_symbols": ["IBM"]}},
        {"limits": {"max_order_qty": "1"}},
        {"limits": {"max_order_notional": "1"}},
        {"limits": {"orders_per_minute": 1}},
        {"limits": {"max_drawdown": "0.01"}},
        {"trading_blocked": True},
    ],
)
def test_no_setting_of_the_account_stops_a_liquidation(
    exchange: Exchange, leveraged: UUID, settings: dict[str, Any]
) -> None:
    """They protect a trader against orders, not against debts."""
    exchange.configure(leveraged, multiplier=2, margin_grace=1, **settings)
    liquidating(exchange, leveraged)
    exchange.price("AAPL 60/60 60")
    assert (exchange.held(leveraged), check(exchange)["met"]) == (0, 1)


def test_a_liquidation_sells_fractions_and_waits_for_its_market(exchange: Exchange) -> None:
    """A client's fraction is for the day only. Only the order of a margin call lasts."""
    account = exchange.open("10000", multiplier=2, margin_grace=1, fills={"participation": "1"})
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, "buy 190.5 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100", ask_size="1000")
    order = liquidating(exchange, account)
    exchange.expire(days=3)
    exchange.price("AAPL 60/60 60", bid_size="100")
    assert (exchange.held(account), exchange.status(order.id)) == (Decimal("90.5"), "partially_filled")
    assert check(exchange)["liquidated"] == 0
    exchange.price("AAPL 60/60 60", bid_size="100")
    assert exchange.held(account) == 0


def test_a_liquidation_that_ended_is_tried_again(exchange: Exchange, leveraged: UUID) -> None:
    """A split may leave nothing of it. The next check closes what is still held."""
    first = liquidating(exchange, leveraged)
    with exchange.orders.unit_of_work() as uow:
        uow.begin()
        accounts = lock_accounts(uow.connection, [leveraged])
        orders = lock_open_orders(uow.connection, [(leveraged, first.id)])
        end_orders(uow, orders, orders, accounts, CancelReason.SPLIT)
    assert check(exchange)["liquidated"] == 1
    (second,) = open_orders(exchange, leveraged)
    assert (second.id != first.id, second.qty) == (True, 190)
    exchange.price("AAPL 60/60 60")
    assert exchange.held(leveraged) == 0


def test_nothing_is_opened_while_a_call_is_overdue(exchange: Exchange, leveraged: UUID) -> None:
    """A closing order is taken until the liquidation holds all shares."""
    exchange.price("AAPL 60/60 60")
    check(exchange)
    early = exchange.submit(leveraged, "buy 1 IBM limit", limit_price="1")
    exchange.clock.move(hours=2)
    late, notional = exchange.submit(leveraged, "buy 1 IBM market"), exchange.submit(leveraged, notional=Decimal(5))
    closing = exchange.submit(leveraged, "sell 90 AAPL limit", limit_price="200")
    assert [exchange.reason(each) for each in (late, notional)] == ["under_margin_call"] * 2
    assert [exchange.reason(each) for each in (early, closing)] == ["insufficient_buying_power", None]
    assert check(exchange)["liquidated"] == 1
    assert exchange.reason(closing) == "margin_call"
    assert exchange.reason(exchange.submit(leveraged, "sell 1 AAPL market")) == "insufficient_shares"
