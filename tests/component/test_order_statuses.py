"""The status that clients see: ``new`` while the market trades the order, ``accepted`` only while it waits for that."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from alpaca.trading.models import Calendar, Clock, Order
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence.sessions import replace_sessions
from shared.clock import utc_now
from tests.component.auction_days import sessions_in_new_york
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.support import eventually, value

HOUR = timedelta(hours=1)
RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "qty": "1"}
#: When each phase of the trading day begins, in hours from now, for each phase that it may be.
PHASES = {"closed": 1, "pre_market": -1, "regular": -3, "after_hours": -5, "over": -7}


@pytest.fixture
def client(system: System) -> Iterator[TestClient]:
    with DocumentedClient(system.app()) as client:
        eventually(lambda: client.get("/v2/account", headers=KEY).status_code == 200)
        yield client


@pytest.fixture
def trader(system: System, client: TestClient) -> Iterator[Trader]:
    """AAPL trades in New York, the other symbols at all hours."""
    push(system, "100")
    with system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS' WHERE symbol = 'AAPL'")
    trader = open_account(system, client)
    begin(trader, "closed")
    yield trader
    assert trader.books_hold()


def begin(trader: Trader, phase: str) -> None:
    """Let it be this phase now: two hours of each, and a day that is far enough away to trade tomorrow."""
    first, now = utc_now() + PHASES[phase] * HOUR, utc_now()
    sessions = [
        Session("XNYS", day.date(), kind, day + n * 2 * HOUR, day + (n + 1) * 2 * HOUR, early_close=False)
        for day in (first, first + timedelta(days=1))
        for n, kind in enumerate(("pre", "regular", "post"))
    ]
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        week = timedelta(days=7)
        replace_sessions(connection, ["XNYS"], (now - week).date(), (now + week).date(), sessions)


def shown(trader: Trader, placed: dict[str, Any]) -> str:
    """The status of the order by itself, which is also that of the list."""
    (listed,) = [order for order in trader.get("/orders", status="open") if order["id"] == placed["id"]]
    alone = trader.get(f"/orders/{placed['id']}")
    by_client = trader.get("/orders:by_client_order_id", client_order_id=placed["client_order_id"])
    assert listed["status"] == alone["status"] == by_client["status"]
    Order(**alone)
    return str(alone["status"])


def test_a_working_order_is_new_while_its_market_is_open_and_accepted_before_and_after(trader: Trader) -> None:
    """With ``extended_hours`` also in the pre-market and after hours. What is stored never changes."""
    regular = trader.order(**RESTING, time_in_force="gtc")
    extended = trader.order(**RESTING, time_in_force="day", extended_hours=True)
    always = trader.order(**RESTING, time_in_force="gtc", symbol="IBM")
    assert [each["status"] for each in (regular, extended, always)] == ["accepted", "accepted", "new"]
    expected = {
        "closed": ("accepted", "accepted"),
        "pre_market": ("accepted", "new"),
        "regular": ("new", "new"),
        "after_hours": ("accepted", "new"),
        "over": ("accepted", "accepted"),
    }
    for phase, statuses in expected.items():
        begin(trader, phase)
        assert (phase, shown(trader, regular), shown(trader, extended)) == (phase, *statuses)
        assert shown(trader, always) == "new"
    orders = trader.system.contexts["orders"].engine
    assert value(orders, "SELECT array_agg(DISTINCT status) FROM orders.orders WHERE is_open") == ["accepted"]


def test_the_answer_to_a_submit_says_what_the_order_waits_for(trader: Trader) -> None:
    """While the market is closed it is accepted, while it is open new."""
    assert trader.order(**RESTING, time_in_force="day")["status"] == "accepted"
    begin(trader, "regular")
    assert trader.order(**RESTING, time_in_force="day")["status"] == "new"
    with trader.unanswered():
        assert trader.order(**RESTING, time_in_force="day")["status"] == "pending_new"


def test_an_order_for_an_auction_is_accepted_until_then(trader: Trader) -> None:
    """It waits, also while the market is open."""
    begin(trader, "regular")
    assert trader.order(qty="1", time_in_force="cls")["status"] == "accepted"


def test_legs_are_held_and_then_as_any_order(trader: Trader) -> None:
    """A released exit is new while the market is open."""
    begin(trader, "regular")
    given = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "40"}}
    placed = trader.order(**RESTING, time_in_force="gtc", order_class="bracket", **given)
    assert (placed["status"], [leg["status"] for leg in placed["legs"]]) == ("new", ["held", "held"])
    push(trader.system, "49")
    leg = trader.awaited(placed["legs"][0]["id"], "new")
    begin(trader, "over")
    assert trader.get(f"/orders/{leg['id']}")["status"] == "accepted"


def test_filters_by_status_do_not_depend_on_the_shown_one(trader: Trader) -> None:
    """An order is open whether its market is or not."""
    placed = trader.order(**RESTING, time_in_force="gtc")
    for phase in ("closed", "regular"):
        begin(trader, phase)
        for status, count in (("open", 1), ("closed", 0), ("all", 1)):
            assert len(trader.get("/orders", status=status)) == count
    assert trader.ask("DELETE", f"/orders/{placed['id']}").status_code == 204
    assert [order["status"] for order in trader.get("/orders", status="closed")] == ["canceled"]


def test_the_clock_is_that_of_the_market_of_most_instruments(trader: Trader) -> None:
    """With New York's offset. Bots cut off its six characters, or replace the hour."""
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS'")
    for phase, is_open in (("closed", False), ("regular", True)):
        begin(trader, phase)
        found = trader.get("/clock")
        assert found["is_open"] is is_open
        times = [found[name] for name in ("timestamp", "next_open", "next_close")]
        assert {time[-6:] for time in times} <= {"-04:00", "-05:00"}
        clock = Clock(**found)
        assert abs(clock.timestamp - utc_now()) < timedelta(minutes=1)
        assert clock.next_open > clock.timestamp


