"""The checks of an order against the account's position and its other open orders in the symbol.

They keep two promises. No shares are promised twice: what open orders will close is never more than is held. And no
order of an account trades with another one of it. Open orders that open a position are all on one side, as at Alpaca,
so that none of them closes what another order holds.
"""

from collections.abc import Iterator
from decimal import Decimal

from shared.contracts.orders import OrderClass, OrderTerms, OrderType, Side
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.pre_trade import Exposure
from shared.exchange.acceptance.sizing import Size
from shared.exchange.order import Account
from shared.exchange.refusal import Refusal
from shared.money import cents, plain

#: The least value of an order in the account's currency (Alpaca: fractional trading).
LEAST_VALUE = Decimal(1)


def broken_position_rules(
    order: OrderTerms, size: Size, account: Account, exposure: Exposure, *, is_exit: bool
) -> Iterator[Refusal]:
    """The reasons why the order does not fit position and open orders. ``is_exit``: it is a leg of a group."""
    yield from _broken_intent(order, exposure)
    if order.order_class is OrderClass.OCO and size.opening:
        available = f"(requested: {plain(size.qty)}, available: {plain(size.closing)})"
        yield Refusal(RejectReason.INSUFFICIENT_SHARES, f"an oco order can only close a position {available}")
    if order.order_class in {OrderClass.BRACKET, OrderClass.OTO} and size.closing:
        yield Refusal(RejectReason.CLOSING_ENTRY, f"{order.order_class} orders can only open a position")
    if order.notional is not None and order.side is Side.SELL and size.price is None:
        yield Refusal(RejectReason.NO_PRICE, f"{order.symbol} has no price yet: sell by qty instead of notional")
    yield from _missing_shares(order, size, account, exposure)
    if exposure.overdue and not size.only_closes:
        yield Refusal(
            RejectReason.UNDER_MARGIN_CALL,
            "a margin call is overdue: only orders that close a position are accepted until it has ended",
        )
    if not is_exit:
        yield from _too_small(order, size)
        if not account.settings.allow_wash_trades:
            yield from _wash_trade(order, exposure)
    if size.only_closes:
        return
    if order.side is Side.BUY and exposure.selling:
        yield Refusal(RejectReason.OPPOSITE_ORDER, "cannot open a long buy while a short sell order is open")
    if order.side is Side.SELL and (exposure.buying or exposure.buying_money):
        yield Refusal(RejectReason.OPPOSITE_ORDER, "cannot open a short sell while a long buy order is open")


def _broken_intent(order: OrderTerms, exposure: Exposure) -> Iterator[Refusal]:
    intent = order.position_intent
    if intent is None:
        return
    closes = exposure.held < 0 if order.side is Side.BUY else exposure.held > 0
    if (intent.side, intent.closes) != (order.side, closes):
        inferred = f"{order.side}_to_{'close' if closes else 'open'}"
        yield Refusal(
            RejectReason.POSITION_INTENT, f"position intent mismatch, inferred: {inferred}, specified: {intent}"
        )


def _missing_shares(order: OrderTerms, size: Size, account: Account, exposure: Exposure) -> Iterator[Refusal]:
    """More shares than are free to be closed: the rest is held for other orders, or may not be sold short."""
    sells, intent = order.side is Side.SELL, order.position_intent
    if not size.opening:
        return
    against = exposure.held > 0 if sells else exposure.held < 0
    must_close = (against and exposure.held_for_orders) or (intent is not None and intent.closes)
    if must_close or (sells and not account.settings.shorting):
        free = exposure.free(buys=not sells)
        yield Refusal(
            RejectReason.INSUFFICIENT_SHARES,
            f"insufficient qty available for order (requested: {plain(size.qty)}, available: {plain(free)})",
            {
                "available": plain(free),
                "existing_qty": plain(abs(exposure.held)),
                "held_for_orders": plain(exposure.held_for_orders),
                "symbol": order.symbol,
            },
        )
    if sells and (order.notional is not None or size.opening % 1):
        yield Refusal(RejectReason.FRACTIONAL_SHORT, "only whole shares can be sold short")


def _too_small(order: OrderTerms, size: Size) -> Iterator[Refusal]:
    """An order of less than a dollar is refused, unless it closes all that is left (Alpaca: fractional trading).

    A number of shares without a fraction, at a price in whole cents, may cost less, because nothing is rounded.
    """
    if size.value is None or size.value >= LEAST_VALUE or size.whole_rest:
        return
    if order.notional is not None or size.qty % 1 or size.value != cents(size.value):
        yield Refusal(
            RejectReason.ORDER_TOO_SMALL, f"cost basis must be >= minimal amount of order {plain(LEAST_VALUE)}"
        )


def _wash_trade(order: OrderTerms, exposure: Exposure) -> Iterator[Refusal]:
    """A market order, or a limit that reaches it, would trade with a resting order of the account.

    Stops may rest beside it: they trade only later, at another price. Source: Alpaca's user protection, which refuses
    these as well.
    """
    buys = order.side is Side.BUY
    other = exposure.best_sell if buys else exposure.best_buy
    if other is None or order.type not in {OrderType.MARKET, OrderType.LIMIT}:
        return
    limit = order.limit_price
    if limit is not None and (limit < other.limit if buys else limit > other.limit):
        return
    yield Refusal(
        RejectReason.WASH_TRADE,
        "potential wash trade detected. use complex orders",
        {"existing_order_id": str(other.id), "reject_reason": "opposite side limit order exists"},
    )
