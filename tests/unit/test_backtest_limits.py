"""A backtest within the limits of live trading: protections, the account's limits, margin calls, and bad strategies."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.strategy.backtest.dividends import Dividend
from services.strategy.backtest.outcome import outcome
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Backtest, Setup
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.guard import StrategyFailed
from services.strategy.strategies.judgement import Outcome
from services.strategy.strategies.registry import make_strategy, strategies
from services.strategy.strategies.sizing import Sizing
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act
from services.strategy.strategies.view import Bar, SymbolView, View
from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import OrderStatus
from shared.contracts.protections import Protections
from shared.exchange.market_rules import MarketRules
from shared.money import ZERO
from tests.unit.recorded_series import recorded

NOON, MINUTE = datetime(2026, 11, 23, 12, tzinfo=UTC), timedelta(minutes=1)
FREE = MarketRules(half_spread=ZERO)
ABOVE, BELOW = ({"left": {"price": "close"}, "op": op, "right": 100} for op in (">", "<"))
MASKED = [
    kind
    for kind, each in strategies().items()
    if issubclass(each, SymbolStrategy) and each.may_act is not SymbolStrategy.may_act
]


def minutes(symbol: str, *closes: int) -> Series:
    """A bar a minute, each from the close before to its own."""
    opens = (closes[0], *closes[:-1])
    bars = [
        Bar(NOON + number * MINUTE, Decimal(o), Decimal(max(o, c)), Decimal(min(o, c)), Decimal(c), Decimal(1000))
        for number, (o, c) in enumerate(zip(opens, closes, strict=True))
    ]
    return Series(symbol, bars, MINUTE)


def traded(kind: str, parameters: dict[str, Any], series: Sequence[Series], **setup: Any) -> Backtest:
    models: dict[str, Any] = {"sizing": Sizing, "settings": AccountSettings, "protections": Protections}
    given = {name: models[name].model_validate(value) if name in models else value for name, value in setup.items()}
    return run(Setup(strategy=make_strategy(kind, parameters), **{"rules": FREE, **given}), series)


def outcomes(result: Backtest) -> list[tuple[str, str]]:
    return [(each.decision.symbol, each.outcome.value) for each in result.decided]


@pytest.mark.parametrize("kind", MASKED)
def test_bars_that_are_left_out_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions, fills and equity are the same where the strategy looks at each bar."""
    series = [replace(each, bars=each.bars[:700]) for each in (recorded("GOOG"), recorded("IBM"))]
    parameters = {"short": True} if kind.endswith("crossover") else {}
    setup = {"settings": {"multiplier": 2, "shorting": True}, "dividends": (_dividend(series[1]),)}

    quick = traded(kind, parameters, series, **setup)
    monkeypatch.setattr(strategies()[kind], "may_act", lambda *_: None)
    slow = traded(kind, parameters, series, **setup)

    assert quick.decided == slow.decided
    assert (quick.bars, quick.decisions) == (slow.bars, slow.decisions)
    assert quick.exchange.fills == slow.exchange.fills
    assert quick.equity == slow.equity
    assert len(quick.exchange.fills) > 10


