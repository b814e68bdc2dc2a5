"""Parity: a strategy decides, fills and earns the same live and in a backtest over the same prices, to the cent."""

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from services.strategy.backtest.run import run
from services.strategy.backtest.setup import Setup
from services.strategy.strategies.registry import make_strategy
from services.strategy.strategies.sizing import Sizing
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.accounts import AccountSettings
from shared.contracts.protections import Protections
from shared.money import plain
from tests.component.paper_exchange import Exchange
from tests.component.replayed_strategy import ReplayedStrategy, replayed
from tests.component.watching import context_of

MINUTES = 90
FAST, SLOW = ({"indicator": "sma", "period": bars} for bars in (3, 8))
RULES = {
    "long": {"entry": {"left": FAST, "op": "crosses_above", "right": SLOW}},
    "short": {"entry": {"left": FAST, "op": "crosses_below", "right": SLOW}},
    "stop_loss": "2",
    "take_profit": "3",
    "time_stop": 5,
}
COSTS = {"commission": {"kind": "per_share", "rate": "0.005"}, "slippage": {"kind": "fixed", "rate": "2"}}
MARGIN = {"multiplier": 2, "shorting": True, "fills": COSTS}
LIMITS = {"orders_per_minute": 3, "max_drawdown": "0.05", "max_position_share": "0.6"}


class Case(NamedTuple):
    kind: str
    parameters: dict[str, Any]
    sizing: dict[str, Any]
    settings: dict[str, Any] | None = None
    protections: dict[str, Any] | None = None


#: ``make parity`` names another strategy, such as ``{"kind": "macd", "parameters": {}}``, and its symbols.
NAMED = json.loads(os.environ.get("PAPERPROFIT_PARITY_STRATEGY") or "null")
SYMBOLS = tuple((os.environ.get("PAPERPROFIT_PARITY_SYMBOLS") or "AAPL,IBM").split(","))
CASES = {
    "short crossover with costs": Case(
        "sma_crossover", {"fast": 3, "slow": 8, "short": True}, {"kind": "equity", "value": "0.4"}, MARGIN
    ),
    "rules with brackets, limits and protections": Case(
        "rules",
        RULES,
        {"kind": "risk", "value": "0.01"},
        {**MARGIN, "limits": LIMITS},
        {"cool_down_minutes": 4, "max_trades_per_day": 12, "max_open_positions": 1, "max_drawdown": "0.03"},
    ),
    "a margin call": Case(
        "rules",
        {"long": {"entry": {"left": {"price": "last"}, "op": ">", "right": 1}}},
        {"kind": "equity", "value": "1.95"},
        {"multiplier": 4, "margin_grace": 0},
    ),
    "a loss streak that flattens": Case(
        "sma_crossover",
        {"fast": 3, "slow": 8},
        {"value": 10},
        None,
        {"max_loss_streak": 3, "flatten": True},
    ),
    **({} if NAMED is None else {"named": Case(NAMED["kind"], NAMED.get("parameters", {}), {"value": 10}, MARGIN)}),
}


@pytest.fixture
def strategy(urls: dict[str, str], exchange: Exchange) -> Iterator[ServiceContext]:
    with context_of("strategy", urls, exchange.clock) as context:
        yield context


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_strategy_trades_the_same_live_and_in_a_backtest(
    exchange: Exchange, strategy: ServiceContext, case: Case
) -> None:
    series, prices = replayed(SYMBOLS, MINUTES)
    setup = Setup(
        strategy=make_strategy(case.kind, case.parameters),
        sizing=Sizing.model_validate(case.sizing),
        protections=Protections.model_validate(case.protections or {}),
        settings=AccountSettings.model_validate(case.settings or {}),
        cash=Decimal(100_000),
    )

    live = ReplayedStrategy(exchange, strategy, setup, case.parameters, SYMBOLS)
    live.trade(prices)
    backtest = run(setup, series, prices=prices)

    decided = [
        (each.at, each.decision.symbol, each.decision.action, each.outcome, each.sized.side, plain(each.sized.qty),
         each.sized.cuts, each.decision.reason)
        for each in backtest.decided
    ]  # fmt: skip
    assert sorted(decided, key=str) == sorted(live.decided(), key=str)
    fills = [
        (fill.quote.quoted_at, fill.order.symbol, fill.order.side, fill.qty, fill.price, fill.amount, fill.fee)
        for fill in backtest.exchange.fills
    ]
    assert sorted(fills) == sorted(live.fills())
    assert backtest.equity == live.equity
    assert (backtest.halted[1] if backtest.halted else None) == live.paused()
    print(f"{case.kind}: {len(decided)} decisions, {len(fills)} fills and {len(live.equity)} equities are the same")
