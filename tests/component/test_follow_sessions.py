"""Open orders follow the sessions of their market when an operator changes a day."""

from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.marketdata.usecases import change_sessions
from shared.contracts.sessions import ChangeSessions, RemoveSessionChange, SessionsChanged
from tests.component.auction_days import FRIDAY, MONDAY, WEDNESDAY, at, utc
from tests.component.paper_exchange import Exchange
from tests.component.watching import outbox

RESTS: dict[str, Any] = {"limit_price": "1"}


def heard(floor: Exchange) -> None:
    """Orders hears of the last change."""
    *_, sent = [each for each in outbox(floor.marketdata) if each.name == "SessionsChanged.v1"]
    floor.handle(SessionsChanged.model_validate(sent.body))


def changed(floor: Exchange, day: date = WEDNESDAY, **terms: Any) -> UUID:
    command = ChangeSessions(market="XNYS", day=day, change_id=uuid4(), reason="power failure", **terms)
    with floor.marketdata.unit_of_work() as uow:
        change_sessions.change(uow, command)
    heard(floor)
    return command.change_id


def removed(floor: Exchange, change_id: UUID) -> None:
    with floor.marketdata.unit_of_work() as uow:
        change_sessions.remove(uow, RemoveSessionChange(market="XNYS", change_id=change_id))
    heard(floor)


@pytest.fixture
def placed(floor: Exchange) -> dict[str, UUID]:
    """Before the open of Wednesday, an order of each kind whose day or auction it is."""
    account = floor.open()
    text = "buy 10 AAPL limit"
    return {
        "day": floor.submit(account, text, time_in_force="day", **RESTS),
        "extended": floor.submit(account, text, time_in_force="day", extended_hours=True, **RESTS),
        "gtc": floor.submit(account, text, time_in_force="gtc", **RESTS),
        "opg": floor.submit(account, text, time_in_force="opg", **RESTS),
        "cls": floor.submit(account, text, time_in_force="cls", **RESTS),
    }


def ends(floor: Exchange, placed: dict[str, UUID]) -> dict[str, datetime]:
    """When each order ends, or when its auction is due."""
    found = {name: floor.order(order_id) for name, order_id in placed.items()}
    return {name: row.auction_at or row.expires_at for name, row in found.items()}


def test_orders_follow_a_day_that_is_shortened_closed_and_given_back(floor: Exchange, placed: dict[str, UUID]) -> None:
    """They have the ends that they would have got. Only a good-till-canceled order does not care."""
    before = ends(floor, placed)
    shortened = changed(floor, close_at=utc(WEDNESDAY, "18:00"))
    assert ends(floor, placed) == before | {
        "day": utc(WEDNESDAY, "18:00"),
        "extended": utc(WEDNESDAY, "22:00"),
        "cls": utc(WEDNESDAY, "18:00"),
    }
    closed = changed(floor, closed=True)
    assert ends(floor, placed) == before | {
        "day": utc(FRIDAY, "18:00"),
        "extended": utc(FRIDAY, "22:00"),
        "opg": utc(FRIDAY, "14:30"),
        "cls": utc(FRIDAY, "18:00"),
    }
    assert {floor.order(placed[name]).auction_day for name in ("opg", "cls")} == {FRIDAY}
    removed(floor, closed)
    assert ends(floor, placed) == before
    assert shortened != closed


def test_an_order_whose_day_is_over_ends_at_the_next_look(floor: Exchange, placed: dict[str, UUID]) -> None:
    """Trading was stopped at 15:30. No later price fills the order, and it expires."""
    at(floor, "16:00")
    changed(floor, close_at=utc(WEDNESDAY, "15:30"))
    floor.price("AAPL 0.98/0.99 0.99")
    assert floor.status(placed["day"]) == "accepted"
    assert floor.expire(minutes=2) >= 1
    assert (floor.status(placed["day"]), floor.status(placed["gtc"])) == ("expired", "accepted")


def test_a_day_that_is_lengthened_keeps_its_orders_and_an_added_day_takes_them(floor: Exchange) -> None:
    """Friday's half day becomes a whole one. An order of Friday evening is then for Saturday, not for Monday."""
    account = floor.open()
    at(floor, "17:00", FRIDAY)
    half = floor.submit(account, "buy 10 AAPL limit", time_in_force="day", **RESTS)
    changed(floor, FRIDAY, close_at=utc(FRIDAY, "21:00"))
    assert floor.order(half).expires_at == utc(FRIDAY, "21:00")
    at(floor, "22:00", FRIDAY)
    evening = floor.submit(account, "buy 10 AAPL limit", time_in_force="day", **RESTS)
    assert floor.order(evening).expires_at == utc(MONDAY, "21:00")
    saturday = date(2026, 11, 28)
    changed(floor, saturday, open_at=utc(saturday, "15:00"), close_at=utc(saturday, "17:00"))
    assert floor.order(evening).expires_at == utc(saturday, "17:00")


def test_orders_of_other_markets_stay_and_a_second_delivery_changes_nothing(floor: Exchange) -> None:
    """MSFT trades on a market that never closes."""
    with floor.marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'DEMO' WHERE symbol = 'MSFT'")
    account = floor.open()
    here = floor.submit(account, "buy 10 AAPL limit", time_in_force="day", **RESTS)
    there = floor.order(floor.submit(account, "buy 10 MSFT limit", time_in_force="day", **RESTS))
    changed(floor, close_at=utc(WEDNESDAY, "18:00"))
    once = floor.order(here)
    heard(floor)
    assert (floor.order(here), floor.order(there.id)) == (once, there)
