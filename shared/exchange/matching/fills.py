"""One execution of an order, and the order after it."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid5

from shared.contracts.orders import OrderStatus
from shared.contracts.prices import Price
from shared.exchange import costs
from shared.exchange.costs import Worse
from shared.exchange.fx import SAME, Rate
from shared.exchange.matching.matching import Stage
from shared.exchange.order import Account, Order, released
from shared.exchange.values import changed
from shared.money import CENT, ZERO, cents_down, cents_up


class Fill(NamedTuple):
    """One execution. ``amount`` is price x quantity x exchange rate, to the cent, rounded against the trader.

    ``cash`` is its effect on the account. Price and slippage are in the order's currency, all other money in the
    account's. ``slippage`` is the amount by which the price is worse than the market's. ``account_cash`` and
    ``position_qty`` are those after the fill.
    """

    id: UUID
    order: Order
    number: int
    qty: Decimal
    price: Decimal
    amount: Decimal
    fee: Decimal
    slippage: Decimal
    stage: Stage
    quote: Price
    at: datetime
    account_cash: Decimal
    position_qty: Decimal
    fx_rate: Rate = SAME

    @property
    def rate(self) -> Decimal:
        """The cost or proceeds of a unit of the order's currency, in the account's."""
        return self.fx_rate.of(buys=self.order.buys)

    @property
    def cash(self) -> Decimal:
        return (-self.amount if self.order.buys else self.amount) - self.fee


def make_fill(
    order: Order,
    stage: Stage,
    qty: Decimal,
    worse: Worse,
    quote: Price,
    *,
    fx_rate: Rate,
    account: Account,
    position: Decimal,
    now: datetime,
) -> Fill:
    """The next fill of the order. ``account`` and ``position``, the shares held, are those before it."""
    number = order.fills + 1
    amount = (cents_up if order.buys else cents_down)(qty * worse.price * fx_rate.of(buys=order.buys))
    fee = costs.fee(
        account.settings.fills.commission,
        qty=qty,
        amount=order.spent + amount,
        filled=order.filled_qty + qty,
        charged=order.fees,
    )
    return Fill(
        id=uuid5(order.account_id, f"{order.id}/{number}"),
        order=order,
        number=number,
        qty=qty,
        price=worse.price,
        amount=amount,
        fee=fee,
        slippage=worse.slippage,
        stage=stage,
        quote=quote,
        at=max(now, quote.quoted_at),  # clocks of two machines differ, and a fill never precedes its quote
        account_cash=account.cash + (-amount if order.buys else amount) - fee,
        position_qty=position + (qty if order.buys else -qty),
        fx_rate=fx_rate,
    )


def filled(order: Order, fill: Fill) -> Order:
    """The order after the fill, with the rest of its reservation."""
    paid = fill.price * fill.qty
    left = order.open_qty(fill.price * fill.rate) - fill.qty
    rate = fill.rate
    if order.filled_qty and rate != order.filled_avg_rate:  # the average, weighted by the amount paid at each rate
        rate = (order.spent + paid * fill.rate) / (order.paid + paid)
    after = changed(
        order,
        filled_qty=order.filled_qty + fill.qty,
        filled_avg_price=(order.paid + paid) / (order.filled_qty + fill.qty),
        filled_avg_rate=rate,
        fills=fill.number,
        fees=order.fees + fill.fee,
    )
    if not left or (order.notional is not None and after.unspent < CENT):
        return released(after, OrderStatus.FILLED)
    held_for_orders = order.held_for_orders + (fill.qty if order.is_entry else -fill.qty)
    return changed(
        after,
        status=OrderStatus.PARTIALLY_FILLED,
        reserved=_still_reserved(order, fill, left),
        held_for_orders=max(held_for_orders, ZERO),
    )


def _still_reserved(order: Order, fill: Fill, left: Decimal) -> Decimal:
    """The reservation after a partial fill: that part of it which the order may still open.

    For a notional order it is the money not spent yet. An order that only closes has reserved nothing.
    """
    if order.notional is not None and not order.closing:
        return max(order.reserved - fill.amount - fill.fee, ZERO)
    before, after = left + fill.qty - order.closing, left - max(order.closing - fill.qty, ZERO)
    return cents_up(order.reserved * after / before) if ZERO < after < before else order.reserved
