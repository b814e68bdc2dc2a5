"""The crossover of two simple moving averages.

The strategy is long while the fast average is above the slow one, and out of the market while it is below. It enters
once, with at most ``order_qty`` shares and never more than ``max_position_qty``, and sells the whole position.
Every call returns a decision with its reason, even if that is to hold.
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
    """The strategy's shares, and the shares that its open orders would buy or sell."""

    qty: Decimal
    buying: Decimal = ZERO
    selling: Decimal = ZERO


@dataclass(frozen=True)
class Decision:
    """An action with its reason. The quantity is zero for a decision to hold."""

    action: Action
    reason: str
    qty: Decimal = ZERO


def decide(closes: Sequence[Decimal], holding: Holding, rules: Rules) -> Decision:
    """Decide after the bar that closed last. ``closes`` are oldest first."""
    if len(closes) < rules.slow:
        return Decision(Action.HOLD, f"{len(closes)} of {rules.slow} bars so far")
    fast, slow = _average(closes[-rules.fast :]), _average(closes[-rules.slow :])
    if fast == slow:
        return Decision(Action.HOLD, f"the averages are equal at {_short(fast)}")
    why = f"fast average {_short(fast)} {'above' if fast > slow else 'below'} slow {_short(slow)}"
    if fast > slow:
        if holding.qty <= 0 and holding.buying <= 0:
            return Decision(Action.BUY, why, min(rules.order_qty, rules.max_position_qty))
        held, ordered = f"already long {plain(holding.qty)}", f"an order for {plain(holding.buying)} is open"
        return Decision(Action.HOLD, f"{why}, {held if holding.qty > 0 else ordered}")
    unsold = holding.qty - holding.selling
    if unsold > 0:
        return Decision(Action.SELL, why, unsold)
    state = "an order to sell is open" if holding.selling > 0 else "nothing to sell"
    return Decision(Action.HOLD, f"{why}, {state}")


def _average(values: Sequence[Decimal]) -> Decimal:
    return sum(values, ZERO) / len(values)


def _short(value: Decimal) -> str:
    return plain(value.quantize(Decimal("0.0001"), rounding=ROUND_HALF_EVEN))
