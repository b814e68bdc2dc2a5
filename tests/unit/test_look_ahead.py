"""The look-ahead check: it finds the decisions of a strategy that reads later bars, and none of the library's."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import ClassVar

import pytest

from services.strategy.backtest import look_ahead
from services.strategy.backtest.series import Calendar, Series
from services.strategy.backtest.setup import Setup
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.registry import make_strategy
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act, hold
from services.strategy.strategies.view import Bar, Session, SymbolView, View
from tests.unit.recorded_series import recorded

DAY = timedelta(days=1)


class Foresight(SymbolStrategy[Parameters]):
    """Buy if the next bar closes higher, which nobody can know."""

    kind = "foresight"
    title = "Foresight"
    source = "A test"
    parameters_model = Parameters
    bars: ClassVar[Sequence[Bar]] = ()

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        known = symbol._history.bars
        following = known[symbol.at + 1] if symbol.at + 1 < len(known) else None
        if following is None or symbol.position.qty:
            return hold(symbol, "There is no next bar." if following is None else "It is held.")
        rises = following.close > known[symbol.at].close
        return act(symbol, Action.ENTER_LONG, "It will rise.") if rises else hold(symbol, "It will not rise.")


def series(*closes: int) -> Series:
    begin = recorded("IBM").bars[0].start
    prices = [Decimal(close) for close in closes]
    bars = [Bar(begin + day * DAY, price, price, price, price, Decimal(100)) for day, price in enumerate(prices)]
    return Series("IBM", bars, DAY)


def test_a_decision_that_needs_the_next_bar_is_reported() -> None:
    report = look_ahead.check(Setup(strategy=Foresight(Parameters())), [series(10, 9, 12, 13, 14)])

    assert report["changed"] == 1
    (changed,) = report["decisions"]
    assert changed["at"] == report["cuts"][0] == (series(10).bars[0].start + 2 * DAY).isoformat()
    assert changed["with_later_bars"] == {"action": "enter_long", "reason": "It will rise."}
    assert changed["without_later_bars"] is None


@pytest.mark.parametrize("kind", ["sma_crossover", "macd", "bollinger_reversion", "donchian_breakout", "buy_and_hold"])
def test_no_decision_of_the_library_depends_on_later_bars(kind: str) -> None:
    whole = recorded("IBM")
    report = look_ahead.check(
        Setup(strategy=make_strategy(kind, {})), [Series("IBM", whole.bars[:400], whole.interval)]
    )

    assert report["changed"] == 0
    assert len(report["cuts"]) >= 1


def test_truncated_bars_keep_their_market_and_currency() -> None:
    """Session times and conversions hold on them too, otherwise every decision by them would seem to change."""
    opened = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
    calendar = Calendar("XNYS", {date(2026, 11, 23): Session(opened, opened + timedelta(minutes=30))})
    closes = [Decimal(str(close)) for close in (10, 12, 11, 11, 12.5, *[13] * 25)]
    minute = timedelta(minutes=1)
    bars = [Bar(opened + at * minute, each, each, each, each, Decimal(100)) for at, each in enumerate(closes)]
    whole = Series("SAP", bars, minute, calendar, "EUR")
    rate = Decimal("1.1")
    rates = [Bar(opened - minute + at * minute, rate, rate, rate, rate, Decimal(0)) for at in range(31)]

    strategy = make_strategy("opening_range_breakout", {"minutes": 3})
    setup = Setup(strategy=strategy, pairs=(Series("EUR/USD", rates, minute),))
    report = look_ahead.check(setup, [whole])

    assert report["cuts"]
    assert report["changed"] == 0
