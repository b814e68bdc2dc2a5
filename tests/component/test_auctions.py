"""Orders for the opening and closing auctions, through the real service: in, matched and ended."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from services.orders.persistence.invariants import broken
from shared.contracts.accounts import ResetAccount
from tests.component.auction_days import FRIDAY, MONDAY, WEDNESDAY, at, become_known, hold, utc
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.watching import statements
from tests.support import rows


@pytest.mark.parametrize(("tif", "kind"), [("opg", "open"), ("cls", "close")])
def test_an_order_for_an_auction_trades_at_its_official_price(floor: Exchange, tif: str, kind: str) -> None:
    """At the market and within the limit. No price before it, however good, fills it, and what it reserved is free."""
    account = floor.open()
    floor.price("AAPL 99/101 100")
    market = floor.submit(account, "buy 10 AAPL market", time_in_force=tif)
    limit = floor.submit(account, "buy 10 AAPL limit", limit_price="105", time_in_force=tif)
    away = floor.submit(account, "buy 10 AAPL limit", limit_price="102", time_in_force=tif)
    assert floor.account(account).reserved == Decimal("1020.10") + 1050 + 1020
    floor.bar("AAPL 89/91 90", low="80", high="95")
    floor.sweep()
    assert {floor.status(each) for each in (market, limit, away)} == {"accepted"}
    at(floor, "14:31" if tif == "opg" else "21:05")
    hold(floor, kind, "102.37")
    assert [floor.fills(each) for each in (market, limit)] == [[(Decimal(10), Decimal("102.37"))]] * 2
    assert (floor.status(away), floor.reason(away), floor.fills(away)) == ("canceled", tif, [])
    assert (floor.account(account).reserved, floor.held(account)) == (0, 20)
    (row,) = rows(floor.orders.engine, "SELECT DISTINCT stage, last, low, high, quoted_at FROM orders.fills")
    due = utc(WEDNESDAY, "14:30" if tif == "opg" else "21:00")
    assert tuple(row) == ("auction", *[Decimal("102.37")] * 3, due)
    told = [(name, body.get("reason")) for name, body in floor.said(account) if name.startswith("Order")]
    assert told[3:] == [("OrderFilled", None), ("OrderFilled", None), ("OrderCanceled", tif)]


def test_an_auction_is_for_its_own_orders_alone(floor: Exchange) -> None:
    """A limit of the day does not trade in it, nor one for the close in the opening one, nor one for another symbol."""
    account = floor.open()
    others = [
        floor.submit(account, "buy 10 AAPL limit", limit_price="105", time_in_force="day"),
        floor.submit(account, "buy 10 AAPL market", time_in_force="cls"),
        floor.submit(account, "buy 10 IBM market", time_in_force="opg"),
    ]
    at(floor, "14:31")
    tomorrow = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    hold(floor, "open", "100")
    assert {floor.status(each) for each in (*others, tomorrow)} == {"accepted"}
    assert floor.order(tomorrow).auction_day == FRIDAY
    at(floor, "18:02", FRIDAY)
    hold(floor, "open", "100", day=FRIDAY)
    assert floor.status(tomorrow) == "filled"


def test_a_share_of_the_auction_s_volume_and_the_rest_is_canceled(floor: Exchange) -> None:
    """A tenth of 500, by price and time, whoever owns the order. Each is told what became of it."""
    first, second = (floor.open(fills={"participation": "0.1"}) for _ in range(2))
    late = floor.submit(first, "buy 30 AAPL limit", limit_price="101", time_in_force="opg")
    eager = floor.submit(second, "buy 15 AAPL limit", limit_price="102", time_in_force="opg")
    market = floor.submit(second, "buy 10 AAPL market", time_in_force="opg")
    none = floor.submit(second, "buy 10 AAPL limit", limit_price="101", time_in_force="opg")
    at(floor, "14:31")
    hold(floor, "open", "100", volume=Decimal(500))
    assert [sum(qty for qty, _ in floor.fills(each)) for each in (market, eager, late, none)] == [10, 15, 25, 0]
    assert [(floor.status(each), floor.reason(each)) for each in (late, none)] == [("canceled", "opg")] * 2
    assert [name for name, _ in floor.said(first)] == [
        "OrderAccepted", "OrderFilled", "OrderCanceled", "PositionChanged",
    ]  # fmt: skip


def test_a_sale_closes_and_a_short_opens_in_an_auction(floor: Exchange) -> None:
    """Shares that are held are sold at the close, with their profit. Others are sold short."""
    account = floor.open(**MARGIN)
    floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    at(floor, "14:31")
    hold(floor, "open", "100")
    floor.submit(account, "sell 25 AAPL market", time_in_force="cls")
    at(floor, "21:05")
    hold(floor, "close", "110")
    assert floor.held(account) == -15
    (trade,) = rows(floor.orders.engine, "SELECT qty, realized_pl FROM orders.round_trips")
    assert (trade.qty, trade.realized_pl) == (10, 100)


@pytest.mark.parametrize(
    ("tif", "time", "day", "reason", "auction_day"),
    [
        ("opg", "14:27:58", WEDNESDAY, None, WEDNESDAY),
        ("opg", "14:28", WEDNESDAY, "auction_closed", None),
        ("opg", "14:29:58", WEDNESDAY, "auction_closed", None),
        ("opg", "14:30", WEDNESDAY, None, FRIDAY),
        ("cls", "14:29", WEDNESDAY, None, WEDNESDAY),
        ("cls", "20:50", WEDNESDAY, "auction_closed", None),
        ("cls", "21:00", WEDNESDAY, None, FRIDAY),
        ("cls", "17:49:58", FRIDAY, None, FRIDAY),
        ("cls", "17:50", FRIDAY, "auction_closed", None),  # ten minutes before the half day's close
        ("cls", "18:00", FRIDAY, None, MONDAY),
        ("opg", "22:00", MONDAY, "no_auction", None),  # no later day is known here
    ],
)
def test_when_an_order_may_come_and_for_which_day(
    floor: Exchange, tif: str, time: str, day: Any, reason: str | None, auction_day: Any
) -> None:
    """It is handled a second after it was handed in."""
    account = floor.open()
    at(floor, time, day)
    asked = floor.submit(account, "buy 10 AAPL limit", limit_price="100", time_in_force=tif)
    assert (floor.reason(asked), floor.order(asked).auction_day) == (reason, auction_day)


def test_an_order_that_was_long_on_its_way_is_too_late(floor: Exchange) -> None:
    """Handed in before the open and handled after it: it was not meant for Friday."""
    account = floor.open()
    asked = floor.clock.now
    at(floor, "15:00")
    late = floor.submit(account, "buy 10 AAPL market", time_in_force="opg", submitted_at=asked)
    assert (floor.status(late), floor.reason(late)) == ("rejected", "auction_closed")


def test_a_market_that_never_closes_has_no_auction(exchange: Exchange) -> None:
    """Refused by name, and only there."""
    account = exchange.open()
    refused = exchange.submit(account, "buy 10 AAPL market", time_in_force="cls")
    assert (exchange.status(refused), exchange.reason(refused)) == ("rejected", "no_auction")
    assert exchange.order(refused).auction_day is None


def test_orders_of_one_command_each_find_their_auction(floor: Exchange) -> None:
    """It takes one statement more, or none where no order is for an auction."""
    account = floor.open()
    with statements(floor.orders.engine) as plain:
        floor.submit(account, "buy 1 AAPL market")
    with statements(floor.orders.engine) as seen:
        auctioned = floor.submit(account, "buy 1 AAPL market", time_in_force="opg")
    assert (floor.status(auctioned), len(seen) - len(plain)) == ("accepted", 1)


def test_an_auction_that_nobody_waits_for_costs_one_look(floor: Exchange) -> None:
    """No lock, and nothing is written."""
    event = become_known(floor, "open", "100")
    with statements(floor.orders.engine) as seen:
        floor.handle(event)
    assert not [each for each in seen if "FOR UPDATE" in each]


@pytest.mark.parametrize("again", [1, 2])
def test_an_event_that_comes_again_changes_nothing(floor: Exchange, again: int) -> None:
    """Also after the other auction of the day, and with an order for the next one waiting."""
    account = floor.open()
    buying = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    at(floor, "14:31")
    event = hold(floor, "open", "100")
    floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    before = (floor.account(account), floor.fills(buying), len(floor.said(account)))
    for _ in range(again):
        floor.handle(event)
    assert (floor.account(account), floor.fills(buying), len(floor.said(account))) == before


def test_events_in_the_wrong_order_fill_the_same(floor: Exchange) -> None:
    """The close before the open, and a price of the afternoon before both."""
    account = floor.open()
    opening = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    closing = floor.submit(account, "buy 10 AAPL market", time_in_force="cls")
    events = [become_known(floor, "open", "100"), become_known(floor, "close", "104")]
    at(floor, "21:05")
    floor.price("AAPL 103/105 104")
    for event in reversed(events):
        floor.handle(event)
    assert [floor.fills(each)[0][1] for each in (opening, closing)] == [100, 104]


def test_a_correction_of_an_official_price_changes_nothing(floor: Exchange) -> None:
    """The first that is known stays: marketdata says no other."""
    account = floor.open()
    buying = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    first = become_known(floor, "open", "100")
    assert become_known(floor, "open", "90") == first
    floor.handle(first)
    assert floor.fills(buying) == [(Decimal(10), Decimal(100))]


def test_slow_orders_miss_the_auction(floor: Exchange) -> None:
    """Three minutes of latency, handed in two and a half before: it is not at the market yet."""
    slow = floor.open(fills={"latency": "180"})
    at(floor, "14:27:30")
    late = floor.submit(slow, "buy 10 AAPL market", time_in_force="opg")
    at(floor, "14:33")
    hold(floor, "open", "100")
    assert (floor.status(late), floor.reason(late)) == ("canceled", "opg")


def test_an_order_whose_auction_has_no_price_expires(floor: Exchange) -> None:
    """One for the open with the close, one for the close with the next open, and not before."""
    account = floor.open()
    opening = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    closing = floor.submit(account, "buy 10 AAPL market", time_in_force="cls")
    at(floor, "20:59:59")
    assert floor.expire() == 0
    assert floor.expire(seconds=1) == 1
    assert (floor.status(opening), floor.status(closing)) == ("expired", "accepted")
    at(floor, "14:29:59", FRIDAY)
    assert floor.expire() == 0
    assert floor.expire(seconds=1) == 1
    assert floor.status(closing) == "expired"
    hold(floor, "close", "100")
    assert (floor.fills(closing), floor.account(account).reserved) == ([], 0)


def test_an_order_stays_while_its_auction_is_held(floor: Exchange) -> None:
    """From two minutes before the open it can be neither canceled nor replaced. An hour after it, without a price, it
    can again.
    """
    account = floor.open()
    waiting, other = (floor.submit(account, "buy 10 AAPL market", time_in_force="opg") for _ in range(2))
    at(floor, "14:29")
    floor.cancel(account, waiting)
    floor.replace(account, waiting, qty="20")
    assert [(name, body["reason"]) for name, body in floor.said(account)[-2:]] == [
        ("CancelRejected", "auction_closed"),
        ("ReplaceRejected", "auction_closed"),
    ]
    floor.replace(account, waiting, time_in_force="day")
    assert floor.said(account)[-1][1]["reason"] == "auction_closed"
    assert floor.status(waiting) == "accepted"
    at(floor, "15:30")
    floor.cancel(account, waiting)
    assert (floor.status(waiting), floor.status(other)) == ("canceled", "accepted")


def test_a_replace_may_bring_an_order_into_an_auction_and_out_of_it(floor: Exchange) -> None:
    """Its day and its end are those of its new time in force."""
    account = floor.open()
    old = floor.submit(account, "buy 10 AAPL limit", limit_price="100", time_in_force="day")
    opening = floor.replace(account, old, time_in_force="opg", qty="12")
    row = floor.order(opening)
    assert (row.auction_day, row.auction_at, row.trigger_direction) == (WEDNESDAY, utc(WEDNESDAY, "14:30"), "auction")
    out = floor.order(floor.replace(account, opening, time_in_force="gtc"))
    ends = out.accepted_at + timedelta(days=90)
    assert (out.auction_day, out.expires_at, out.trigger_direction) == (None, ends, "below")
    at(floor, "14:29")
    floor.replace(account, out.id, time_in_force="opg")
    assert floor.said(account)[-1][1]["reason"] == "auction_closed"
    stop = floor.submit(account, "buy 10 AAPL stop", stop_price="120")
    floor.replace(account, stop, time_in_force="cls")
    assert floor.said(account)[-1][1]["reason"] == "invalid"


def test_a_reset_ends_an_order_that_cannot_be_canceled(floor: Exchange) -> None:
    """An order that the service ends by itself does not wait for an auction."""
    account = floor.open()
    waiting = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    at(floor, "14:29")
    floor.handle(ResetAccount(account_id=account, reset_id=UUID(int=4), cash=Decimal(1), requested_at=floor.clock.now))
    assert (floor.status(waiting), floor.reason(waiting)) == ("canceled", "reset")


def test_the_proof_finds_a_fill_that_was_none_of_the_auction_s(floor: Exchange) -> None:
    """At another price than the official one, on another order, or before the order was there."""
    account = floor.open()
    buying = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    at(floor, "14:31")
    hold(floor, "open", "100")
    for wrong in ("stage = 'quote'", "last = 99", "slippage = 1", "quoted_at = quoted_at - interval '1 day'"):
        with floor.orders.engine.connect() as connection:
            connection.exec_driver_sql(f"UPDATE orders.fills SET {wrong}")
            found = dict(broken(connection))
            connection.rollback()
        assert "an order for an auction fills in it alone, at its price, and no other order does" in found, wrong
    assert floor.status(buying) == "filled"
