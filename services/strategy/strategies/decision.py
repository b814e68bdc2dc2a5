"""The wishes of a strategy: one decision for each symbol that it looked at."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple


class Action(StrEnum):
    """The action for the symbol. ``hold`` does nothing."""

    ENTER_LONG = "enter_long"
    ENTER_SHORT = "enter_short"
    EXIT = "exit"
    #: Bring the position to ``weight`` of the account's equity.
    TARGET = "target"
    #: Buy for ``notional``, whatever is held already.
    BUY = "buy"
    HOLD = "hold"


class Condition(NamedTuple):
    """A condition that was looked at: its text, whether it holds, and the values in it by their names.

    ``holds`` is None where a value was missing. Then nothing is done.
    """

    text: str
    holds: bool | None
    values: tuple[tuple[str, Decimal | float | str | None], ...] = ()


@dataclass(slots=True, kw_only=True)
class Decision:
    """An action on one symbol with its reason, also where it is to hold. Nobody changes one.

    It is not frozen, because a backtest makes one for each bar, and that takes three times as long where it is.
    ``strength`` and ``confidence`` are between 0 and 1. Prices are in the instrument's currency. ``stop_loss`` and
    ``take_profit`` become the exits of a bracket order. ``limit_price`` makes the entry a limit order.
    """

    symbol: str
    action: Action
    reason: str
    conditions: tuple[Condition, ...] = ()
    strength: Decimal = Decimal(1)
    confidence: Decimal = Decimal(1)
    limit_price: Decimal | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    weight: Decimal | None = None
    notional: Decimal | None = None
