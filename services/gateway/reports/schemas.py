"""The queries and responses about reports of accounts. A figure that is not defined is null."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WithJsonSchema, WrapValidator, model_validator

from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery
from services.gateway.http.schemas import Answer, Day, Moment, PlainNumber, Query
from services.gateway.performance.schemas import Generation, GroupFigures, Performance
from shared.contracts.account_alerts import ReportPeriod

_YEARS = range(1970, 2200)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _date_or_moment(value: Any, read_moment: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return read_moment(value)
    day = date.fromisoformat(value)
    if day.year not in _YEARS:
        raise ValueError("must be between 1970 and 2200")
    return day


#: A date of the account's market, or a time.
DateOrMoment = Annotated[
    Moment | date,
    WrapValidator(_date_or_moment),
    WithJsonSchema({"type": "string", "maxLength": 40, "description": "A date of the account's market, or a time."}),
]


class ReportQuery(Query):
    """The report that is asked for.

    A `daily`, `weekly` or `monthly` report is that of the period with `from`, or with `to`, or of the present one. A
    `custom` one has any time, and without a time all since the account generation began. Without `format` the header
    `Accept` decides.
    """

    period: Literal["daily", "weekly", "monthly", "custom"] = "daily"
    begin: DateOrMoment | None = Field(default=None, alias="from")
    end: DateOrMoment | None = Field(default=None, alias="to")
    format: Literal["html", "json", "csv"] | None = None
    generation: Generation | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        both = (self.begin, self.end)
        days = all(isinstance(each, date) and not isinstance(each, datetime) for each in both)
        moments = all(isinstance(each, datetime) for each in both)
        if (days and self.begin > self.end) or (moments and self.begin >= self.end):  # type: ignore[operator]
            raise ValueError("to: must be after from")
        return self


class ReportsQuery(PageQuery):
    cursor: Annotated[tuple[Day, ReportPeriod], *FROM_CURSOR] | None = None
    period: ReportPeriod | None = None


class ReportItem(Answer):
    """A period of which there is a report. ``made_at`` is null until its finished report is made."""

    model_config = ConfigDict(populate_by_name=True)

    period: ReportPeriod
    begin: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    first_day: date
    day: date
    generation: int
    finished: bool
    made_at: datetime | None


class ReportsPage(Page[ReportItem]):
    """The periods of an account generation, the latest first."""


class CurvePoint(Answer):
    """``growth`` is that of 1 since the begin of the time, and no deposit changes it."""

    at: datetime
    equity: PlainNumber
    growth: float
    drawdown: float


class MonthlyReturn(Answer):
    """The return of a month, such as `2026-11`, as a fraction."""

    month: str
    value: float = Field(alias="return")


class Holding(Answer):
    """A position, or the cash where ``symbol`` is null. ``price`` is in ``currency``, ``value`` in the account's."""

    symbol: str | None
    qty: PlainNumber | None
    price: PlainNumber | None
    currency: str
    value: PlainNumber
    share: float | None


class StrategyFigures(GroupFigures):
    """The trading of a strategy. ``name`` is null where there is no such strategy any more."""

    name: str | None


class Deposit(Answer):
    """A deposit, or a withdrawal where it is negative."""

    at: datetime
    amount: PlainNumber


class ReportTrip(Answer):
    """A round trip with its profit after fees."""

    symbol: str
    opened_at: datetime
    closed_at: datetime
    profit: PlainNumber


class ReportTrade(Answer):
    """A completed order. ``avg_price`` is in ``currency``, ``fees`` and ``realized_pl`` are in the account's."""

    order_id: UUID
    symbol: str
    side: str
    qty: PlainNumber
    avg_price: PlainNumber
    currency: str
    fees: PlainNumber
    realized_pl: PlainNumber | None
    strategy_id: UUID | None
    completed_at: datetime


class Report(Performance):
    """The report of an account: the performance in a period by symbol, with curves, allocation and trades.

    The report of a finished period stays as it was made. It is `corrected` if entries of the period were booked later:
    then its figures are the present ones. ``round_trips`` and ``trades`` are the latest 200.
    """

    period: Literal["daily", "weekly", "monthly", "custom"]
    first_day: date
    last_day: date
    number: str
    name: str
    market: str
    time_zone: str
    finished: bool
    made_at: datetime
    corrected: bool
    profit: PlainNumber | None
    equity: list[CurvePoint]
    monthly_returns: list[MonthlyReturn]
    allocation: list[Holding]
    strategies: list[StrategyFigures]
    deposits: list[Deposit]
    round_trips: list[ReportTrip]
    trades: list[ReportTrade]
    trades_total: int
