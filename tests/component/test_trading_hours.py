"""Orders wait for the sessions of their market, by its calendar, and end with them."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.marketdata.domain.sessions import Hours as DayHours
from services.marketdata.domain.sessions import Session, sessions_of
from services.marketdata.persistence.sessions import replace_sessions
from services.orders.persistence import quotes
from shared.contracts.markets import MARKETS
from shared.contracts.prices import Price, PricesUpdated
from shared.exchange.trading_days import Hours
from shared.storage.driver import fetch
from tests.component.auction_days import utc
from tests.component.paper_exchange import Exchange

#: Thanksgiving is the 26th, and the day after it ends early.
EVE, HALF_DAY, MONDAY = date(2026, 11, 25), date(2026, 11, 27), date(2026, 11, 30)
CLOSES = {EVE: "21:00", HALF_DAY: "18:00", MONDAY: "21:00"}
NEW_YORK = [
    session
    for day, close in CLOSES.items()
    for session in sessions_of(MARKETS["XNYS"], DayHours(day, utc(day, "14:30"), utc(day, close), close == "18:00"))
]
HONG_KONG = [
    session
    for day in CLOSES
    for session in sessions_of(
        MARKETS["XHKG"],
        DayHours(day, utc(day, "01:30"), utc(day, "08:00"), break_start=utc(day, "04:00"), break_end=utc(day, "05:00")),
    )
]


def move(exchange: Exchange, market: str, sessions: Sequence[Session], at: datetime) -> Exchange:
    """All instruments trade on that market, and it is that time."""
    with exchange.marketdata.engine.begin() as connection:
        replace_sessions(connection, [market], EVE, MONDAY, sessions)
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = %s", (market,))
    exchange.clock.now = at
    return exchange


@pytest.fixture
def new_york(exchange: Exchange) -> Exchange:
    """An hour after the open. AAPL is at 100."""
    move(exchange, "XNYS", NEW_YORK, utc(EVE, "15:30"))
    exchange.price("AAPL 99.99/100.01 100")
    return exchange


def bar(exchange: Exchange, text: str, start: datetime, end: datetime, since: datetime, **fields: Any) -> None:
    """A bar with a start of its own, quoted at its end."""
    exchange.clock.now = end - timedelta(seconds=1)  # ``price`` moves it on
    exchange.price(text, bar_start=start, since=since, **fields)


def at(exchange: Exchange, day: date, time: str) -> None:
    exchange.clock.now = utc(day, time)


def test_outside_of_the_regular_session_nothing_fills_triggers_or_trails(new_york: Exchange) -> None:
    """All of them wait for the next open, which fills them at its prices."""
    account = new_york.open()
    held = new_york.submit(account, "buy 20 AAPL market")
    new_york.price("AAPL 99.99/100.01 100")
    assert new_york.status(held) == "filled"
    at(new_york, EVE, "21:30")
    stop = new_york.submit(account, "sell 5 AAPL stop", stop_price="95")
    trail = new_york.submit(account, "sell 5 AAPL trailing_stop", trail_price="3")
    market, limit = (
        new_york.submit(account, "sell 5 AAPL market"),
        new_york.submit(account, "buy 5 AAPL limit", limit_price="99"),
    )
    for day, time, low, high in (
        (EVE, "22:00", "80", "81"),
        (HALF_DAY, "03:00", "119", "120"),
        (HALF_DAY, "13:00", "90", "91"),
    ):
        at(new_york, day, time)
        new_york.price(f"AAPL {low}/{high} {low}", since=new_york.clock.now, open=low, high=high, low=low)
    for waiting in (stop, trail, market, limit):
        assert new_york.status(waiting) == "accepted"
        assert not new_york.order(waiting).triggered
    assert new_york.order(trail).hwm == 100
    last = new_york.clock.now
    bar(
        new_york,
        "AAPL 98/98.50 98.50",
        utc(HALF_DAY, "14:30"),
        utc(HALF_DAY, "14:31"),
        last,
        open="98",
        high="99",
        low="94",
    )
    assert new_york.fills(limit) == [(5, Decimal(98))]  # the open of the session, over a gap
    assert new_york.fills(trail) == [(5, Decimal(97))]
    assert new_york.fills(stop) == [(5, Decimal(95))]
    assert new_york.fills(market) == [(5, Decimal(98))]


def test_with_extended_hours_limit_orders_work_from_the_pre_market_to_the_end_of_after_hours(
    new_york: Exchange,
) -> None:
    """Half days included, whose after-hours end at 17:00 in New York."""
    account = new_york.open()
    terms = {"limit_price": "95", "time_in_force": "gtc", "extended_hours": True}
    for day, time, fills in (
        (EVE, "08:59:58", False),
        (EVE, "09:00", True),
        (EVE, "20:59", True),
        (HALF_DAY, "00:59:58", False),  # Thanksgiving's night
        (HALF_DAY, "17:59", True),
        (HALF_DAY, "18:30", True),
        (HALF_DAY, "21:59:58", True),
        (HALF_DAY, "21:59:59", False),
    ):
        at(new_york, day, time)
        new_york.clock.move(seconds=-3)
        buying = new_york.submit(account, "buy 1 AAPL limit", **terms)
        at(new_york, day, time)
        new_york.price("AAPL 93/94 94")
        assert (new_york.status(buying) == "filled") == fills, (day, time)
        new_york.cancel(account, buying)


@pytest.mark.parametrize(
    ("time", "extended", "ends"),
    [
        ("08:00", False, utc(EVE, "21:00")),
        ("15:00", False, utc(EVE, "21:00")),
        ("21:00", False, utc(HALF_DAY, "18:00")),
        ("08:00", True, utc(EVE, "21:00") + timedelta(hours=4)),
        ("21:30", True, utc(EVE, "21:00") + timedelta(hours=4)),
    ],
)
def test_a_day_order_ends_with_the_session_in_which_it_can_trade(
    new_york: Exchange, time: str, ends: datetime, *, extended: bool
) -> None:
    """Entered after the close it belongs to the next trading day, the half day after Thanksgiving."""
    at(new_york, EVE, time)
    terms = {"limit_price": "1", "time_in_force": "day", "extended_hours": extended}
    assert new_york.order(new_york.submit(new_york.open(), "buy 1 AAPL limit", **terms)).expires_at == ends


def test_a_midday_break_is_outside_of_the_session_and_inside_of_the_day(exchange: Exchange) -> None:
    """An order of the morning works in the afternoon, too."""
    move(exchange, "XHKG", HONG_KONG, utc(EVE, "03:00"))
    exchange.price("AAPL 99/101 100")
    account = exchange.open()
    buying = exchange.submit(account, "buy 1 AAPL limit", limit_price="95", time_in_force="day")
    assert exchange.order(buying).expires_at == utc(EVE, "08:00")
    at(exchange, EVE, "04:30")
    exchange.price("AAPL 93/94 94")
    assert exchange.status(buying) == "accepted"
    at(exchange, EVE, "05:30")
    exchange.price("AAPL 93/94 94")
    assert exchange.status(buying) == "filled"


def test_a_day_order_sees_the_last_bar_of_its_session_before_it_expires(new_york: Exchange) -> None:
    """The bar is quoted at the close, or when the provider has it. The order waits for it, and no longer."""
    account = new_york.open()
    low, lower = (
        new_york.submit(account, "buy 1 AAPL limit", limit_price=limit, time_in_force="day") for limit in ("95", "90")
    )
    at(new_york, EVE, "20:58:59")
    new_york.price("AAPL 99/101 100")
    at(new_york, EVE, "21:00:01")
    assert new_york.expire() == 0
    bar(
        new_york,
        "AAPL 99/101 100",
        utc(EVE, "20:59"),
        utc(EVE, "21:00:05"),
        utc(EVE, "20:59"),
        low="94",
    )
    assert new_york.fills(low) == [(1, Decimal(95))]
    assert new_york.expire() == 1
    assert new_york.status(lower) == "expired"


def test_a_day_order_expires_without_another_price(new_york: Exchange) -> None:
    """At once where no price has come for long, else when no fresh one can come any more."""
    account = new_york.open()
    new_york.price("IBM 99/101 100")
    at(new_york, EVE, "20:59")
    new_york.price("AAPL 99/101 100")
    terms = {"limit_price": "1", "time_in_force": "day"}
    quiet = new_york.submit(account, "buy 1 IBM limit", **terms)
    busy = new_york.submit(account, "buy 1 AAPL limit", **terms)
    at(new_york, EVE, "21:00")
    assert new_york.expire() == 1
    assert (new_york.status(quiet), new_york.status(busy)) == ("expired", "accepted")
    assert new_york.expire(seconds=119) == 0
    assert new_york.expire(seconds=1) == 1


def test_an_order_of_the_evening_sees_the_first_bar_of_the_next_day(new_york: Exchange) -> None:
    """A gap through a stop fills at the open, although the price before the bar is older than the order."""
    account = new_york.open()
    new_york.submit(account, "buy 10 AAPL market")
    at(new_york, EVE, "20:59:58")
    new_york.price("AAPL 99/101 100")
    at(new_york, EVE, "23:00")
    stop = new_york.submit(account, "sell 10 AAPL stop", stop_price="95")
    start = utc(HALF_DAY, "14:30")
    fields = {"open": "90", "high": "97", "low": "89"}
    bar(new_york, "AAPL 96/97 96.50", start, start + timedelta(minutes=1), utc(EVE, "20:59:59"), **fields)
    assert new_york.fills(stop) == [(10, Decimal(90))]


def test_an_order_that_must_fill_at_once_ends_after_a_short_time(new_york: Exchange) -> None:
    """Without any price it is canceled by the job."""
    account = new_york.open()
    orders = [new_york.submit(account, "buy 1 AAPL market", time_in_force=tif) for tif in ("ioc", "fok")]
    assert new_york.expire(seconds=118) == 0
    assert new_york.expire(seconds=2) == 2
    assert [(new_york.status(each), new_york.reason(each)) for each in orders] == [
        ("canceled", "ioc"),
        ("canceled", "fok"),
    ]


def test_a_price_ahead_of_the_clock_is_dropped_and_blocks_no_other(new_york: Exchange) -> None:
    """Clocks differ by a little. A price of tomorrow has a wrong time."""
    account = new_york.open()
    buying = new_york.submit(account, "buy 1 AAPL market")
    ahead = _price(utc(EVE, "15:40"), new_york.clock.now)
    new_york.handle(PricesUpdated(prices=(ahead,), at=new_york.clock.now))
    assert new_york.status(buying) == "accepted"
    new_york.sequences["AAPL"] += 5
    new_york.price("AAPL 99/101 100")
    assert new_york.fills(buying) == [(1, Decimal(101))]
    again = new_york.submit(account, "buy 1 AAPL market")
    new_york.handle(PricesUpdated(prices=(_price(new_york.clock.now + timedelta(seconds=4), None),)))
    assert new_york.status(again) == "filled"


def _price(quoted_at: datetime, since: datetime | None, start: datetime | None = None) -> Price:
    numbers = dict.fromkeys(("last", "open", "high", "low", "close", "bid", "ask"), Decimal(100))
    times = {"quoted_at": quoted_at, "since": since, "bar_start": start}
    return Price(symbol="AAPL", volume=Decimal(1), sequence=quoted_at.toordinal(), provider="test", **numbers, **times)


@pytest.fixture
def waiting(new_york: Exchange) -> tuple[Exchange, UUID]:
    """Orders that every price may fill, by their hours."""
    account = new_york.open()
    new_york.submit(account, "buy 1 AAPL market")
    new_york.submit(account, "buy 1 AAPL limit", limit_price="150", extended_hours=True, time_in_force="gtc")
    return new_york, account


FIRST = utc(EVE, "00:00")
times = st.builds(
    lambda minutes, seconds: FIRST + timedelta(minutes=minutes, seconds=seconds),
    st.sampled_from([540, 870, 1260, 1500, 540 + 2880, 870 + 2880, 1080 + 2880, 1320 + 2880]).flatmap(
        lambda edge: st.integers(edge - 3, edge + 3)
    ),
    st.sampled_from([0, 0, 1, 59]),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quoted_at=times, before=st.none() | st.integers(0, 90_000), own=st.none() | st.integers(0, 120))
def test_the_calendar_decides_in_which_session_a_price_lies(
    waiting: tuple[Exchange, UUID], quoted_at: datetime, before: int | None, own: int | None
) -> None:
    """The statement finds what the list of sessions says, and only the orders that may fill then."""
    exchange, _ = waiting
    since = None if before is None else quoted_at - timedelta(seconds=before)
    start = None if own is None else quoted_at - timedelta(seconds=own)
    made = _price(quoted_at, since, start)
    found: set[Hours] = set()
    concerned = 0
    with exchange.orders.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE orders.orders SET active_at = '2026-11-20Z'")
        rows = fetch(connection, quotes._CONCERNED, quotes.columns([made]))
        for row in quotes.typed(quotes._Candidate, rows):
            found.add(row.hours)
            concerned += 1
    expected = hours_of(made)
    regular, extended = expected.bar or expected.quote, expected.bar_extended or expected.quote_extended
    assert concerned == int(regular) + int(extended)
    if found:
        assert found == {expected}


def hours_of(price: Price) -> Hours:
    """By the list of sessions, one after the other."""
    start = price.bar_start or price.since
    bar = None if start is None else _at(start)
    quoted = _at(price.quoted_at)
    whole = price.bar_start is not None
    regular = bar is not None and bar.kind == "regular" and (whole or price.quoted_at <= bar.close_at)
    extended = bar is not None and (whole or price.quoted_at <= _day(bar)[1])
    begun = [session for session in NEW_YORK if session.open_at <= price.quoted_at]
    bar_begun = [session for session in NEW_YORK if start is not None and session.open_at <= start]
    opened = [each[-1] for each in (begun, bar_begun) if each and each[-1].kind == "regular"]
    days = [_day(session)[0] for session in (quoted, bar) if session is not None]
    return Hours(
        bar=regular,
        bar_extended=extended,
        quote=quoted is not None and quoted.kind == "regular",
        quote_extended=quoted is not None,
        opened_at=opened[0].open_at if opened else None,
        extended_opened_at=days[0] if days else None,
    )


def _at(time: datetime) -> Session | None:
    return next((session for session in NEW_YORK if session.open_at <= time < session.close_at), None)


def _day(session: Session) -> tuple[datetime, datetime]:
    day = [each for each in NEW_YORK if each.day == session.day]
    return min(each.open_at for each in day), max(each.close_at for each in day)
