"""Trading halts, which an operator begins and ends."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from shared.contracts.base import Command, Event, Symbol
from shared.contracts.written import Printable

#: Text or a code, such as ``news pending`` or ``T1``.
Reason = Annotated[str, Field(min_length=1, max_length=200)]


class Halt(BaseModel):
    """A halted symbol and the reason."""

    symbol: Symbol
    reason: Reason


class OfSymbol(Command):
    """A command about one instrument. Those of one sender are handled in their order, so the last one counts."""

    service: ClassVar[str] = "marketdata"
    in_order: ClassVar[bool] = True

    symbol: Symbol

    @property
    def key(self) -> str:
        return f"instrument/{self.symbol}"


class HaltTrading(OfSymbol, Halt):
    """Stop all fills in the symbol from now on. A symbol that is halted already keeps its halt.

    The sender chooses ``halt_id``. One id begins one halt.
    """

    reason: Annotated[Printable, Field(min_length=1, max_length=200)]
    halt_id: UUID


class ResumeTrading(OfSymbol):
    """End the halt of the symbol, if there is one."""


class TradingHalted(Event, Halt):
    """Trading in the symbol is halted. No price of it is published until it resumes. All prices published are older."""

    service: ClassVar[str] = "marketdata"

    halt_id: UUID
    began_at: AwareDatetime


class TradingResumed(Event):
    """The halt is over. The next price of the symbol is from after it."""

    service: ClassVar[str] = "marketdata"

    halt_id: UUID
    symbol: Symbol
    ended_at: AwareDatetime
