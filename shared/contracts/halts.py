"""Trading halts: entered by hand, and over when somebody resumes the trading."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from shared.contracts.base import Command, Event, Symbol

#: Text or a code, such as ``news pending`` or ``T1``.
Reason = Annotated[str, Field(min_length=1, max_length=200)]


class Halt(BaseModel):
    """What is halted, and why."""

    symbol: Symbol
    reason: Reason


class OfSymbol(Command):
    """The commands that one sender has for an instrument are obeyed in their order: the last one counts."""

    service: ClassVar[str] = "marketdata"
    in_order: ClassVar[bool] = True

    symbol: Symbol

    @property
    def key(self) -> str:
        return f"instrument/{self.symbol}"


class HaltTrading(OfSymbol, Halt):
    """Nothing of the symbol fills from now on. What is halted already stays so as it is.

    ``halt_id`` is minted by the sender: under one id there is one halt.
    """

    halt_id: UUID


class ResumeTrading(OfSymbol):
    """The halt is over; where there is none, nothing changes."""


class TradingHalted(Event, Halt):
    """No price of the symbol comes from now on, until it is resumed. All prices that were told are older."""

    service: ClassVar[str] = "marketdata"

    halt_id: UUID
    began_at: AwareDatetime


class TradingResumed(Event):
    """The halt is over: the next price of the symbol is one from after it."""

    service: ClassVar[str] = "marketdata"

    halt_id: UUID
    symbol: Symbol
    ended_at: AwareDatetime
