"""The thresholds of an account at which an alert is raised, and the events about its alerts."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.contracts.base import Command, Event, Number
from shared.contracts.written import Bounded

#: The thresholds of profit and loss that an account may have.
MOST_WINDOWS = 5
ReportPeriod = Literal["daily", "weekly", "monthly"]
Share = Annotated[Decimal, Bounded(gt=0, le=1)]


class AlertKind(StrEnum):
    GAIN = "gain"
    LOSS = "loss"
    DRAWDOWN = "drawdown"
    CONCENTRATION = "concentration"
    MARGIN = "margin"
    STALE_PRICE = "stale_price"


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProfitAndLoss(_Rules):
    """A profit or a loss within a window is significant from an ``amount`` or from a ``percent`` of the equity before.

    ``window`` is in minutes. Without one it is the day, since the close before. Deposits are no profit.
    """

    amount: Annotated[Decimal, Bounded(gt=0, le=1_000_000_000_000)] | None = None
    percent: Annotated[Decimal, Bounded(gt=0, le=1000)] | None = None
    window: Annotated[int, Bounded(ge=1, le=43_200)] | None = None

    @model_validator(mode="after")
    def _has_a_threshold(self) -> Self:
        if self.amount is None and self.percent is None:
            raise ValueError("amount: give an amount, a percent, or both")
        return self

    @property
    def subject(self) -> str:
        """The name of the window, such as ``day`` or ``60m``."""
        return "day" if self.window is None else f"{self.window}m"


class AlertRules(_Rules):
    """The thresholds of an account. None means no alert of this kind.

    ``drawdown`` is a fraction of the highest value, without deposits. ``concentration`` is the largest position as a
    fraction of the equity, and ``margin`` the maintenance margin as one. ``stale_price`` is the age in seconds of the
    oldest price of a position, while its market is open. An alert recovers when its figure has fallen ``recovery`` of
    the threshold below it, and is raised again only after that. ``reports`` are the periods whose finished reports are
    sent.
    """

    profit_and_loss: Annotated[tuple[ProfitAndLoss, ...], Field(max_length=MOST_WINDOWS)] = ()
    drawdown: Share | None = None
    concentration: Annotated[Decimal, Bounded(gt=0, le=10)] | None = None
    margin: Share | None = None
    stale_price: Annotated[int, Bounded(ge=10, le=604_800)] | None = None
    recovery: Annotated[Decimal, Bounded(ge=0, le=Decimal("0.9"))] = Decimal("0.2")
    reports: Annotated[tuple[ReportPeriod, ...], Field(max_length=3)] = ()

    @model_validator(mode="after")
    def _has_each_window_once(self) -> Self:
        windows = [each.window for each in self.profit_and_loss]
        if len(windows) > len(set(windows)):
            raise ValueError("profit_and_loss: name each window once")
        if len(self.reports) > len(set(self.reports)):
            raise ValueError("reports: name each period once")
        return self


class SetAlertRules(Command):
    """Watch the account by these thresholds from now on."""

    service: ClassVar[str] = "valuation"
    in_order: ClassVar[bool] = True

    account_id: UUID
    rules: AlertRules

    @property
    def key(self) -> str:
        """Apart from the commands to orders: a message in turn follows one that the same service receives."""
        return f"{self.account_id}/alert-rules"


class _OfAlert(Event):
    """An event of one alert. ``subject`` is the symbol or the window that it is about."""

    service: ClassVar[str] = "valuation"

    alert_id: UUID
    account_id: UUID
    kind: AlertKind
    subject: Annotated[str, Field(max_length=100)]
    value: Number
    threshold: Number
    at: AwareDatetime

    @property
    def key(self) -> str:
        return str(self.account_id)


class AlertRaised(_OfAlert):
    """A figure of an account reached its threshold. ``message`` states it in one sentence."""

    message: Annotated[str, Field(max_length=500)]


class AlertRecovered(_OfAlert):
    """The figure of a raised alert has recovered, or its threshold is gone."""
