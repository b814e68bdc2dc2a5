"""The order of a margin call: it closes what is left of a position, whatever the account's settings and limits say."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from shared.contracts.orders import OrderType, Side, TimeInForce
from shared.exchange.acceptance.entry import active_from
from shared.exchange.order import Account, Order


def liquidation(
    account: Account, symbol: str, qty: Decimal, currency: str, order_id: UUID, now: datetime, trace: str | None = None
) -> Order:
    """The market order that closes ``qty`` shares, which are negative where they are short. It never expires.

    No check applies to it. A client may order fractions for the day only, but a liquidation waits until it is done.
    """
    return Order(
        account_id=account.id,
        id=order_id,
        symbol=symbol,
        side=Side.SELL if qty > 0 else Side.BUY,
        type=OrderType.MARKET,
        qty=abs(qty),
        accepted_at=now,
        active_at=active_from(account, now),
        time_in_force=TimeInForce.GTC,
        held_for_orders=abs(qty),
        liquidation=True,
        currency=currency,
        trace=trace,
    )
