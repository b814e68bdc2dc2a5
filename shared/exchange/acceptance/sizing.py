"""The size of an order in shares and money, before it is accepted."""

from dataclasses import dataclass
from decimal import Decimal

from shared.contracts.orders import OrderTerms, OrderType, Side
from shared.exchange import costs
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.lots import closing_qty
from shared.exchange.order import Account, shares_for
from shared.money import ZERO, cents

#: A market or stop order reserves this much above its reference price, since it may fill above it.
ALLOWANCE = Decimal("1.01")
#: Alpaca: a market order that sells short is valued at 3 % above the ask.
SHORT_ALLOWANCE = Decimal("1.03")


@dataclass(frozen=True)
class Size:
    """An order's shares, the part of them that closes a position, its reference price and the buying power it needs.

    Money is in the account's currency. ``price`` is None before the instrument's first price, and without a rate.
    """

    qty: Decimal
    closing: Decimal
    price: Decimal | None
    needed: Decimal

    @property
    def opening(self) -> Decimal:
        return self.qty - self.closing


def size_up(order: OrderTerms, instrument: Instrument, account: Account, exposure: Exposure) -> Size:
    """The order's size. ``needed`` is the buying power for its opening part and the commission of that.

    Without a price ``needed`` is zero: such an order is checked when it fills.
    """
    buys = order.side is Side.BUY
    price, rate = _reference_price(order, instrument), instrument.rate_in(account.currency)
    if price is not None:
        # a short sale will be bought back
        price = None if rate is None else price * rate.of(buys=buys or order.notional is None)
    free = exposure.held + exposure.held_for_orders if buys else exposure.held - exposure.held_for_orders
    qty = order.qty or ZERO
    if order.notional is not None and price is not None:
        # money that closes a position may come to some more shares, since the price may move until the fill
        qty, more = (shares_for(order.notional * part, price) for part in (Decimal(1), ALLOWANCE))
        qty = max(qty, closing_qty(free, order.side, more))
    closing = closing_qty(free, order.side, qty)
    opening = qty - closing
    cost = cents(opening * (price or ZERO))
    if order.notional is not None and buys and not closing:
        cost = order.notional
    commission = costs.fee(account.settings.fills.commission, qty=opening, amount=cost, filled=opening, charged=ZERO)
    return Size(qty, closing, price, cost + commission)


def _reference_price(order: OrderTerms, instrument: Instrument) -> Decimal | None:
    """The worst price that the order is likely to get, in the instrument's currency; None before its first price.

    Alpaca: a short sale is valued at the higher of its limit price and 3 % above the ask.
    """
    market = instrument.ask or instrument.last
    if order.side is Side.SELL:
        if order.notional is not None:
            return instrument.bid or instrument.last
        prices = (order.limit_price, market and market * SHORT_ALLOWANCE, order.stop_price)
        return max((price for price in prices if price is not None), default=None)
    if order.limit_price is not None:
        return order.limit_price
    if order.type is OrderType.TRAILING_STOP and market is not None:
        market += order.trail_price if order.trail_price is not None else market * (order.trail_percent or ZERO) / 100
    base = order.stop_price or market
    return base if base is None or order.notional is not None else base * ALLOWANCE
