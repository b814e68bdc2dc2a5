"""Changes of a market's sessions: an operator's, and those that a calendar announces late."""

from datetime import date
from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from shared.contracts.base import Command, Event
from shared.contracts.markets import MARKETS
from shared.contracts.written import Printable

MarketCode = Annotated[str, Field(min_length=1, max_length=16)]
#: The days of a year and a week, which a calendar covers.
MOST_DAYS = 1000


class SessionChange(BaseModel):
    """A day of a market that is closed, or opens or closes at another time, and the reason.

    A time that is not given is that of the exchange's calendar. The open and the close are those of regular trading.
    Sessions before and after it follow. Raises ValueError for a market without sessions and for times outside the day.
    """

    market: MarketCode
    day: date
    closed: bool = False
    open_at: AwareDatetime | None = None
    close_at: AwareDatetime | None = None
    reason: Annotated[Printable, Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        market = MARKETS.get(self.market)
        if market is None:
            raise ValueError(f"market: unknown market {self.market}, known are {', '.join(MARKETS)}")
        if market.always_open:
            raise ValueError(f"market: {self.market} never closes, halt its instruments instead (POST /api/halts)")
        if self.closed == (self.open_at is not None or self.close_at is not None):
            raise ValueError("closed: send either closed, or open_at, close_at or both")
        begin, end = market.day_bounds(self.day)
        for name, at in (("open_at", self.open_at), ("close_at", self.close_at)):
            if at is not None and not begin <= at <= end:
                raise ValueError(f"{name}: must be on the market's {self.day}, from {begin} to {end}")
        if self.open_at is not None and self.close_at is not None and self.open_at >= self.close_at:
            raise ValueError("close_at: must be after open_at")
        return self


class OfMarket(Command):
    """A command about one market. Those of one sender are handled in their order, so the last one counts."""

    service: ClassVar[str] = "marketdata"
    in_order: ClassVar[bool] = True

    market: MarketCode
    change_id: UUID

    @property
    def key(self) -> str:
        return f"market/{self.market}"


class ChangeSessions(OfMarket, SessionChange):
    """Change the sessions of a day. A change of the same day before it gives way to it.

    The sender chooses ``change_id``. One id changes a day once.
    """


class RemoveSessionChange(OfMarket):
    """Give the day the sessions of the exchange's calendar again."""


class SessionsChanged(Event):
    """The sessions of these days of a market are others now. The views of marketdata have them.

    ``change_id`` is the operator's change that was made or removed, or the run that corrected the sessions.
    """

    service: ClassVar[str] = "marketdata"

    market: MarketCode
    change_id: UUID
    days: Annotated[tuple[date, ...], Field(min_length=1, max_length=MOST_DAYS)]
