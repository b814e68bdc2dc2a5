"""Auctions that orders missed are made up for, each in its place among bars and splits."""

from decimal import Decimal
from uuid import UUID

from services.orders.usecases.catch_up import catch_up
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from tests.component.auction_days import FRIDAY, WEDNESDAY, at, become_known, hold, utc
from tests.component.paper_exchange import Exchange
from tests.support import broken_invariants, rows


def nothing(_done: int, _of: int) -> None:
    """Progress that nobody asks for."""


def recover(exchange: Exchange) -> int:
    filled = catch_up(exchange.orders, nothing)
    assert broken_invariants(exchange.orders.engine) == {}
    return filled


def test_an_auction_that_was_held_while_orders_was_down_is_made_up_for(floor: Exchange) -> None:
    """Before the day's end ends them: the fills are those that would have been."""
    account = floor.open()
    opening = floor.submit(account, "buy 10 AAPL market", time_in_force="opg")
    closing = floor.submit(account, "sell 10 AAPL limit", limit_price="103", time_in_force="cls")
    assert floor.reason(closing) == "insufficient_shares"
    closing = floor.submit(account, "buy 5 AAPL limit", limit_price="105", time_in_force="cls")
    become_known(floor, "open", "100")
    become_known(floor, "close", "104")
    at(floor, "22:00")
    assert recover(floor) == 2
    assert floor.expire() == 0
    assert [floor.fills(each) for each in (opening, closing)] == [
        [(Decimal(10), Decimal(100))],
        [(Decimal(5), Decimal(104))],
    ]
    assert recover(floor) == 0


def test_missed_auctions_and_bars_are_applied_in_their_order(floor: Exchange) -> None:
    """The bar that begins with the auction lies after it."""
    account = floor.open("1000", fills={"fills_on": "bar"})
    at(floor, "14:20")
    floor.price("AAPL 80/80 80")
    opening = floor.submit(account, "buy 5 AAPL limit", limit_price="105", time_in_force="opg")
    later = floor.submit(account, "buy 4 AAPL limit", limit_price="101")
    assert {floor.status(opening), floor.status(later)} == {"accepted"}
    at(floor, "14:29")
    floor.missed([("104", "104", "103", "104"), ("103", "103", "102", "103"), ("103", "103", "90", "95")])
    become_known(floor, "open", "104")
    assert recover(floor) == 2
    times = rows(floor.orders.engine, "SELECT order_id, stage, price FROM orders.fills ORDER BY quoted_at")
    assert [(row.order_id, row.stage) for row in times] == [(opening, "auction"), (later, "range")]
    entries = rows(floor.orders.engine, "SELECT reference, kind FROM orders.ledger ORDER BY id")
    assert [row.kind for row in entries] == ["deposit", "fill", "fill"]
    first = rows(floor.orders.engine, "SELECT id FROM orders.fills WHERE order_id = :id", id=opening)[0].id
    assert entries[1].reference == first


def test_a_price_of_other_shares_waits_for_its_split(floor: Exchange) -> None:
    """It was held after the split, whose message is late: the order is of new shares first, and then it fills."""
    account = floor.open()
    buying = floor.submit(account, "buy 10 AAPL limit", limit_price="110", time_in_force="opg")
    with floor.marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET split_count = 1 WHERE symbol = 'AAPL'")
    event = hold(floor, "open", "50")
    assert (event.split_count, floor.status(buying), recover(floor)) == (1, "accepted", 0)
    effective = utc(WEDNESDAY, "14:10")
    split = CorporateActionApplied(
        action_id=UUID(int=1), symbol="AAPL", kind=ActionKind.SPLIT, ratio=Decimal(2), effective_at=effective,
        split_count=1,
    )  # fmt: skip
    floor.handle(split)
    assert recover(floor) == 1
    assert floor.fills(buying) == [(Decimal(20), Decimal(50))]


def test_an_auction_before_a_split_is_not_made_up_for_after_it(floor: Exchange) -> None:
    """Orders was down from before the close until after the split: what it bought now would not be split any more."""
    account = floor.open()
    buying = floor.submit(account, "buy 10 AAPL market", time_in_force="cls")
    event = become_known(floor, "close", "100")
    with floor.marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET split_count = 1 WHERE symbol = 'AAPL'")
    at(floor, "14:30", FRIDAY)
    floor.handle(event)
    assert (floor.status(buying), recover(floor)) == ("accepted", 0)
    assert floor.expire() == 1
    assert (floor.status(buying), floor.account(account).reserved) == ("expired", 0)
