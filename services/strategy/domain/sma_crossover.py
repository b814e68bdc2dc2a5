"""The crossover of two simple moving averages.

While the fast average is above the slow one the strategy wants to be long, and out of the market while it is
below. It enters once, with ``order_qty`` shares at most and never beyond ``max_position_qty``, and leaves
whole. Every look ends in a decision with its reason, also when there is nothing to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from shared.contracts.strategy import Action
from shared.money import ZERO, plain


@dataclass(frozen=True)
class Rules:
    """Averages in bars, quantities in shares."""

    fast: int
    slow: int
    order_qty: Decimal
    max_position_qty: Decimal


@dataclass(frozen=True)
class Holding:
    """Shares held, and those that open orders of the strategy would buy or sell."""

    qty: Decimal
    buying: Decimal = ZERO
    selling: Decimal = ZERO


@dataclass(frozen=True)
class Decision:
    action: Action
    reason: str
    qty: Decimal = ZERO


def decide(closes: Sequence[Decimal], holding: Holding, rules: Rules) -> Decision:
    """What to do after the bar that closed last; ``closes`` are in order of time, oldest first."""
    if len(closes) < rules.slow:
        return Decision(Action.HOLD, f"{len(closes)} of {rules.slow} bars so far")
    fast, slow = _average(closes[-rules.fast :]), _average(closes[-rules.slow :])
    if fast > slow:
        return _enter(f"fast average {_short(fast)} above slow {_short(slow)}", holding, rules)
    if fast < slow:
        return _leave(f"fast average {_short(fast)} below slow {_short(slow)}", holding)
    return Decision(Action.HOLD, f"the averages are equal at {_short(fast)}")


def _enter(why: str, holding: Holding, rules: Rules) -> Decision:
    if holding.qty > 0:
        return Decision(Action.HOLD, f"{why}, already long {plain(holding.qty)}")
    if holding.buying > 0:
        return Decision(Action.HOLD, f"{why}, an order for {plain(holding.buying)} is open")
    qty = min(rules.order_qty, rules.max_position_qty)
    return Decision(Action.BUY, why, qty)


def _leave(why: str, holding: Holding) -> Decision:
    qty = holding.qty - holding.selling
    if qty > 0:
        return Decision(Action.SELL, why, qty)
    state = "an order to sell is open" if holding.selling > 0 else "nothing to sell"
    return Decision(Action.HOLD, f"{why}, {state}")


def _average(values: Sequence[Decimal]) -> Decimal:
    return sum(values, ZERO) / len(values)


def _short(value: Decimal) -> str:
    return plain(value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN))
