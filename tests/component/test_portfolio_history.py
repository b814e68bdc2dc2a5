"""The history of an account on a market with hours and holidays: the hours shown, and a value for each trading day."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import pytest

from services.gateway.performance.portfolio_history_api import HistoryQuery, history_of
from shared.reports.performance import Asked, performance
from tests.component.test_account_snapshots import history, run
from tests.component.trading_history import TradingHistory, at
from tests.support import value

__all__ = ["history"]

_MARKET = """UPDATE orders.accounts SET settings = settings || '{"market": "XNYS"}' WHERE id = %s"""
_SESSION = """
INSERT INTO marketdata.market_sessions (market, kind, open_at, close_at, day) VALUES ('XNYS', %s, %s, %s, %s)
"""


def in_new_york(history: TradingHistory) -> UUID:
    """An account of New York that was opened on Wednesday the 25th and gains on that day and on Friday."""
    account = history.open("10000", "25 15:00")
    with history.orders.engine.begin() as connection:
        connection.exec_driver_sql(_MARKET, (account,))
    with history.marketdata.engine.begin() as connection:
        for day in ("24", "25", "27", "30"):
            for kind, begin, end in (("pre", "09:00", "14:30"), ("regular", "14:30", "21:00")):
                of_day = date(2026, 11, int(day))
                connection.exec_driver_sql(_SESSION, (kind, at(f"{day} {begin}"), at(f"{day} {end}"), of_day))
    history.buy(account, "50", "100", "25 15:01")
    for price, moment in (
        ("101", "25 20:58"),
        ("102", "26 18:00"),
        ("102", "27 10:00"),
        ("104", "27 14:58"),
        ("106", "27 15:12"),
        ("106", "28 12:00"),
    ):
        history.price(price, moment)
        run(history, "update_positions", moment)
    return account


def asked_for(history: TradingHistory, account: UUID, now: str, **query: Any) -> Any:
    with history.orders.engine.connect() as connection:
        return history_of(connection, account, HistoryQuery.model_validate(query), at(now))


def seconds(*moments: str) -> list[int]:
    return [int(at(moment).timestamp()) for moment in moments]


@pytest.mark.parametrize(
    ("hours", "shown"),
    [
        ({}, ("25 20:45", "27 14:45", "27 15:00")),
        ({"extended_hours": "true"}, ("25 20:45", "27 10:00", "27 14:45", "27 15:00")),
        (
            {"intraday_reporting": "continuous"},
            ("25 20:45", "26 18:00", "27 10:00", "27 14:45", "27 15:00", "28 12:00"),
        ),
    ],
)
def test_the_hours_are_those_that_are_asked_for(
    history: TradingHistory, hours: dict[str, str], shown: tuple[str, ...]
) -> None:
    """A timestamp is the begin of its step (Alpaca: left-labeled)."""
    account = in_new_york(history)
    found = asked_for(history, account, "28 13:00", start="2026-11-25", timeframe="15Min", **hours)
    assert found["timestamp"] == seconds(*shown)
    assert found["equity"][-1] == 10_300


def test_a_day_is_a_trading_day_of_the_market(history: TradingHistory) -> None:
    """Thanksgiving and Saturday have no value. A day begins at midnight in New York."""
    account = in_new_york(history)
    found = asked_for(history, account, "28 13:00", period="1W", timeframe="1D")
    assert (found["timestamp"], found["equity"]) == (seconds("25 05:00", "27 05:00"), [10_050, 10_300])


def figures_of(history: TradingHistory, account: UUID, now: datetime) -> Any:
    with history.orders.engine.connect() as connection:
        found = performance(connection, Asked(account, None, None, None, None, "account"), now)
    assert found is not None
    return found


def test_today_and_the_days_after_a_trading_day_count_as_one_day(history: TradingHistory) -> None:
    """On Saturday there are two days, whatever came in then. Monday is the third."""
    account = in_new_york(history)
    history.deposit(account, "500", "28 12:30")
    saturday = figures_of(history, account, at("28 13:00"))
    assert (saturday["figures"]["periods"], saturday["end_equity"]) == (2, 10_800)
    assert saturday["figures"]["time_weighted_return"] == pytest.approx(0.03)
    run(history, "update_positions", "30 15:00")
    assert figures_of(history, account, at("30 15:01"))["figures"]["periods"] == 3


def test_the_first_day_of_an_account_has_no_ratios(history: TradingHistory) -> None:
    """Its last summary, a minute ago, is no day of its own."""
    account = history.open("10000")
    history.buy(account, "50", "100", "23 12:00")
    history.price("90", "23 12:01")
    run(history, "update_positions", "23 12:01")
    found = figures_of(history, account, at("23 12:02"))["figures"]
    assert (found["periods"], found["volatility"], found["sharpe"]) == (1, None, None)
    assert found["time_weighted_return"] == pytest.approx(-0.05)


def test_a_large_deposit_within_a_day_changes_no_return(history: TradingHistory) -> None:
    """The account loses 5 % before it and gains 1 % after it, and its summaries have the same growth."""
    account = history.open("1000")
    history.buy(account, "5", "100", "23 12:00")
    for price, moment in (("100", "23 12:00"), ("90", "23 13:00")):
        history.price(price, moment)
        run(history, "update_positions", moment)
    history.deposit(account, "99050", "23 13:01")
    run(history, "update_positions", "23 13:02")
    history.buy(account, "500", "90", "23 13:03")
    history.price("91.98", "23 14:00")  # of 505 shares
    run(history, "update_positions", "23 14:00")
    found = figures_of(history, account, at("23 14:00"))["figures"]
    growth = 0.95 * (100_000 + 505 * 1.98) / 100_000
    assert found["time_weighted_return"] == pytest.approx(growth - 1)
    sql = "SELECT growth FROM valuation.account_summaries ORDER BY at DESC LIMIT 1"
    assert float(value(history.valuation.engine, sql)) == pytest.approx(growth)
