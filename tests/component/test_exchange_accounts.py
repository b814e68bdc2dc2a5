"""Margin, short selling, cash paid in and out, and an account that begins again."""

import json
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.orders.usecases.lookup import ClosedAccount
from shared.contracts.accounts import AccountSettings, CloseAccount, ConfigureAccount, MoveCash, ResetAccount
from tests.component.paper_exchange import MARGIN, Exchange
from tests.support import rows


def trades(exchange: Exchange, account: UUID) -> list[Any]:
    """(side, quantity, realised P&L) of the account's round trips."""
    sql = "SELECT side, qty, realized_pl FROM orders.round_trips WHERE account_id = :a ORDER BY closed_at, qty"
    return [(row.side, row.qty, row.realized_pl) for row in rows(exchange.orders.engine, sql, a=account)]


def test_a_margin_account_buys_twice_its_equity(exchange: Exchange) -> None:
    """And not a share more, also when what it holds has risen and fallen."""
    account = exchange.open("10000", multiplier=2)
    exchange.price("AAPL 100/100 100")
    bought = exchange.submit(account, "buy 190 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100")
    assert (exchange.status(bought), exchange.account(account).cash) == ("filled", -9000)
    assert exchange.reason(exchange.submit(account, "buy 11 IBM limit", limit_price="100")) is not None
    assert exchange.status(exchange.submit(account, "buy 9 IBM limit", limit_price="100")) == "accepted"
    exchange.price("AAPL 90/90 90")
    late = exchange.submit(account, "buy 1 IBM limit", limit_price="100")
    assert exchange.reason(late) == "insufficient_buying_power"


def test_a_short_sale_reserves_and_is_bought_back(exchange: Exchange) -> None:
    """Three percent above the ask is kept back. The round trip's profit is the fall of the price."""
    account = exchange.open("10000", **MARGIN)
    exchange.price("AAPL 99/100 100")
    short = exchange.submit(account, "sell 50 AAPL market")
    assert exchange.account(account).reserved == 5150
    exchange.price("AAPL 99/100 100")
    assert (exchange.status(short), exchange.held(account), exchange.account(account).cash) == ("filled", -50, 14_950)
    cover = exchange.submit(account, "buy 50 AAPL limit", limit_price="80")
    assert (exchange.order(cover).reserved, exchange.order(cover).held_for_orders) == (0, 50)
    exchange.price("AAPL 79/80 80")
    assert (exchange.held(account), exchange.account(account).cash) == (0, 10_950)
    assert trades(exchange, account) == [("short", 50, 950)]


def test_one_order_may_turn_a_position_around(exchange: Exchange) -> None:
    """Ten held and fifteen sold: a round trip of ten, and five short."""
    account = exchange.open(**MARGIN)
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, "sell 15 AAPL market")
    exchange.price("AAPL 110/110 110")
    assert exchange.held(account) == -5
    assert trades(exchange, account) == [("long", 10, 100)]
    exchange.submit(account, "buy 5 AAPL market")
    exchange.price("AAPL 120/120 120")
    assert trades(exchange, account) == [("long", 10, 100), ("short", 5, -50)]


def test_a_cash_account_never_sells_short(exchange: Exchange) -> None:
    """Nor does a fraction of a share, where shorting is allowed."""
    cash, margin = exchange.open(), exchange.open(**MARGIN)
    assert exchange.reason(exchange.submit(cash, "sell 1 AAPL market")) == "insufficient_shares"
    half = exchange.submit(margin, "sell 0.5 AAPL market")
    assert exchange.reason(half) == "fractional_short"


def test_cash_comes_in_and_goes_out_once(exchange: Exchange) -> None:
    """Cash that orders have reserved stays. A transfer that comes twice is booked once."""
    account = exchange.open("1000")
    exchange.submit(account, "buy 10 AAPL limit", limit_price="60")
    for amount, times in (("500", 2), ("-900", 2), ("-1", 1)):
        transfer = MoveCash(account_id=account, transfer_id=uuid4(), amount=Decimal(amount))
        for _ in range(times):
            exchange.handle(transfer)
    assert exchange.account(account).cash == 600
    assert [(name, body.get("reason")) for name, body in exchange.said(account)][1:] == [
        ("CashMoved", None),
        ("CashMoved", None),
        ("CashRefused", "insufficient_cash"),
    ]


def test_an_account_that_is_reset_begins_again(exchange: Exchange) -> None:
    """Nothing is open or held, P&L counts from now on, and what was stays under its generation."""
    account = exchange.open()
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    waiting = exchange.submit(account, "buy 1 AAPL limit", limit_price="50")
    command = ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(5000))
    for _ in range(2):
        exchange.handle(command)
    after = exchange.account(account)
    assert (after.cash, after.reserved, after.generation, exchange.held(account)) == (5000, 0, 2, 0)
    assert exchange.reason(waiting) == "reset"
    exchange.submit(account, "buy 2 AAPL market")
    exchange.price("AAPL 110/110 110")
    exchange.submit(account, "sell 2 AAPL market")
    exchange.price("AAPL 120/120 120")
    assert trades(exchange, account) == [("long", 2, 20)]
    generations = rows(
        exchange.orders.engine, "SELECT generation, count(*) AS n FROM orders.fills GROUP BY 1 ORDER BY 1"
    )
    assert [(row.generation, row.n) for row in generations] == [(1, 1), (2, 2)]
    assert exchange.account(account).cash == 5020


