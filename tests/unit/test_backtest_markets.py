"""A backtest on markets: sessions and what depends on them, and instruments in several currencies."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.strategy.backtest.calendars import UnknownMarket, calendar_of
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Calendar, Series
from services.strategy.backtest.setup import Backtest, Setup
from services.strategy.strategies.registry import make_strategy
from services.strategy.strategies.sizing import Sizing
from services.strategy.strategies.view import Bar, Indicator, Session
from shared.exchange.market_rules import MarketRules
from shared.money import ZERO

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
OPEN = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
MONDAY = Calendar("XNYS", {date(2026, 11, 23): Session(OPEN, OPEN + 30 * MINUTE)})


def bars(begin: datetime, *closes: float, length: timedelta = MINUTE) -> list[Bar]:
    """A bar for each close, which opens at the close before."""
    numbers = [Decimal(str(close)) for close in closes]
    opens = [numbers[0], *numbers[:-1]]
    return [
        Bar(begin + number * length, o, max(o, c), min(o, c), c, Decimal(100))
        for number, (o, c) in enumerate(zip(opens, numbers, strict=True))
    ]


def traded(kind: str, parameters: dict[str, Any], *series: Series, **setup: Any) -> Backtest:
    given = {"rules": MarketRules(half_spread=ZERO), **setup}
    return run(Setup(strategy=make_strategy(kind, parameters), **given), series)


def test_the_opening_range_is_traded_within_its_session() -> None:
    """It is broken at the fifth minute, and left at the last bar that ends five minutes before the close."""
    closes = [10, 12, 11, 11, 12.5, *[13] * 25]
    series = Series("SPY", bars(OPEN, *closes), MINUTE, MONDAY)

    found = traded("opening_range_breakout", {"minutes": 3, "exit_before_close": 5}, series)

    buy, sell = found.exchange.fills
    assert (buy.order.side, buy.quote.bar_start, buy.price) == ("buy", OPEN + 5 * MINUTE, Decimal("12.5"))
    assert (sell.order.side.value, sell.quote.bar_start, int(sell.price)) == ("sell", OPEN + 25 * MINUTE, 13)
    assert traded("opening_range_breakout", {}, replace(series, calendar=Calendar())).exchange.fills == []


def test_rules_know_the_minutes_of_the_session() -> None:
    rules = {
        "long": {"entry": {"left": {"time": "minutes_since_open"}, "op": "==", "right": 4}},
        "exit_before_close": 10,
    }

    found = traded("rules", rules, Series("SPY", bars(OPEN, *[10] * 30), MINUTE, MONDAY))

    assert [fill.quote.bar_start for fill in found.exchange.fills] == [OPEN + 4 * MINUTE, OPEN + 20 * MINUTE]


def test_orders_fill_in_regular_trading_only() -> None:
    """The order of the last minute before the open fills on the first bar of the session."""
    early = bars(OPEN - 3 * MINUTE, *[10] * 6)
    rules = {"long": {"entry": {"left": {"price": "close"}, "op": ">", "right": 1}}}

    found = traded("rules", rules, Series("SPY", early, MINUTE, MONDAY))

    assert [fill.quote.bar_start for fill in found.exchange.fills] == [OPEN]


def test_a_day_order_ends_with_its_session() -> None:
    """Half a share is a day order. Its limit is reached after the close, when it has ended."""
    session = Calendar("XNYS", {date(2026, 11, 23): Session(OPEN, OPEN + 3 * MINUTE)})
    dip = {"long": {"entry": {"left": {"price": "close"}, "op": ">", "right": 11}}}
    series = Series("SPY", bars(OPEN, 10, 10, 12, 12), MINUTE, session)

    found = traded("rules", dip, series, sizing=Sizing(value=Decimal("0.5"), fractional=True))

    (order,) = found.exchange.orders.values()
    assert (order.status, order.expires_at) == ("accepted", None)
    twice = Calendar("XNYS", {**session.days, date(2026, 11, 24): Session(OPEN + DAY, OPEN + DAY + 3 * MINUTE)})
    found = traded("rules", dip, replace(series, calendar=twice), sizing=Sizing(value=Decimal("0.5"), fractional=True))
    (order,) = found.exchange.orders.values()
    assert order.expires_at == OPEN + DAY + 3 * MINUTE


def test_the_average_price_begins_anew_with_each_session() -> None:
    """That of Sydney reaches over midnight in UTC. A bar outside of any session has no average."""
    opened = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    sydney = Calendar("XASX", {date(2026, 11, 23): Session(opened, opened + 2 * MINUTE)})
    series = Series("BHP", bars(opened, 10, 20, 30), MINUTE, sydney)

    values = series.history({"vwap": Indicator("vwap")}).indicators["vwap"]

    assert values == [10, pytest.approx((10 + (20 + 10 + 20) / 3) / 2), None]
    assert series.calendar.session_at(opened + 2 * MINUTE).open_at == opened
    always = replace(series, calendar=Calendar()).history({"vwap": Indicator("vwap")}).indicators["vwap"]
    assert always[1] == pytest.approx((20 + 10 + 20) / 3)


def test_another_currency_is_converted_by_the_bars_of_the_pair() -> None:
    """A euro costs 1.10 at the purchase, and is worth 1.20 at the end. The spread of the rate is paid, too."""
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    sap = Series("SAP", bars(begin, 100, 100, 100, length=DAY), DAY, currency="EUR")
    pair = Series("EUR/USD", bars(begin, 1.1, 1.1, 1.2, length=DAY), DAY)
    ibm = Series("IBM", bars(begin, 50, 50, 50, length=DAY), DAY)

    found = traded(
        "buy_and_hold", {}, sap, ibm, pairs=(pair,), rules=MarketRules(half_spread=Decimal("0.001")), cash=Decimal(1000)
    )

    by_symbol = {fill.order.symbol: fill for fill in found.exchange.fills}
    fill = by_symbol["SAP"]
    assert fill.qty == Decimal(4)
    assert (fill.price, fill.rate) == (Decimal(100), Decimal("1.1011"))
    assert fill.amount == Decimal("440.44")
    assert by_symbol["IBM"].rate == 1
    held = by_symbol["IBM"].qty * 50
    assert found.equity[-1][1] == 1000 - Decimal("440.44") - by_symbol["IBM"].amount + 4 * 100 * Decimal("1.2") + held
    position = found.exchange.position("SAP")
    assert position.entry_price == Decimal("440.44") / 4 / Decimal("1.2")


def test_a_weight_is_one_of_the_accounts_currency() -> None:
    """At 150 yen a dollar 57,000 yen of shares are 380 dollars of 1,000: inside the band, so they are left alone."""
    begin = datetime(2026, 11, 23, tzinfo=UTC)
    sony = Series("SONY", bars(begin, *[3000] * 6, length=DAY), DAY, currency="JPY")
    pair = Series("USD/JPY", bars(begin, *[150] * 6, length=DAY), DAY)
    weights = {"weights": {"SONY": "0.4"}, "band": "0.05"}

    found = traded("target_allocation", weights, sony, pairs=(pair,), cash=Decimal(1000))

    assert [(fill.order.side.value, int(fill.qty)) for fill in found.exchange.fills] == [("buy", 19)]
    assert [each.outcome for each in found.decided] == ["ordered"]


def test_without_a_rate_nothing_is_ordered() -> None:
    sap = Series("SAP", bars(OPEN, 100, 100, length=DAY), DAY, currency="EUR")

    found = traded("buy_and_hold", {}, sap)

    assert {each.sized.cuts for each in found.decided} == {("There is no rate to the account's currency yet.",)}


def test_files_take_their_sessions_from_the_calendar_of_a_market() -> None:
    """Thanksgiving is no day of it, and the day after it is short."""
    days = calendar_of("XNAS", date(2026, 11, 25), date(2026, 11, 27)).days

    assert sorted(days) == [date(2026, 11, 25), date(2026, 11, 27)]
    assert days[date(2026, 11, 27)] == Session(
        datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, tzinfo=UTC)
    )
    assert calendar_of("24/7", date(2026, 11, 25), date(2026, 11, 27)).days == {}
    with pytest.raises(UnknownMarket, match="there is no market 'NYSE', choose one of"):
        calendar_of("NYSE", date(2026, 11, 25), date(2026, 11, 27))
