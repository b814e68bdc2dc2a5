"""Sessions over HTTP: read, changed by an operator, and followed by the account's clock, calendar and orders."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from embedded.system import System
from services.marketdata.domain.differences import Calendars, Difference, Kind
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence.sessions import replace_sessions
from services.marketdata.usecases import update_sessions
from shared.clock import utc_now
from shared.contracts.markets import MARKETS
from tests.component.http_trader import Trader
from tests.support import eventually

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: An exchange where it is now far from midnight, so that all hours around now are of one day.
CODE = next(
    code
    for code, market in MARKETS.items()
    if code != "24/5" and not market.always_open and 8 <= utc_now().astimezone(ZoneInfo(market.timezone)).hour < 16
)
ZONE = ZoneInfo(MARKETS[CODE].timezone)
NOW = utc_now().replace(second=0, microsecond=0)
TODAY = NOW.astimezone(ZONE).date()
TOMORROW = TODAY + DAY


def clock_time(at: datetime) -> str:
    return f"{at.astimezone(ZONE):%H:%M}"


@pytest.fixture
def exchange(trader: Trader, market: System) -> Trader:
    """A trader of GOOG, which trades on the exchange: today since an hour for three more, and so tomorrow."""
    sessions = [
        Session(CODE, day, "regular", NOW - HOUR + add, NOW + 3 * HOUR + add, early_close=False, forecast=bool(add))
        for day, add in ((TODAY, 0 * DAY), (TOMORROW, DAY))
    ]
    with market.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = %s WHERE symbol = 'GOOG'", (CODE,))
        replace_sessions(connection, [CODE], TODAY - 9 * DAY, TODAY + 9 * DAY, sessions)
    return trader


def change(trader: Trader, **terms: Any) -> Any:
    body = {"market": CODE, "day": str(TODAY), "reason": "power failure", **terms}
    answer = trader.ask("POST", "/api/sessions/changes", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def listed(trader: Trader, **query: Any) -> list[Any]:
    found: list[Any] = trader.ask("GET", "/api/sessions", params=query).json()["items"]
    return found


def ends(trader: Trader, order: Any, at: datetime) -> bool:
    """Wait until the order ends then."""
    return bool(
        eventually(
            lambda: datetime.fromisoformat(trader.get(f"/orders/{order['id']}")["expires_at"]) == at,
            what=f"an order that ends at {at}",
        )
    )


def test_orders_and_clock_follow_a_day_that_an_operator_shortens_closes_and_gives_back(exchange: Trader) -> None:
    """Each answer shows the change as made, the list has the reason, and the operator is recorded."""
    order = exchange.order(symbol="GOOG", type="limit", limit_price="1")
    assert ends(exchange, order, NOW + 3 * HOUR)
    assert exchange.get("/clock")["is_open"] is True
    shortened = change(exchange, close_at=clock_time(NOW + HOUR))
    assert (shortened["made_at"] is not None, shortened["removed_at"]) == (True, None)
    assert ends(exchange, order, NOW + HOUR)
    assert datetime.fromisoformat(exchange.get("/clock")["next_close"]) == NOW + HOUR
    today, _ = exchange.get("/calendar", start=str(TODAY), end=str(TOMORROW))
    assert (today["date"], today["close"]) == (str(TODAY), clock_time(NOW + HOUR))
    first, *_ = [each for each in listed(exchange, market=CODE) if each["phase"] == "regular"]
    assert (first["day"], first["reason"], first["early_close"]) == (str(TODAY), "power failure", True)
    closed = change(exchange, closed=True)
    assert ends(exchange, order, NOW + 3 * HOUR + DAY)
    assert exchange.get("/clock")["is_open"] is False
    assert {each["day"] for each in listed(exchange)} == {str(TOMORROW)}
    assert all(each["forecast"] for each in listed(exchange))
    changes = exchange.ask("GET", f"/api/sessions/changes?market={CODE}").json()["items"]
    assert [(each["id"], each["removed_at"] is None) for each in changes] == [
        (closed["id"], True),
        (shortened["id"], False),
    ]
    for _ in range(2):
        assert exchange.ask("DELETE", f"/api/sessions/changes/{closed['id']}").status_code == 204
    assert ends(exchange, order, NOW + 3 * HOUR)
    assert exchange.ask("GET", "/api/sessions/changes?standing=true").json()["items"] == []
    for what, times in (("change_sessions", 2), ("remove_session_change", 2)):
        actions = exchange.ask("GET", f"/api/actions?what={what}").json()["items"]
        assert len([each for each in actions if each["subject"] == CODE]) == times


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"market": "DEMO", "closed": True}, "market: DEMO never closes, halt its instruments instead"),
        ({"market": "XXXX", "closed": True}, "market: unknown market XXXX"),
        ({}, "closed: send either closed, or open_at, close_at or both"),
        ({"closed": True, "close_at": "13:00"}, "closed: send either closed, or open_at, close_at or both"),
        ({"close_at": "2020-01-01T12:00:00Z"}, "close_at: must be on the market's"),
        ({"close_at": "25:00"}, "close_at: 25:00 is not a time of a day"),
        ({"open_at": "12:00", "close_at": "11:00"}, "close_at: must be after open_at"),
        ({"open_at": "23:59"}, "close_at: "),
        ({"day": "2020-01-02", "open_at": "10:00"}, "close_at: "),
    ],
)
def test_an_impossible_change_is_refused(exchange: Trader, terms: dict[str, Any], says: str) -> None:
    """The error names the field and the remedy."""
    body = {"market": CODE, "day": str(TODAY), "reason": "power failure", **terms}
    status, message = exchange.refused("POST", "/api/sessions/changes", json=body)
    assert (status, message.startswith(says)) == (422, True), message


def test_unknown_markets_changes_and_long_times_are_refused(exchange: Trader) -> None:
    """404 for a change that there never was."""
    assert exchange.refused("GET", "/api/sessions?market=XXXX")[0] == 422
    assert exchange.refused("GET", "/api/sessions?from=2026-01-01&to=2029-01-01")[1].startswith("to: must be")
    assert exchange.refused("DELETE", f"/api/sessions/changes/{uuid4()}")[0] == 404


def test_days_before_the_first_that_is_stored_say_how_to_get_them(exchange: Trader) -> None:
    """They are not taken for days without trading. A backfill of bars brings them by itself."""
    begin = TODAY - 400 * DAY
    answer = exchange.ask("GET", "/api/sessions", params={"market": CODE, "from": str(begin)})
    assert (answer.status_code, answer.json()["field"]) == (422, "from")
    told = answer.json()["detail"]
    assert f'{{"since": "{begin}"}} by POST /api/jobs/update_sessions/trigger' in told
    days = {each["day"] for each in listed(exchange, market=CODE, **{"from": str(TODAY - DAY), "to": str(TOMORROW)})}
    assert days == {str(TODAY), str(TOMORROW)}


def test_a_market_that_never_closes_has_a_session_a_day(exchange: Trader) -> None:
    """From midnight to midnight."""
    days = listed(exchange, market="DEMO", **{"from": "2026-11-28", "to": "2026-11-29"})
    assert [(each["day"], each["open_at"], each["close_at"]) for each in days] == [
        ("2026-11-28", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("2026-11-29", "2026-11-29T00:00:00Z", "2026-11-30T00:00:00Z"),
    ]


def test_differences_between_calendars_are_listed(exchange: Trader, market: System) -> None:
    """The latest day first, with the hours of both sources."""
    at = datetime(2026, 12, 24, 8, tzinfo=UTC)
    found = [Difference("XHKG", date(2026, 12, 24), Kind.HOURS, "another library", at, at + HOUR, at, at + DAY, "why")]
    with market.contexts["marketdata"].unit_of_work() as uow:
        days = date(2026, 12, 1), date(2026, 12, 31)
        update_sessions.write(uow, [MARKETS["XHKG"]], *days, Calendars(differences=found), uuid4())
    (item,) = exchange.ask("GET", "/api/sessions/differences?market=XHKG").json()["items"]
    assert (item["day"], item["kind"], item["source"]) == ("2026-12-24", "hours", "another library")
    assert item["known"] == "why"
    assert (item["close_at"], item["other_close_at"]) == ("2026-12-24T09:00:00Z", "2026-12-25T08:00:00Z")


def test_an_account_has_the_clock_of_its_currency_s_exchange_or_of_its_settings(
    exchange: Trader, market: System
) -> None:
    """An exchange comes before markets that never close. The setting comes before all."""
    assert exchange.ask("GET", "/api/sessions").json()["market"] == CODE
    settings = exchange.ask("GET", "/api/account/settings").json()

    def shows(code: str) -> Any:
        return eventually(lambda: exchange.ask("GET", "/api/sessions").json()["market"] == code, what=code)

    for chosen in ("24/7", None):
        assert exchange.ask("PUT", "/api/account/settings", json={**settings, "market": chosen}).status_code == 202
        assert shows(chosen or CODE)
    assert exchange.refused("PUT", "/api/account/settings", json={**settings, "market": "XXXX"})[0] == 422
