"""The queries and responses about the performance of an account. A figure that is not defined is null."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from services.gateway.http.pagination import Page, StretchQuery, TimeCursor
from services.gateway.http.schemas import Answer, AnyCaseSymbol, Moment, PlainNumber, Query
from shared.contracts.account_alerts import AlertKind
from shared.contracts.written import Bounded

Generation = Annotated[int, Bounded(ge=1, le=2**31 - 1)]


class TimeQuery(Query):
    """The time, by default since the account generation began, and the instrument to compare with."""

    begin: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    benchmark: AnyCaseSymbol | None = None
    generation: Generation | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.begin is not None and self.end is not None and self.begin >= self.end:
            raise ValueError("to: must be after from")
        return self


class PerformanceQuery(TimeQuery):
    by: Literal["account", "strategy", "symbol"] = "account"


class TradingFigures(Answer):
    """Figures of round trips after fees, and of fills.

    ``slippage`` is the cost of the fills against the quote: positive where they were worse than the ask of a buy or
    the bid of a sale.
    """

    trades: int
    realized_pl: PlainNumber
    unrealized_pl: PlainNumber
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    average_win: float | None
    average_loss: float | None
    longest_losing_streak: int
    average_days: float | None
    bought: PlainNumber
    sold: PlainNumber
    fees: PlainNumber
    slippage: PlainNumber
    slippage_bps: float | None
    turnover: float | None


class PerformanceFigures(TradingFigures):
    """Returns are fractions of daily values, without deposits. Volatility and ratios are those of a year.

    ``exposure`` is the mean of long plus short value, as a share of the equity.
    """

    time_weighted_return: float | None
    money_weighted_return: float | None
    annual_return: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float | None
    longest_drawdown_days: float | None
    peak_at: datetime | None
    trough_at: datetime | None
    recovered_at: datetime | None
    periods: int
    alpha: float | None
    beta: float | None
    benchmark_return: float | None
    exposure: float | None


class GroupFigures(TradingFigures):
    """The figures of a symbol or a strategy. Orders without a strategy are the group `none`."""

    group: str


class Performance(Answer):
    """The performance of an account generation in a time."""

    model_config = ConfigDict(populate_by_name=True)

    account_id: UUID
    generation: int
    currency: str
    begin: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    by: str
    benchmark: str | None
    begin_equity: PlainNumber | None
    end_equity: PlainNumber | None
    net_deposits: PlainNumber
    figures: PerformanceFigures
    groups: list[GroupFigures]


class EquityQuery(StretchQuery):
    cursor: TimeCursor | None = None
    generation: Generation | None = None


class EquityPoint(Answer):
    """The account at a time. ``growth`` is that of 1 since the generation began, and no deposit changes it.

    Figures that were not kept before are null.
    """

    run_id: UUID
    generation: int
    at: datetime
    equity: PlainNumber
    cash: PlainNumber
    market_value: PlainNumber
    long_value: PlainNumber | None
    short_value: PlainNumber | None
    unrealized_pl: PlainNumber
    net_deposits: PlainNumber | None
    day_pl: PlainNumber | None
    growth: float | None
    drawdown: float | None
    high_water: PlainNumber | None
    positions: int
    stale_positions: int


class EquityPage(Page[EquityPoint]):
    """The history of an account, the newest first: each minute of the last days, then 5 minutes, hours and days."""


class AccountAlert(Answer):
    """An alert of the account. ``recovered_at`` is null while it is open."""

    id: UUID
    generation: int
    kind: AlertKind
    subject: str
    message: str
    value: PlainNumber
    threshold: PlainNumber
    raised_at: datetime
    recovered_at: datetime | None


class AccountAlertPage(Page[AccountAlert]):
    """Alerts of the account, the last raised first."""


class AccountAlertQuery(StretchQuery):
    cursor: TimeCursor | None = None
    standing: bool | None = Field(default=None, alias="open", description="True for those that have not recovered.")
