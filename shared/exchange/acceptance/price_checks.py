"""The checks of an order's own prices: their increments, and the sides on which exits and trails have to lie."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from shared.contracts.orders import NewOrder, OrderClass, OrderTerms, OrderType, Side
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.pre_trade import Instrument
from shared.exchange.order import Leg, Order
from shared.exchange.refusal import Refusal
from shared.money import plain


def broken_prices(order: NewOrder, instrument: Instrument) -> Iterator[Refusal]:
    """The prices of a new order that no market would take (Alpaca: orders-at-alpaca)."""
    if order.type is OrderType.MARKET and order.order_class is OrderClass.SIMPLE:
        return  # it has none
    gain = None if order.take_profit is None else order.take_profit.limit_price
    loss = None if order.stop_loss is None else order.stop_loss.stop_price
    yield from sub_penny(
        {
            "limit_price": order.limit_price,
            "stop_price": order.stop_price,
            "trail_price": order.trail_price,
            "take_profit.limit_price": gain,
            "stop_loss.stop_price": loss,
            "stop_loss.limit_price": None if order.stop_loss is None else order.stop_loss.limit_price,
        },
        instrument,
    )
    yield from unreachable_trail(order, instrument)
    if order.order_class is OrderClass.OCO:  # its limit may be that of the market, and then fills at once
        yield from misplaced_exits(instrument, instrument.market, None, loss, sells=order.side is Side.SELL)
    else:
        yield from misplaced_exits(instrument, base_price(order, instrument), gain, loss, sells=order.side is Side.BUY)


def sub_penny(prices: Mapping[str, Decimal | None], instrument: Instrument) -> Iterator[Refusal]:
    """The prices, by their names, that are between two increments."""
    for name, price in prices.items():
        if price is None or not price % instrument.tick(price):
            continue
        if instrument.tick_size is not None:
            yield Refusal(
                RejectReason.SUB_PENNY,
                f"invalid {name} {plain(price)}: must be a multiple of {plain(instrument.tick_size)}",
            )
        else:
            yield Refusal(
                RejectReason.SUB_PENNY,
                f"invalid {name} {plain(price)}. sub-penny increment does not fulfill minimum pricing criteria",
            )


def unreachable_trail(order: OrderTerms, instrument: Instrument) -> Iterator[Refusal]:
    """The trail of a sell whose stop would not be above zero."""
    market = instrument.market
    if order.side is Side.SELL and order.trail_price is not None and market is not None and order.trail_price >= market:
        yield Refusal(
            RejectReason.TRAIL,
            f"trail_price {plain(order.trail_price)} must be less than the price of {plain(market)}",
        )


def base_price(entry: OrderTerms | Order, instrument: Instrument) -> Decimal | None:
    """The price around which the exits of an entry have to lie: its own, or the market's where it has none."""
    return entry.limit_price or entry.stop_price or instrument.market


def misplaced_exits(
    instrument: Instrument, base: Decimal | None, gain: Decimal | None, loss: Decimal | None, *, sells: bool
) -> Iterator[Refusal]:
    """The exits that would fill at once, for they lie on the wrong side of the base price."""
    if base is None:
        return
    step = instrument.tick(base)
    for name, price, above in (("take_profit.limit_price", gain, sells), ("stop_loss.stop_price", loss, not sells)):
        if price is None or (price >= base + step if above else price <= base - step):
            continue
        bound = f">= base_price + {plain(step)}" if above else f"<= base_price - {plain(step)}"
        yield Refusal(RejectReason.EXIT_PRICE, f"{name} must be {bound}", {"base_price": plain(base)})


def crossed_exits(gain: Decimal, loss: Decimal, *, sells: bool) -> Iterator[Refusal]:
    """Two exits of which the profit lies on the far side of the loss."""
    if not (gain > loss if sells else gain < loss):
        where = "above" if sells else "below"
        yield Refusal(RejectReason.EXIT_PRICE, f"take_profit.limit_price must be {where} stop_loss.stop_price")


def prices_of_exits(orders: list[Order]) -> tuple[Decimal | None, Decimal | None]:
    """The profit's limit and the loss's stop among the orders of a group."""
    gain = next((order.limit_price for order in orders if order.leg is Leg.TAKE_PROFIT), None)
    return gain, next((order.stop_price for order in orders if order.leg is Leg.STOP_LOSS), None)
