"""The size of an order in shares and money, before it is accepted."""

from dataclasses import dataclass
from decimal import Decimal

from shared.contracts.orders import OrderTerms, OrderType, Side
from shared.exchange import costs
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.order import Account, shares_for
from shared.money import ZERO, cents_up

#: A market or stop order reserves this much above its reference price, since it may fill above it.
ALLOWANCE = Decimal("1.01")
#: Alpaca: a market order that sells short is valued at 3 % above the ask.
SHORT_ALLOWANCE = Decimal("1.03")


@dataclass(frozen=True)
class Size:
    """An order's shares, the part of them that closes a position, its prices and the buying power it needs.

    Money is in the account's currency. ``price`` is the worst that the order is likely to get, ``market`` the present
    one, ``value`` that of its shares at its own price or the market's. They are None before the instrument's first
    price, and without a rate. Then ``qty`` of a notional order is zero. ``whole_rest``: it closes all that is free.
    """

    qty: Decimal
    closing: Decimal
    price: Decimal | None
    needed: Decimal
    market: Decimal | None = None
    value: Decimal | None = None
    whole_rest: bool = False

    @property
    def opening(self) -> Decimal:
        return self.qty - self.closing

    @property
    def only_closes(self) -> bool:
        """True if none of its shares can open a position."""
        return bool(self.closing) and not self.opening


def size_up(order: OrderTerms, instrument: Instrument, account: Account, exposure: Exposure) -> Size:
    """The order's size. ``needed`` is the buying power for its opening part and the commission of that.

    Without a price ``needed`` is zero: such an order is checked when it fills.
    """
    buys = order.side is Side.BUY
    price, rate = _reference_price(order, instrument), instrument.rate_in(account.currency)
    if price is not None:
        # a short sale will be bought back
        price = None if rate is None else price * rate.of(buys=buys or order.notional is None)
    free, qty = exposure.free(buys=buys), order.qty or ZERO
    if order.notional is not None and price is not None:
        # money that closes a position may come to some more shares, since the price may move until the fill
        qty, more = (shares_for(order.notional * part, price) for part in (Decimal(1), ALLOWANCE))
        qty = max(qty, min(free, more))
    closing = min(qty, free)
    opening = qty - closing
    cost = cents_up(opening * (price or ZERO))
    if order.notional is not None and buys and not closing:
        cost = order.notional
    commission = costs.fee(account.settings.fills.commission, qty=opening, amount=cost, filled=opening, charged=ZERO)
    market, value = instrument.market, order.notional
    own = order.limit_price or order.stop_price or market
    if value is None and own is not None and rate is not None:
        value = qty * own * rate.last
    market = None if market is None or rate is None else market * rate.last
    return Size(qty, closing, price, cost + commission, market, value, whole_rest=qty == free)


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
