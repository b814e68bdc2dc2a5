"""An order comes in: the rows that it becomes, each with what it reserves and promises, or the reason it is refused."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import uuid5

from shared.contracts.accounts import RiskLimits
from shared.contracts.orders import AUCTIONS, NewOrder, OrderClass, OrderStatus, OrderType, Side, TimeInForce
from shared.exchange.acceptance.risk_checks import Exposure, Instrument, Refusal, refuse, refuse_auction, size_up
from shared.exchange.order import Account, Leg, Order
from shared.money import ZERO

_OTHER = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


@dataclass(frozen=True)
class Admitted:
    """The orders, the first of them the one that was asked for; the account and its standing with them."""

    orders: tuple[Order, ...]
    account: Account
    exposure: Exposure


def admit(
    order: NewOrder,
    instrument: Instrument,
    account: Account,
    exposure: Exposure,
    now: datetime,
    trace: str | None = None,
) -> Admitted | Refusal:
    """Accept the order with its exits, or say why not."""
    late = refuse_auction(order, instrument, now)
    if late is not None:
        return late
    for limits, recent in _limits(order, account, exposure):
        refusal = refuse(order, instrument, account, replace(exposure, recent=recent), limits)
        if refusal is not None:
            return refusal
    asked = size_up(order, instrument, account, exposure)
    first = _first(order, instrument, account, now, trace)
    first = replace(first, reserved=asked.needed, held_for_orders=asked.closing)
    exits = tuple(_exits(order, first))
    return Admitted(
        (first, *exits),
        replace(account, reserved=account.reserved + first.reserved),
        _with(exposure, first),
    )


def _with(exposure: Exposure, first: Order) -> Exposure:
    opening = (first.qty or ZERO) - first.held_for_orders
    return replace(
        exposure,
        held_for_orders=exposure.held_for_orders + first.held_for_orders,
        buying=exposure.buying + (opening if first.buys else ZERO),
        selling=exposure.selling + (ZERO if first.buys else opening),
        recent=exposure.recent + 1,
        recent_of_strategy=exposure.recent_of_strategy + 1,
    )


def refused(order: NewOrder, account: Account, currency: str, now: datetime, trace: str | None = None) -> Order:
    """The order as a row that tells that it was not accepted."""
    asked = _first(order, Instrument(tradable=False, currency=currency), account, now, trace)
    return replace(asked, status=OrderStatus.REJECTED)


def _limits(order: NewOrder, account: Account, exposure: Exposure) -> list[tuple[RiskLimits, int]]:
    """Those of the account, and those of the strategy that it comes from; with each how many orders came lately."""
    strategies = account.settings.strategies
    found = [(account.settings.limits, exposure.recent)]
    if order.strategy_id in strategies:
        found.append((strategies[order.strategy_id], exposure.recent_of_strategy))
    return found


def _first(order: NewOrder, instrument: Instrument, account: Account, now: datetime, trace: str | None) -> Order:
    oco = order.order_class is OrderClass.OCO
    return Order(
        account_id=account.id,
        id=order.order_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        qty=order.qty,
        notional=order.notional,
        accepted_at=now,
        active_at=active_from(account, now),
        time_in_force=order.time_in_force,
        extended_hours=order.extended_hours,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        trail_price=order.trail_price,
        trail_percent=order.trail_percent,
        hwm=instrument.last if order.type is OrderType.TRAILING_STOP else None,
        expires_at=expiry(order.time_in_force, instrument),
        auction_day=instrument.auction.day if instrument.auction else None,
        auction_at=instrument.auction.at if instrument.auction else None,
        strategy_id=order.strategy_id,
        order_class=order.order_class,
        order_group=None if order.order_class is OrderClass.SIMPLE else order.order_id,
        leg=Leg.TAKE_PROFIT if oco else None,
        trace=trace,
        currency=instrument.currency,
    )


def active_from(account: Account, now: datetime) -> datetime:
    """When an order that comes now reaches the market."""
    return now + timedelta(microseconds=int(account.settings.fills.latency * 1_000_000))


def expiry(time_in_force: TimeInForce, instrument: Instrument) -> datetime | None:
    """When the order is over; one that must fill at once waits for a quote no longer than one of the day.

    One for an auction waits for its price longer, since that may be known only after the session.
    """
    if time_in_force in AUCTIONS:
        return instrument.auction.until if instrument.auction else None
    return None if time_in_force is TimeInForce.GTC else instrument.session_end


def _exits(order: NewOrder, first: Order) -> list[Order]:
    """The other orders of its class; those of an entry are held until it has filled."""
    if order.order_class is OrderClass.SIMPLE:
        return []
    oco = order.order_class is OrderClass.OCO
    common = replace(
        first,
        side=order.side if oco else _OTHER[order.side],
        status=OrderStatus.ACCEPTED if oco else OrderStatus.HELD,
        limit_price=None,
        stop_price=None,
        trail_price=None,
        trail_percent=None,
        hwm=None,
        reserved=ZERO,
        held_for_orders=ZERO,
    )
    exits = []
    if order.take_profit is not None and not oco:
        exits.append(_leg(common, Leg.TAKE_PROFIT, OrderType.LIMIT, limit_price=order.take_profit.limit_price))
    if order.stop_loss is not None:
        kind = OrderType.STOP if order.stop_loss.limit_price is None else OrderType.STOP_LIMIT
        stop, limit = order.stop_loss.stop_price, order.stop_loss.limit_price
        exits.append(_leg(common, Leg.STOP_LOSS, kind, limit_price=limit, stop_price=stop))
    return exits


def _leg(
    common: Order, leg: Leg, kind: OrderType, *, limit_price: Decimal | None, stop_price: Decimal | None = None
) -> Order:
    leg_id = uuid5(common.id, leg)
    return replace(common, id=leg_id, leg=leg, type=kind, limit_price=limit_price, stop_price=stop_price)
