"""Brackets, oto and oco orders: what an order does to the others of its group, in the same transaction."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.component.paper_exchange import MARGIN, Exchange

EXITS = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}
BRACKET: dict[str, Any] = {"order_class": "bracket", **EXITS}


def bracket(exchange: Exchange, account: UUID, **fields: Any) -> UUID:
    return exchange.submit(account, **{**BRACKET, **fields})


def test_the_exits_of_a_bracket_wait_for_its_entry(exchange: Exchange) -> None:
    """They are held, and no shares are held for them. When the entry has filled they work, and hold its shares once."""
    account = exchange.open()
    entry = bracket(exchange, account)
    assert {leg: row.status for leg, row in exchange.legs(entry).items()} == {
        "take_profit": "held",
        "stop_loss": "held",
    }
    exchange.price("AAPL 79/80 80")  # below the stop: the exits need a later price
    legs = exchange.legs(entry)
    assert (exchange.status(entry), exchange.held(account)) == ("filled", 10)
    assert {leg: (row.status, row.held_for_orders) for leg, row in legs.items()} == {
        "take_profit": ("accepted", 10),
        "stop_loss": ("accepted", 0),
    }


@pytest.mark.parametrize(
    ("last", "filled", "other", "price"),
    [("111", "take_profit", "stop_loss", 110), ("89", "stop_loss", "take_profit", 89)],
)
def test_one_exit_fills_and_the_other_is_canceled(
    exchange: Exchange, last: str, filled: str, other: str, price: int
) -> None:
    """And both sides are told, in order. The profit rested at 110, so it gains no more."""
    account = exchange.open()
    entry = bracket(exchange, account)
    exchange.price("AAPL 100/100 100")
    exchange.price(f"AAPL {last}/{last} {last}")
    legs = exchange.legs(entry)
    assert (legs[filled].status, legs[other].status, legs[other].cancel_reason) == ("filled", "canceled", "oco")
    assert exchange.fills(legs[filled].id) == [(Decimal(10), Decimal(price))]
    assert exchange.held(account) == 0
    assert [name for name, _ in exchange.said(account)][-3:] == ["OrderFilled", "OrderCanceled", "PositionChanged"]


def test_inside_one_bar_the_worse_exit_is_taken(exchange: Exchange) -> None:
    """The bar reached both. Nobody knows which came first."""
    account = exchange.open(fills={"fills_on": "bar"})
    entry = bracket(exchange, account)
    exchange.price("AAPL 100/100 100")
    exchange.bar("AAPL 100/100 100", low="85", high="120", open="100")
    legs = exchange.legs(entry)
    assert exchange.fills(legs["stop_loss"].id) == [(Decimal(10), Decimal(90))]
    assert legs["take_profit"].status == "canceled"


def test_what_one_exit_fills_the_other_no_longer_can(exchange: Exchange) -> None:
    """Four of ten take their profit. The stop loses the other six, and no more."""
    account = exchange.open(fills={"participation": "1"})
    entry = bracket(exchange, account)
    exchange.price("AAPL 100/100 100", ask_size="100")
    exchange.price("AAPL 111/111 111", bid_size="4")
    assert exchange.legs(entry)["stop_loss"].qty == 6
    exchange.price("AAPL 85/85 85", bid_size="100")
    legs = exchange.legs(entry)
    assert exchange.fills(legs["stop_loss"].id) == [(Decimal(6), Decimal(85))]
    assert (legs["take_profit"].status, exchange.held(account)) == ("canceled", 0)


def test_an_entry_that_ends_unfilled_takes_its_exits_along(exchange: Exchange) -> None:
    """Canceled by hand, or over with its session."""
    account = exchange.open()
    terms = {"type": "limit", "limit_price": "95"}
    canceled = bracket(exchange, account, **terms)
    over = bracket(exchange, account, **terms, time_in_force="day")
    exchange.cancel(account, canceled)
    assert {row.status for row in exchange.legs(canceled).values()} == {"canceled"}
    exchange.expire(days=1)
    assert exchange.status(over) == "expired"
    assert {row.status for row in exchange.legs(over).values()} == {"expired"}


def test_an_entry_that_ends_partly_filled_leaves_exits_for_the_part(exchange: Exchange) -> None:
    """The shares that were bought stay protected, also over a replace: three, then two of the order that went on."""
    account = exchange.open(fills={"participation": "1"})
    entry = bracket(exchange, account, type="limit", limit_price="100")
    exchange.price("AAPL 99/100 100", ask_size="3")
    going_on = exchange.replace(account, entry, limit_price="101")
    exchange.price("AAPL 99/101 101", ask_size="2")
    exchange.cancel(account, going_on)
    legs = exchange.legs(entry)
    assert [(legs[leg].status, legs[leg].qty) for leg in ("take_profit", "stop_loss")] == [("accepted", 5)] * 2


def test_an_exit_that_is_canceled_takes_the_other_along(exchange: Exchange) -> None:
    account = exchange.open()
    entry = bracket(exchange, account)
    exchange.price("AAPL 100/100 100")
    exchange.cancel(account, exchange.legs(entry)["stop_loss"].id)
    assert {row.status for row in exchange.legs(entry).values()} == {"canceled"}
    assert exchange.status(exchange.submit(account, "sell 10 AAPL market")) == "accepted"  # nothing is held_for_orders


@pytest.mark.parametrize("leg", ["take_profit", "stop_loss"])
def test_an_exit_that_is_replaced_keeps_its_place(exchange: Exchange, leg: str) -> None:
    """Its price is another. The two still share their shares, and one ends the other."""
    account = exchange.open()
    entry = bracket(exchange, account)
    exchange.price("AAPL 100/100 100")
    change = {"limit_price": "120"} if leg == "take_profit" else {"stop_price": "80"}
    new = exchange.replace(account, exchange.legs(entry)[leg].id, **change)
    last = "125" if leg == "take_profit" else "75"
    exchange.price(f"AAPL {last}/{last} {last}")
    assert {row.status for row in exchange.legs(entry).values()} == {"filled", "canceled"} or leg == "stop_loss"
    assert exchange.held(account) == 0
    if leg == "stop_loss":
        assert exchange.status(new) == "filled"


def test_an_oto_order_has_one_exit(exchange: Exchange) -> None:
    account = exchange.open()
    entry = exchange.submit(account, order_class="oto", stop_loss={"stop_price": "90", "limit_price": "89"})
    exchange.price("AAPL 100/100 100")
    (leg,) = exchange.legs(entry).values()
    assert (leg.type, leg.status, leg.held_for_orders) == ("stop_limit", "accepted", 10)
    exchange.price("AAPL 90/90 90")
    assert exchange.fills(leg.id) == [(Decimal(10), Decimal(90))]


def test_an_oco_order_closes_what_is_held_once(exchange: Exchange) -> None:
    """Two exits without an entry. Nobody may open a position with one."""
    account = exchange.open(**MARGIN)
    oco = {"order_class": "oco", "limit_price": "110", **EXITS}
    refused = exchange.submit(account, "sell 10 AAPL limit", **oco)
    assert exchange.reason(refused) == "insufficient_shares"
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    first = exchange.submit(account, "sell 10 AAPL limit", **oco)
    exchange.price("AAPL 89/89 89")
    legs = exchange.legs(first)
    assert (legs["take_profit"].id, legs["take_profit"].status) == (first, "canceled")
    assert exchange.fills(legs["stop_loss"].id) == [(Decimal(10), Decimal(89))]


def test_a_bracket_may_sell_short(exchange: Exchange) -> None:
    """Its exits buy back: the profit lies below, the stop above."""
    account = exchange.open(**MARGIN)
    exchange.price("AAPL 100/100 100")
    exits = {"take_profit": {"limit_price": "90"}, "stop_loss": {"stop_price": "110"}}
    entry = exchange.submit(account, "sell 10 AAPL market", order_class="bracket", **exits)
    exchange.price("AAPL 100/100 100")
    assert exchange.held(account) == -10
    exchange.price("AAPL 88/89 89")
    legs = exchange.legs(entry)
    assert exchange.fills(legs["take_profit"].id) == [(Decimal(10), Decimal(90))]
    assert (legs["stop_loss"].status, exchange.held(account)) == ("canceled", 0)
    assert exchange.account(account).cash == 100_100
