"""Parity: a strategy decides, fills and earns the same live and in a backtest over the same prices, to the cent."""

import json
import os
from decimal import Decimal
from typing import Any

import pytest

from services.strategy.backtest.run import run
from services.strategy.backtest.setup import Setup
from services.strategy.strategies.registry import make_strategy
from services.strategy.strategies.sizing import Sizing
from shared.contracts.accounts import AccountSettings
from tests.component.live_strategy import LiveStrategy, replayed
from tests.component.paper_exchange import Exchange

MINUTES = 120
FAST, SLOW = ({"indicator": "sma", "period": bars} for bars in (3, 8))
RULES = {
    "long": {"entry": {"left": FAST, "op": "crosses_above", "right": SLOW}},
    "short": {"entry": {"left": FAST, "op": "crosses_below", "right": SLOW}},
    "stop_loss": "2",
    "take_profit": "3",
    "time_stop": 20,
}
COSTS = {"commission": {"kind": "per_share", "rate": "0.005"}, "slippage": {"kind": "fixed", "rate": "2"}}
MARGIN = {"multiplier": 2, "shorting": True, "fills": COSTS}
#: ``make parity`` names another strategy, such as ``{"kind": "macd", "parameters": {}}``, and its symbols.
NAMED = json.loads(os.environ.get("PAPERPROFIT_PARITY_STRATEGY") or "null")
SYMBOLS = tuple((os.environ.get("PAPERPROFIT_PARITY_SYMBOLS") or "AAPL,IBM").split(","))
CASES = {
    "crossover": ("sma_crossover", {"fast": 3, "slow": 8}, {"value": 10}, {}),
    "short crossover with costs": (
        "sma_crossover",
        {"fast": 3, "slow": 8, "short": True},
        {"kind": "equity", "value": "0.4"},
        MARGIN,
    ),
    "rules with brackets": ("rules", RULES, {"kind": "risk", "value": "0.01"}, MARGIN),
    **({} if NAMED is None else {"named": (NAMED["kind"], NAMED.get("parameters", {}), {"value": 10}, MARGIN)}),
}


@pytest.mark.parametrize(("kind", "parameters", "sizing", "settings"), CASES.values(), ids=CASES)
def test_a_strategy_trades_the_same_live_and_in_a_backtest(
    exchange: Exchange, kind: str, parameters: dict[str, Any], sizing: dict[str, Any], settings: dict[str, Any]
) -> None:
    series, prices = replayed(SYMBOLS, MINUTES)
    setup = Setup(
        strategy=make_strategy(kind, parameters),
        sizing=Sizing.model_validate(sizing),
        settings=AccountSettings.model_validate(settings),
        cash=Decimal(100_000),
    )

    live = LiveStrategy(exchange, setup, series)
    live.trade(prices)
    backtest = run(setup, series, prices=prices)

    assert [(each.at, each.decision) for each in backtest.decided] == live.decided
    fills = [
        (fill.quote.quoted_at, fill.order.symbol, fill.order.side, fill.qty, fill.price, fill.amount, fill.fee)
        for fill in backtest.exchange.fills
    ]
    assert sorted(fills) == sorted(live.fills())
    assert backtest.equity == live.equity
    assert NAMED is not None or len(fills) > 10
    assert NAMED is not None or {fill[1] for fill in fills} == set(SYMBOLS)
    print(f"{kind}: {len(live.decided)} decisions, {len(fills)} fills and {len(live.equity)} equities are the same")
