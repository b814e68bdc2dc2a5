"""Account settings (fill model, risk limits, margin), and the commands and events about accounts and their cash."""

from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Command, Count, Event, Number, Sequence, Symbol
from shared.contracts.currencies import Currency
from shared.contracts.instruments import Market
from shared.contracts.reasons import WireRejectReason
from shared.contracts.written import Bounded, Printable

MAX_CASH = Decimal(1_000_000_000_000)
#: An account's first cash, in its currency.
Cash = Annotated[Decimal, Bounded(ge=0, le=MAX_CASH, decimal_places=2)]

#: The status of a closed account, as at Alpaca. An open one is ``ACTIVE``.
CLOSED = "ACCOUNT_CLOSED"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Commission(_Settings):
    """The commission of an order, which is ``rate`` in the account's currency per share or in percent of the amount.

    An order with at least one fill costs at least ``minimum``.
    """

    kind: Literal["zero", "per_share", "percent"] = "zero"
    rate: Annotated[Decimal, Bounded(ge=0, le=100)] = Decimal(0)
    minimum: Annotated[Decimal, Bounded(ge=0, le=1_000_000)] = Decimal(0)


class Slippage(_Settings):
    """The amount by which a market or stop order fills at a worse price than the market's.

    ``fixed`` is ``rate`` basis points of the price. ``spread`` is that fraction of the quote's whole spread.
    ``volume_share`` is ``rate`` x (the order's share of the bar's volume)² of the price.
    """

    kind: Literal["none", "fixed", "spread", "volume_share"] = "none"
    rate: Annotated[Decimal, Bounded(ge=0, le=1000)] = Decimal(0)


class FillModel(_Settings):
    """The simulation of execution for the account's orders.

    ``fills_on``: orders fill on the quote alone, or also inside the range of the price's bar.
    ``participation`` is the share of the quote's size, or of the bar's volume, that our orders may consume. None means
    no limit. ``latency`` is the time in seconds from acceptance to the market: only later quotes fill the order.
    """

    fills_on: Literal["quote", "bar"] = "bar"
    participation: Annotated[Decimal, Bounded(gt=0, le=1)] | None = None
    latency: Annotated[Decimal, Bounded(ge=0, le=3600)] = Decimal(0)
    slippage: Slippage = Slippage()
    commission: Commission = Commission()


class RiskLimits(_Settings):
    """Limits on each order. None or empty means no limit. Money is in the account's currency.

    ``max_position_share`` is a fraction of equity, ``price_collar`` of the last price, ``max_daily_loss`` of the equity
    at the start of the day, and ``max_drawdown`` of the highest equity so far.
    """

    max_order_qty: Annotated[Decimal, Bounded(gt=0)] | None = None
    max_order_notional: Annotated[Decimal, Bounded(gt=0)] | None = None
    max_position_qty: Annotated[Decimal, Bounded(gt=0)] | None = None
    max_position_notional: Annotated[Decimal, Bounded(gt=0)] | None = None
    max_position_share: Annotated[Decimal, Bounded(gt=0, le=10)] | None = None
    orders_per_minute: Annotated[int, Bounded(ge=1, le=1_000_000)] | None = None
    price_collar: Annotated[Decimal, Bounded(gt=0, le=1)] | None = None
    max_daily_loss: Annotated[Decimal, Bounded(gt=0, le=1)] | None = None
    max_drawdown: Annotated[Decimal, Bounded(gt=0, le=1)] | None = None
    allowed_symbols: tuple[Symbol, ...] = ()
    blocked_symbols: tuple[Symbol, ...] = ()

    @cached_property
    def is_empty(self) -> bool:
        """True if there is no limit at all."""
        return not any(value is not None and value != () for value in self.__dict__.values())

    @property
    def on_equity(self) -> bool:
        """True if a limit depends on the account's equity."""
        return any(each is not None for each in (self.max_position_share, self.max_daily_loss, self.max_drawdown))

    def on_size(self, *, shares: bool) -> bool:
        """True if a limit depends on the value of an order or position, or on its ``shares`` where these count too."""
        values = (self.max_order_notional, self.max_position_notional, self.max_position_share)
        return any(
            each is not None for each in (*values, *((self.max_order_qty, self.max_position_qty) if shares else ()))
        )