def _dividend(series: Series) -> Dividend:
    middle = series.bars[len(series.bars) // 2].start
    return Dividend(series.symbol, middle, middle + timedelta(days=3), Decimal("0.5"))


def test_the_crossovers_and_oscillators_leave_bars_out() -> None:
    assert sorted(MASKED) == ["bollinger_reversion", "ema_crossover", "macd", "rsi_reversion", "sma_crossover"]


def test_no_more_entries_than_allowed() -> None:
    """The second symbol is blocked, as in live trading, and the decision says why."""
    always = {"long": {"entry": ABOVE}}
    series = [minutes("AAPL", 101, 101, 101), minutes("IBM", 101, 101, 101)]

    result = traded("rules", always, series, protections={"max_open_positions": 1})

    assert outcomes(result)[:2] == [("AAPL", "ordered"), ("IBM", "blocked")]
    assert result.decided[1].sized.cuts == ("max_open_positions: 1 positions are open.",)
    assert {fill.order.symbol for fill in result.exchange.fills} == {"AAPL"}
    once = traded("rules", always, series, protections={"max_trades_per_day": 1})
    assert [each for each in outcomes(once) if each[1] == "ordered"] == [("AAPL", "ordered")]


def test_a_symbol_cools_down() -> None:
    """It is left at the third bar below 100. The entries at the next two are blocked, and the third is not."""
    rules = {"long": {"entry": ABOVE, "exit": BELOW}}
    closes = (101, 101, 99, 101, 101, 101, 101)

    result = traded("rules", rules, [minutes("AAPL", *closes)], protections={"cool_down_minutes": 2})

    acted = [(each.decision.action, each.outcome) for each in result.decided if each.outcome is not Outcome.CUT]
    assert acted == [
        (Action.ENTER_LONG, Outcome.ORDERED),
        (Action.EXIT, Outcome.ORDERED),
        (Action.ENTER_LONG, Outcome.BLOCKED),
        (Action.ENTER_LONG, Outcome.BLOCKED),
        (Action.ENTER_LONG, Outcome.ORDERED),
    ]


@pytest.mark.parametrize(
    ("protections", "why"),
    [
        ({"max_drawdown": "0.01"}, "max_drawdown: the profit is 2000.00 below its peak."),
        ({"max_daily_loss": "0.01"}, "max_daily_loss: 2000.00 were lost today."),
    ],
)
def test_a_loss_halts_and_flattens(protections: dict[str, Any], why: str) -> None:
    series = [minutes("AAPL", 101, 101, 81, 81, 81, 101)]
    terms = {"sizing": {"value": 100}, "protections": {**protections, "flatten": True}}

    result = traded("rules", {"long": {"entry": ABOVE}}, series, **terms)

    assert result.halted == (NOON + 3 * MINUTE, why)
    assert [(fill.order.side.value, int(fill.price)) for fill in result.exchange.fills] == [("buy", 101), ("sell", 81)]
    assert result.equity[-1][1] == 98_000
    assert max(each.at for each in result.decided) < NOON + 3 * MINUTE


def test_a_large_position_halts_and_flattens() -> None:
    series = [minutes("AAPL", 101, 101, 151, 151, 151, 101)]
    terms = {"sizing": {"value": 100}, "protections": {"max_concentration": "0.12", "flatten": True}}

    result = traded("rules", {"long": {"entry": ABOVE}}, series, **terms)

    assert result.halted == (NOON + 3 * MINUTE, "max_concentration: AAPL is 14.38% of the equity.")
    assert [(fill.order.side.value, int(fill.price)) for fill in result.exchange.fills] == [("buy", 101), ("sell", 151)]


def test_the_orders_of_a_minute_are_limited() -> None:
    series = [minutes(symbol, 101, 101, 101, 101) for symbol in ("AAPL", "IBM", "MSFT")]
    settings = {"limits": {"orders_per_minute": 2}}

    result = traded("rules", {"long": {"entry": ABOVE}}, series, settings=settings)

    refused = [(each.decision.symbol, each.refusal) for each in result.decided if each.refusal]
    assert refused == [("MSFT", "more than 2 orders in a minute: wait, then submit again")]
    assert {fill.order.symbol for fill in result.exchange.fills} == {"AAPL", "IBM", "MSFT"}


def test_a_daily_loss_of_the_account_refuses_entries() -> None:
    """The day begins with the equity of the last bar before midnight, in UTC."""
    late = [Bar(bar.start - timedelta(hours=12, minutes=3), bar.open, bar.high, bar.low, bar.close, bar.volume)
            for bar in minutes("AAPL", 101, 101, 101, 81, 101).bars]  # fmt: skip
    rules = {"long": {"entry": ABOVE, "exit": BELOW}}
    terms = {"settings": {"limits": {"max_daily_loss": "0.01"}}, "sizing": {"value": 100}}

    result = traded("rules", rules, [Series("AAPL", late, MINUTE)], **terms)

    assert [each.refusal for each in result.decided if each.refusal] == [
        "daily loss: equity 98000 has fallen by more than 1 % from 100000"
    ]


def test_a_margin_call_closes_the_positions() -> None:
    """Four times the equity is held. A fall of five percent calls, and after an hour all is sold."""
    series = [minutes("AAPL", 101, 101, *[96] * 70)]
    settings = {"multiplier": 4, "margin_grace": 1}

    result = traded(
        "rules", {"long": {"entry": ABOVE}}, series, settings=settings, sizing={"kind": "equity", "value": "3.8"}
    )

    assert [(what, at - NOON) for at, what in result.margin_calls] == [
        ("called", 3 * MINUTE),
        ("liquidated", 63 * MINUTE),
        ("met", 64 * MINUTE),
    ]
    bought, sold = result.exchange.fills
    assert (bought.qty, sold.price) == (sold.qty, Decimal(96))
    assert sold.order.liquidation
    assert result.exchange.held == {}


def test_the_exits_of_a_bracket_end_before_the_strategy_sells() -> None:
    """They hold the shares. Until they are canceled the sale would be refused."""
    rules = {"long": {"entry": ABOVE, "exit": BELOW}, "stop_loss": "20", "take_profit": "20"}

    result = traded("rules", rules, [minutes("AAPL", 101, 101, 99, 98, 97)])

    assert result.exchange.refusals == []
    assert [(fill.order.side.value, int(fill.price)) for fill in result.exchange.fills] == [("buy", 101), ("sell", 99)]
    legs = [order.status for order in result.exchange.orders.values() if order.leg is not None]
    assert legs == [OrderStatus.CANCELED] * 2


def test_a_bar_is_traded_on_once() -> None:
    """IBM has no second bar, and its first one is looked at again with each bar of AAPL."""
    series = [minutes("AAPL", 101, 101, 101), minutes("IBM", 101)]

    result = traded("rules", {"long": {"entry": ABOVE}}, series, protections={"max_open_positions": 5})

    assert [outcome for symbol, outcome in outcomes(result) if symbol == "IBM"] == ["ordered", "repeated", "repeated"]


class Raises(SymbolStrategy[Parameters]):
    kind, title, source, parameters_model = "raises", "Raises", "A test", Parameters

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        raise RuntimeError("out of ideas")


class Hangs(Raises):
    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        while True:
            pass


class Babbles(Raises):
    def decide(self, view: View) -> Iterable[Decision]:  # noqa: ARG002
        return ["buy everything"]  # type: ignore[list-item]


class Shouts(Raises):
    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        return act(symbol, Action.ENTER_LONG, "It is certain.", strength=Decimal(2))


@pytest.mark.parametrize(
    ("strategy", "error"),
    [
        (Raises, "RuntimeError: out of ideas"),
        (Hangs, "did not end within 0.1 seconds"),
        (Babbles, "is no decision"),
        (Shouts, "strength and confidence"),
    ],
)
def test_a_strategy_that_always_fails_ends_the_backtest_and_says_why(strategy: type[Raises], error: str) -> None:
    with pytest.raises(StrategyFailed, match=error):
        run(Setup(strategy=strategy(Parameters())), [minutes("AAPL", 101, 101)], seconds=0.1)
    halting = Setup(strategy=strategy(Parameters()), protections=Protections(max_failures=2))
    with pytest.raises(StrategyFailed, match=f"max_failures: the strategy failed 2 times .*{error}"):
        run(halting, [minutes("AAPL", 101, 101, 101)], seconds=0.1)


class Stumbles(Raises):
    """Buys on the first bar, and fails at closes of 13, by an error, and of 17, because it takes too long."""

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        while symbol.close == 17:
            pass
        if symbol.close == 13:
            raise RuntimeError("unlucky")
        return act(symbol, Action.ENTER_LONG, "It is time.")


@pytest.mark.parametrize("flatten", [False, True])
def test_a_backtest_goes_on_after_failures_until_there_are_as_many_as_live_trading_allows(flatten: bool) -> None:
    protections = Protections(max_failures=3, flatten=flatten)
    setup = Setup(strategy=Stumbles(Parameters()), protections=protections)
    closes = (10, 13, 17, 11, 12, 13, 17, 13, 12, 10)
    result = run(setup, [minutes("AAPL", *closes)], seconds=0.1)

    late = "did not end within 0.1 seconds"
    errors = ["RuntimeError: unlucky", late, "RuntimeError: unlucky", late, "RuntimeError: unlucky"]
    assert [error for _, error in result.failures] == errors
    why = "max_failures: the strategy failed 3 times one after another, the last time: RuntimeError: unlucky"
    assert result.halted is not None
    assert (result.bars, result.halted[1], result.halted[0]) == (len(closes), why, result.failures[-1][0])
    assert [fill.order.side.value for fill in result.exchange.fills] == (["buy", "sell"] if flatten else ["buy"])
    assert (outcome(result)["failed"], outcome(result)["failures"][1]["message"]) == (5, late)