def test_the_calendar_is_that_of_the_same_market(trader: Trader) -> None:
    """In its own time. The official client reads it, and a market that never closes ends its day at 23:59."""
    day = {"open": "00:00", "close": "23:59", "session_open": "0000", "session_close": "2359"}
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'DEMO'")
    week = trader.get("/calendar", start="2026-11-27", end="2026-12-03")
    assert week[0] == {"date": "2026-11-27", **day, "settlement_date": "2026-11-28"}
    assert [Calendar(**each).date.day for each in week] == [27, 28, 29, 30, 1, 2, 3]
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        sessions_in_new_york(connection, "AAPL", "IBM", "MSFT", "NVDA", "TSLA")
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS'")
    assert trader.get("/calendar", start="2026-11-25", end="2026-11-29T00:00:00Z") == [
        {
            "date": "2026-11-25",
            "open": "09:30",
            "close": "16:00",
            "session_open": "0400",
            "session_close": "2000",
            "settlement_date": "2026-11-27",
        },
        {
            "date": "2026-11-27",
            "open": "09:30",
            "close": "13:00",
            "session_open": "0400",
            "session_close": "1700",
            "settlement_date": "2026-11-30",
        },
    ]
    assert trader.refused("GET", "/calendar", params={"start": "2026-11-25", "end": "2026-11-24"})[0] == 422


def followed(trader: Trader, order_id: str) -> dict[str, Any]:
    """The order once it has a best price."""

    def there() -> dict[str, Any] | None:
        found: dict[str, Any] = trader.get(f"/orders/{order_id}")
        return found if found["hwm"] else None

    return eventually(there) or {}


def test_the_stop_of_a_trailing_stop_follows_its_best_price(trader: Trader) -> None:
    """It is derived from ``hwm`` and the trail, as a price or in percent."""
    buys = [
        ({"side": "buy", "trail_price": "3"}, "103"),
        ({"side": "buy", "trail_percent": "2.5"}, "102.5"),
    ]
    placed = [trader.order(symbol="IBM", type="trailing_stop", **terms) for terms, _ in buys]
    push(trader.system, "100", "IBM")
    for order, (_, stop) in zip(placed, buys, strict=True):
        found = followed(trader, order["id"])
        assert (found["hwm"], found["stop_price"]) == ("100", stop)