class AccountSettings(_Settings):
    """The trading settings of an account. The default is a cash account without costs or limits.

    A margin account may hold ``multiplier`` times its equity (Reg T: 2, pattern day traders: 4). ``borrow_rate`` on
    shares sold short and ``loan_rate`` on cash owed are in percent a year. A margin call that is not met within
    ``margin_grace`` hours closes all positions. An order that would trade with an open order of the same account is
    refused, unless it ``allow_wash_trades``. ``strategies`` holds additional limits for single strategies.
    ``market`` is that of the account's clock and calendar, by default where the instruments of its currency trade.
    """

    multiplier: Literal[1, 2, 4] = 1
    shorting: bool = False
    borrow_rate: Annotated[Decimal, Bounded(ge=0, le=1000)] = Decimal(0)
    loan_rate: Annotated[Decimal, Bounded(ge=0, le=1000)] = Decimal(0)
    margin_grace: Annotated[int, Bounded(ge=0, le=720)] = 24
    trading_blocked: bool = False
    allow_wash_trades: bool = False
    fills: FillModel = FillModel()
    limits: RiskLimits = RiskLimits()
    strategies: dict[UUID, RiskLimits] = Field(default_factory=dict)
    market: Market | None = None

    @cached_property
    def on_equity(self) -> bool:
        """True if the account's buying power or limits depend on its equity."""
        return self.multiplier > 1 or self.shorting or any(limits.on_equity for limits in self.all_limits)

    @property
    def all_limits(self) -> tuple[RiskLimits, ...]:
        return (self.limits, *self.strategies.values())


class OfAccount(Event):
    """An event of one account. ``sequence`` rises by one with each event of that account."""

    service: ClassVar[str] = "orders"

    account_id: UUID
    sequence: Sequence
    at: AwareDatetime

    @property
    def key(self) -> str:
        return str(self.account_id)


class ToAccount(Command):
    """A command about one account. The commands of one sender for an account are handled in their order."""

    service: ClassVar[str] = "orders"
    in_order: ClassVar[bool] = True

    account_id: UUID

    @property
    def key(self) -> str:
        return str(self.account_id)


class OpenAccount(ToAccount):
    """Open an account with its first cash. Opening it again changes nothing."""

    name: Printable = Field(min_length=1, max_length=100)
    cash: Annotated[Decimal, Bounded(ge=0)]
    currency: Currency = "USD"
    settings: AccountSettings = AccountSettings()


class ConfigureAccount(ToAccount):
    """Trade by these settings from now on. Open orders keep their reservations."""

    settings: AccountSettings


class MoveCash(ToAccount):
    """Deposit cash, or withdraw it where ``amount`` is negative. The sender chooses ``transfer_id``, booked once."""

    transfer_id: UUID
    amount: Annotated[Decimal, Bounded(decimal_places=2)]


class ResetAccount(ToAccount):
    """Restart the account with this cash. Open orders are canceled, positions vanish, and the history is kept."""

    reset_id: UUID
    cash: Annotated[Decimal, Bounded(ge=0, decimal_places=2)]


class CloseAccount(ToAccount):
    """Close the account for good. Open orders are canceled, positions and cash vanish, and the history is kept.

    Later commands for it are refused. Closing it again changes nothing.
    """

    closing_id: UUID


class CashMoved(OfAccount):
    """Cash was deposited, or withdrawn where ``amount`` is negative."""

    transfer_id: UUID
    amount: Number
    cash: Number


class CashRefused(OfAccount):
    """No cash was moved. ``message`` explains the ``reason`` to people."""

    transfer_id: UUID
    reason: WireRejectReason
    message: str


class DividendPaid(OfAccount):
    """A dividend on shares that were held. ``amount`` is negative where they were short: the seller owes it."""

    action_id: UUID
    symbol: Symbol
    qty: Number
    amount: Number
    cash: Number


class CashInLieuPaid(OfAccount):
    """Cash was paid in lieu of the fraction ``qty`` of a share that a split made. Both are negative for a short one."""

    action_id: UUID
    symbol: Symbol
    qty: Number
    amount: Number
    cash: Number


class InterestCharged(OfAccount):
    """A day's interest on borrowed shares and on owed cash was charged."""

    day: date
    amount: Number
    cash: Number


class MarginCalled(OfAccount):
    """Equity fell below the required margin. All positions are closed at ``due_at`` unless the call is met before."""

    equity: Number
    required: Number
    due_at: AwareDatetime


class MarginCallEnded(OfAccount):
    """The margin call is over. ``how`` is ``met``, whether by prices or by a deposit, or ``liquidated``."""

    how: str


class AccountReset(OfAccount):
    """The account restarted with ``cash``. ``generation`` is 1 plus the number of restarts."""

    reset_id: UUID
    generation: Count
    cash: Number


class AccountClosed(OfAccount):
    """The account was closed. Its last generation has nothing but the books."""

    closing_id: UUID
    generation: int
