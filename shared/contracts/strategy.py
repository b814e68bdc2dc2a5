"""The event of the service strategy."""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from shared.contracts.base import Event, Number, Symbol


class Action(StrEnum):
    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


class SignalGenerated(Event):
    """A strategy's buy or sell signal on the bar that starts at ``bar_at``."""

    service: ClassVar[str] = "strategy"

    signal_id: UUID
    strategy_id: UUID
    account_id: UUID
    symbol: Symbol
    action: Action
    price: Number
    bar_at: AwareDatetime
    reason: str