def test_every_later_command_for_a_closed_account_is_refused(exchange: Exchange) -> None:
    """Also orders of its strategies, which are on the way. Closing it twice is closing it once."""
    account = exchange.open(multiplier=2, shorting=True)
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    waiting = exchange.submit(account, "buy 1 AAPL limit", limit_price="50")
    for _ in range(2):
        exchange.handle(CloseAccount(account_id=account, closing_id=uuid4()))
    after = exchange.account(account)
    assert (after.status, after.cash, after.reserved, exchange.held(account)) == ("ACCOUNT_CLOSED", 0, 0, 0)
    assert exchange.reason(waiting) == "closed"
    late = exchange.submit(account, "buy 1 AAPL market", strategy_id=uuid4())
    assert (exchange.status(late), exchange.reason(late)) == ("rejected", "account_closed")
    exchange.handle(MoveCash(account_id=account, transfer_id=uuid4(), amount=Decimal(5)))
    exchange.handle(ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(5)))
    exchange.cancel(account, waiting)
    said = [(name, body.get("reason")) for name, body in exchange.said(account)]
    assert said[-5:] == [
        ("AccountClosed", None),
        ("OrderRejected", "account_closed"),
        ("CashRefused", "account_closed"),
        ("CashRefused", "account_closed"),
        ("CancelRejected", "not_cancelable"),
    ]
    with pytest.raises(ClosedAccount, match="is closed: use another account"):
        exchange.handle(ConfigureAccount(account_id=account, settings=AccountSettings(shorting=True)))
    assert exchange.account(account).cash == 0


def test_a_drop_from_the_peak_stops_new_positions(exchange: Exchange) -> None:
    """A tenth may be lost. Selling shares that are held stays free."""
    account = exchange.open("10000", limits={"max_drawdown": "0.1"})
    exchange.submit(account, "buy 90 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100")
    exchange.summarize(account, equity="10000")
    exchange.price("AAPL 90/90 90")
    assert exchange.status(exchange.submit(account, "buy 1 AAPL market")) == "accepted"
    exchange.price("AAPL 85/85 85")
    assert exchange.reason(exchange.submit(account, "buy 1 AAPL market")) == "drawdown"
    assert exchange.status(exchange.submit(account, "sell 90 AAPL market")) == "accepted"


def test_a_sell_does_not_meet_a_resting_buy_of_its_account(exchange: Exchange) -> None:
    """The best of the resting buys is named. A sell above it is fine, and so is any once they have ended."""
    account = exchange.open()
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    low, best = (exchange.submit(account, "buy 1 AAPL limit", limit_price=price) for price in ("90", "95"))
    for text, limit in (("sell 1 AAPL market", None), ("sell 1 AAPL limit", "95")):
        refused = exchange.order(exchange.submit(account, text, limit_price=limit and Decimal(limit)))
        assert (refused.reject_reason, json.loads(refused.reject_details)["existing_order_id"]) == (
            "wash_trade",
            str(best),
        )
    assert exchange.reason(exchange.submit(account, "sell 1 AAPL limit", limit_price="95.01")) is None
    for order in (low, best):
        exchange.cancel(account, order)
    assert exchange.status(exchange.submit(account, "sell 1 AAPL market")) == "accepted"


def test_a_stop_that_waits_for_a_price_rests_at_no_limit(exchange: Exchange) -> None:
    """It is at the market since it was triggered, and nobody sells yet. Orders of either side go beside it."""
    account = exchange.open()
    exchange.price("AAPL 99/101 100")
    exchange.submit(account, "buy 2 AAPL market")
    exchange.price("AAPL 99/101 100")
    stop = exchange.submit(account, "buy 1 AAPL stop", stop_price="105")
    exchange.price("AAPL 104/ 106")
    assert (exchange.status(stop), exchange.order(stop).triggered) == ("accepted", True)
    assert exchange.reason(exchange.submit(account, "buy 1 AAPL limit", limit_price="90")) is None
    assert exchange.reason(exchange.submit(account, "sell 1 AAPL limit", limit_price="120")) is None
    assert exchange.reason(exchange.submit(account, "sell 1 AAPL market")) == "wash_trade"  # because of the limit at 90


def test_orders_that_open_a_position_are_on_one_side(exchange: Exchange) -> None:
    """The exits of an entry would hold shares that the other order sells."""
    account = exchange.open(**MARGIN)
    exchange.price("AAPL 100/100 100")
    short = exchange.submit(account, "sell 5 AAPL limit", limit_price="105")
    exits = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}
    entry = {"limit_price": "100", "order_class": "bracket", **exits}
    assert exchange.reason(exchange.submit(account, "buy 10 AAPL limit", **entry)) == "opposite_order"
    exchange.cancel(account, short)
    assert exchange.reason(exchange.submit(account, "buy 10 AAPL limit", **entry)) is None
    assert exchange.reason(exchange.submit(account, "sell 5 AAPL limit", limit_price="105")) == "opposite_order"


def test_the_client_s_id_of_an_ended_order_stays_taken(exchange: Exchange) -> None:
    """That of a rejected one is free."""
    account = exchange.open()
    exchange.submit(account, client_order_id="rejected", symbol="XYZ")
    ended = exchange.submit(account, client_order_id="ended")
    exchange.cancel(account, ended)
    again = exchange.order(exchange.submit(account, client_order_id="ended"))
    assert (again.reject_reason, again.reject_message) == (
        "duplicate_client_order_id",
        "client_order_id must be unique",
    )
    assert exchange.status(exchange.submit(account, client_order_id="rejected")) == "accepted"
