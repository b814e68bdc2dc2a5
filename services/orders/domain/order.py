"""An order and what its account can bear."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from shared.contracts.orders import OrderStatus, OrderType, Side
from shared.money import ZERO


@dataclass(frozen=True)
class Order:
    """An accepted order. Quantities in shares, prices and ``reserved`` in the account's currency."""

    account_id: UUID
    id: UUID
    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    accepted_at: datetime
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    filled_qty: Decimal = ZERO
    filled_avg_price: Decimal | None = None
    fills: int = 0
    reserved: Decimal = ZERO
    expires_at: datetime | None = None
    strategy_id: UUID | None = None
    status: OrderStatus = OrderStatus.ACCEPTED
    #: The journey on which it was handed in; what becomes of it later belongs to it, too.
    trace: str | None = None

    @property
    def open_qty(self) -> Decimal:
        return self.qty - self.filled_qty


@dataclass(frozen=True)
class Account:
    """Cash includes what open orders have reserved; buying power does not."""

    id: UUID
    cash: Decimal
    reserved: Decimal
    sequence: int

    @property
    def buying_power(self) -> Decimal:
        return self.cash - self.reserved
