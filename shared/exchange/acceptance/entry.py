"""Accepting a new order: the orders that it becomes, each with its reservation, or the refusal."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from shared.contracts.orders import (
    ALL_PRICES,
    NewOrder,
    OrderClass,
    OrderStatus,
    OrderTerms,
    OrderType,
    PositionIntent,
    Side,
    StopLoss,
    TakeProfit,
    TimeInForce,
)
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.price_checks import broken_prices
from shared.exchange.acceptance.risk_checks import refuse, refuse_auction
from shared.exchange.acceptance.sizing import size_up
from shared.exchange.order import TERMS, Account, Leg, Order
from shared.exchange.refusal import Refusal
from shared.exchange.values import changed
from shared.money import ZERO

#: Alpaca's aged order policy (orders-at-alpaca): a gtc order is canceled after 90 days.
GTC_LASTS = timedelta(days=90)
_OTHER = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


@dataclass(frozen=True)
class Admitted:
    """The accepted orders, of which the first is the one that was submitted, and the account and exposure with them."""

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
    *,
    replaces: Order | None = None,
) -> Admitted | Refusal:
    """Accept the order with its exits, or refuse it. The prices of one that ``replaces`` another are checked there."""
    refusal = refuse_auction(order, instrument, now)
    if refusal is None and replaces is None:
        refusal = next(broken_prices(order, instrument), None)
    if refusal is not None:
        return refusal
    size = size_up(order, instrument, account, exposure)
    limits = [(account.settings.limits, exposure.recent)]
    if order.strategy_id in account.settings.strategies:
        limits.append((account.settings.strategies[order.strategy_id], exposure.recent_of_strategy))
    for each, recent in limits:
        is_exit = order.order_class is OrderClass.OCO or (replaces is not None and replaces.leg is not None)
        known = changed(exposure, recent=recent)
        refusal = refuse(order, size, instrument, account, known, each, is_exit=is_exit)
        if refusal is not None:
            return refusal
    first = changed(_order(order, instrument, account, now, trace), reserved=size.needed, held_for_orders=size.closing)
    return Admitted(
        (first, *_exits(order, first)),
        changed(account, reserved=account.reserved + first.reserved),
        exposure.with_accepted(first, instrument),
    )


def refused(order: NewOrder, account: Account, currency: str, now: datetime, trace: str | None = None) -> Order:
    """The order as it is kept when it was rejected."""
    unknown = Instrument(tradable=False, currency=currency)
    return replace(_order(order, unknown, account, now, trace), status=OrderStatus.REJECTED)


def active_from(account: Account, now: datetime) -> datetime:
    """The time at which an order that is accepted now reaches the market."""
    latency = account.settings.fills.latency
    return now + timedelta(microseconds=int(latency * 1_000_000)) if latency else now


def expiry(order: OrderTerms, instrument: Instrument, active_at: datetime) -> datetime | None:
    """The end of an order that becomes active then; None where no session is known.

    An ioc or fok order waits for a quote no longer than a quote stays fresh. An order for an auction waits for its
    price, which may become known only after the session.
    """
    match order.time_in_force:
        case TimeInForce.OPG | TimeInForce.CLS:
            return instrument.auction.until if instrument.auction else None
        case TimeInForce.IOC | TimeInForce.FOK:
            return active_at + instrument.max_quote_age
        case TimeInForce.GTC:
            return active_at + GTC_LASTS
    return instrument.extended_end if order.extended_hours else instrument.session_end


def _rests(order: NewOrder, instrument: Instrument) -> bool | None:
    """True if the quote does not reach the order's limit, so that it comes to rest. None where no quote is known."""
    if order.limit_price is None or instrument.last is None:
        return None
    no_quote = instrument.bid is None and instrument.ask is None
    side = instrument.last if no_quote else instrument.ask if order.side is Side.BUY else instrument.bid
    if side is None:
        return True
    return side > order.limit_price if order.side is Side.BUY else side < order.limit_price


#: Every order is made as a copy of it, which is faster than to set each of its fields.
_BLANK = Order(
    account_id=UUID(int=0), id=UUID(int=0), symbol="", side=Side.BUY, type=OrderType.MARKET, qty=None,
    accepted_at=datetime.min.replace(tzinfo=UTC), active_at=datetime.min.replace(tzinfo=UTC),
)  # fmt: skip


def _order(order: NewOrder, instrument: Instrument, account: Account, now: datetime, trace: str | None) -> Order:
    """The order itself, without its reservation."""
    active_at = active_from(account, now)
    return changed(
        _BLANK,
        **{name: getattr(order, name) for name in TERMS},
        account_id=account.id,
        id=order.order_id,
        accepted_at=now,
        active_at=active_at,
        hwm=instrument.last if order.type is OrderType.TRAILING_STOP else None,
        rests=_rests(order, instrument),
        expires_at=expiry(order, instrument, active_at),
        auction_day=instrument.auction.day if instrument.auction else None,
        auction_at=instrument.auction.at if instrument.auction else None,
        order_group=None if order.order_class is OrderClass.SIMPLE else order.order_id,
        leg=Leg.TAKE_PROFIT if order.order_class is OrderClass.OCO else None,
        trace=trace,
        currency=instrument.currency,
    )


def _exits(order: NewOrder, first: Order) -> list[Order]:
    """The other orders of its class. The exits of an entry are held until it has filled (Alpaca: orders-at-alpaca)."""
    if order.order_class is OrderClass.SIMPLE:
        return []
    oco = order.order_class is OrderClass.OCO
    exit_side = order.side if oco else _OTHER[order.side]
    exit_ = replace(
        first,
        side=exit_side,
        status=OrderStatus.ACCEPTED if oco else OrderStatus.HELD,
        hwm=None,
        rests=True,
        reserved=ZERO,
        held_for_orders=ZERO,
        position_intent=first.position_intent and PositionIntent(f"{exit_side}_to_close"),
    )
    exits: list[tuple[Leg, OrderType, TakeProfit | StopLoss]] = []
    if order.take_profit is not None and not oco:
        exits.append((Leg.TAKE_PROFIT, OrderType.LIMIT, order.take_profit))
    if order.stop_loss is not None:
        kind = OrderType.STOP if order.stop_loss.limit_price is None else OrderType.STOP_LIMIT
        exits.append((Leg.STOP_LOSS, kind, order.stop_loss))
    no_prices: dict[str, Any] = dict.fromkeys(ALL_PRICES)
    return [
        replace(exit_, id=uuid5(first.id, leg), leg=leg, type=kind, **no_prices | prices.model_dump())
        for leg, kind, prices in exits
    ]
