"""What is checked before an order is accepted; each refusal has a name."""

from dataclasses import dataclass
from decimal import Decimal

from services.orders.domain.order import Account
from shared.contracts.orders import OrderType, Side, SubmitOrder
from shared.money import ZERO, cents, plain

#: A market or stop order reserves this much above its reference price, since it may fill above it.
SLIPPAGE_ALLOWANCE = Decimal("1.01")


@dataclass(frozen=True)
class Refusal:
    """Why an order is not accepted: a name for programs, a sentence for people."""

    reason: str
    message: str


DUPLICATE = Refusal("duplicate_client_order_id", "client_order_id must be unique")


@dataclass(frozen=True)
class Listing:
    """What is known about an instrument when an order comes in; no quote is there before the first price."""

    tradable: bool
    ask: Decimal | None
    last: Decimal | None


def unknown_symbol(symbol: str) -> Refusal:
    return Refusal("unknown_symbol", f"symbol {symbol} is not an instrument here")


def reserve_for(order: SubmitOrder, listing: Listing) -> Decimal:
    """The cash that the order keeps back while it is open, rounded to the cent.

    A market buy with no quote yet keeps back nothing: it is checked when it fills.
    """
    if order.side is Side.SELL:
        return ZERO
    if order.type is OrderType.LIMIT and order.limit_price is not None:
        return cents(order.qty * order.limit_price)
    reference = order.stop_price or listing.ask or listing.last or ZERO
    return cents(order.qty * reference * SLIPPAGE_ALLOWANCE)


def refuse(order: SubmitOrder, listing: Listing, account: Account, *, available_qty: Decimal) -> Refusal | None:
    """The first reason not to accept the order; ``available_qty`` is held and not promised to other sells."""
    if not listing.tradable:
        return Refusal("not_tradable", f"symbol {order.symbol} is not tradable")
    if order.side is Side.SELL and order.qty > available_qty:
        return Refusal(
            "insufficient_shares",
            f"insufficient qty available for order (requested: {plain(order.qty)}, available: {plain(available_qty)})",
        )
    needed = reserve_for(order, listing)
    if needed > account.buying_power:
        return Refusal(
            "insufficient_buying_power",
            f"insufficient buying power (needed: {plain(needed)}, available: {plain(account.buying_power)})",
        )
    return None
