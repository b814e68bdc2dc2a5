"""How an account trades: what its fills cost, what it may do, and the commands that open, steer and fund it."""

from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Command, Event, Number, Symbol
from shared.contracts.currencies import Currency


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Commission(_Settings):
    """``rate`` by ``kind``: in the account's currency per share, in percent of the amount, or nothing.

    No order costs less than ``minimum``, once something of it has filled.
    """

    kind: Literal["zero", "per_share", "percent"] = "zero"
    rate: Number = Field(default=Decimal(0), ge=0, le=100)
    minimum: Number = Field(default=Decimal(0), ge=0, le=1_000_000)


class Slippage(_Settings):
    """How much worse than the price a market or stop order fills.

    ``fixed``: ``rate`` basis points of the price; ``spread``: that fraction of the quote's whole spread;
    ``volume_share``: ``rate`` x (share of the bar's volume that the order takes)² of the price.
    """

    kind: Literal["none", "fixed", "spread", "volume_share"] = "none"
    rate: Number = Field(default=Decimal(0), ge=0, le=1000)


class FillModel(_Settings):
    """How the account's orders meet the market.

    ``fills_on``: the quote alone, or also the range of the bar since the price before. ``participation``: the share of
    the quote's size, or of the bar's volume, that our orders may take; None takes what they ask for. ``latency`` in
    seconds: only later quotes fill.
    """

    fills_on: Literal["quote", "bar"] = "quote"
    participation: Number | None = Field(default=None, gt=0, le=1)
    latency: Number = Field(default=Decimal(0), ge=0, le=3600)
    slippage: Slippage = Slippage()
    commission: Commission = Commission()


class RiskLimits(_Settings):
    """What an order may not do; None and empty forbid nothing. Money is in the account's currency.

    ``max_position_share`` is of equity, ``price_collar`` of the last price, ``max_daily_loss`` and ``max_drawdown`` of
    the equity at the start of the day and at its highest.
    """

    max_order_qty: Number | None = Field(default=None, gt=0)
    max_order_notional: Number | None = Field(default=None, gt=0)
    max_position_qty: Number | None = Field(default=None, gt=0)
    max_position_notional: Number | None = Field(default=None, gt=0)
    max_position_share: Number | None = Field(default=None, gt=0, le=10)
    orders_per_minute: int | None = Field(default=None, ge=1)
    price_collar: Number | None = Field(default=None, gt=0, le=1)
    max_daily_loss: Number | None = Field(default=None, gt=0, le=1)
    max_drawdown: Number | None = Field(default=None, gt=0, le=1)
    allowed_symbols: tuple[Symbol, ...] = ()
    blocked_symbols: tuple[Symbol, ...] = ()

    @property
    def on_equity(self) -> bool:
        """Whether they ask what the account is worth."""
        return any(each is not None for each in (self.max_position_share, self.max_daily_loss, self.max_drawdown))


class AccountSettings(_Settings):
    """A cash account holds what it has paid for, a margin account ``multiplier`` times its equity, or it sells short.

    ``borrow_rate`` of the shares sold short and ``loan_rate`` of the cash owed are in percent a year. ``margin_grace``
    is in hours: so long after a margin call everything is closed, unless it was met. ``strategies``: further limits of
    single ones.
    """

    multiplier: Literal[1, 2, 4] = 1
    shorting: bool = False
    borrow_rate: Annotated[Number, Field(ge=0, le=1000)] = Decimal(0)
    loan_rate: Annotated[Number, Field(ge=0, le=1000)] = Decimal(0)
    margin_grace: int = Field(default=24, ge=0, le=720)
    trading_blocked: bool = False
    fills: FillModel = FillModel()
    limits: RiskLimits = RiskLimits()
    strategies: dict[UUID, RiskLimits] = Field(default_factory=dict)

    @cached_property
    def on_equity(self) -> bool:
        """Whether what the account may do depends on what it is worth."""
        return self.multiplier > 1 or self.shorting or any(limits.on_equity for limits in self.all_limits)

    @property
    def all_limits(self) -> tuple[RiskLimits, ...]:
        return (self.limits, *self.strategies.values())


class OfAccount(Event):
    """An event of one account; ``sequence`` rises by one with each event of that account."""

    service: ClassVar[str] = "orders"

    account_id: UUID
    sequence: int = Field(ge=1)
    at: AwareDatetime

    @property
    def key(self) -> str:
        return str(self.account_id)


class ToAccount(Command):
    """A command about one account; the commands that one sender has for an account are obeyed in their order."""

    service: ClassVar[str] = "orders"
    in_order: ClassVar[bool] = True

    account_id: UUID

    @property
    def key(self) -> str:
        return str(self.account_id)


class OpenAccount(ToAccount):
    """Open an account and pay in its first cash. Opening it again changes nothing."""

    name: str = Field(min_length=1, max_length=100)
    cash: Number = Field(ge=0)
    currency: Currency = "USD"
    settings: AccountSettings = AccountSettings()


class ConfigureAccount(ToAccount):
    """Trade by these settings from now on; orders that are open keep the reservation that they have."""

    settings: AccountSettings


class MoveCash(ToAccount):
    """Pay in, or take out where ``amount`` is negative; ``transfer_id`` is minted by the sender, and booked once."""

    transfer_id: UUID
    amount: Number = Field(decimal_places=2)


class ResetAccount(ToAccount):
    """Begin again with this cash: open orders are canceled, nothing is held, and what was stays as history."""

    reset_id: UUID
    cash: Number = Field(ge=0, decimal_places=2)


class CashMoved(OfAccount):
    """Cash was paid in, or out where ``amount`` is negative."""

    transfer_id: UUID
    amount: Number
    cash: Number


class CashRefused(OfAccount):
    """Nothing moved; ``reason`` names why, ``message`` says it."""

    transfer_id: UUID
    reason: str
    message: str


class DividendPaid(OfAccount):
    """Cash for shares that were held, or owed by who was short of them: then ``amount`` is negative."""

    action_id: UUID
    symbol: Symbol
    qty: Number
    amount: Number
    cash: Number


class InterestCharged(OfAccount):
    """A day's interest on borrowed shares and on cash that is owed."""

    day: date
    amount: Number
    cash: Number


class MarginCalled(OfAccount):
    """Equity is less than what is required; unless that changes until then, everything is closed."""

    equity: Number
    required: Number
    due_at: AwareDatetime


class MarginCallEnded(OfAccount):
    """``how``: met, by itself or by a deposit, or after liquidation."""

    how: str


class AccountReset(OfAccount):
    """``generation`` counts the account's lives; this one began with ``cash``."""

    reset_id: UUID
    generation: int
    cash: Number
