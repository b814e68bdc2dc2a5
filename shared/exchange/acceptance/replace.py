"""Replacing an open order: a new order continues with the rest of the old one under changed terms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared.contracts.base import first_error
from shared.contracts.orders import AT_ONCE, NewOrder, OrderClass, OrderStatus, OrderType, ReplaceOrder, TimeInForce
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import active_from, admit, expiry
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.price_checks import (
    base_price,
    crossed_exits,
    misplaced_exits,
    prices_of_exits,
    sub_penny,
    unreachable_trail,
)
from shared.exchange.acceptance.risk_checks import refuse_change, refuse_halted
from shared.exchange.order import TERMS, Account, Leg, Order, released
from shared.exchange.refusal import Refusal
from shared.exchange.values import changed
from shared.money import ZERO, plain


@dataclass(frozen=True)
class Replaced:
    """``ended`` is the old order, ``order`` the new one. The account includes the effect of both.

    ``others`` are the open orders of the group that change along: all of them have one time in force.
    """

    ended: Order
    order: Order
    account: Account
    others: tuple[Order, ...] = ()


def admit_replacement(
    order_group: Sequence[Order],
    command: ReplaceOrder,
    instrument: Instrument,
    account: Account,
    exposure: Exposure,
    now: datetime,
) -> Replaced | Refusal:
    """Replace the order, or refuse and leave it as it is. ``order_group`` are all open orders of its group.

    The new order is checked as any other, against the account and exposure without the old one.
    """
    old = next(order for order in order_group if order.id == command.order_id)
    refusal = (
        refuse_change(old, now) or refuse_halted(old.symbol, instrument) or next(_broken_rules(old, command), None)
    )
    if refusal is not None:
        return refusal
    terms = _new_terms(old, command)
    if isinstance(terms, Refusal):
        return terms
    refusal = next(_broken_prices(old, command, terms, order_group, instrument), None)
    if refusal is not None:
        return refusal
    if old.status is OrderStatus.HELD:
        return _replace_held(old, terms, order_group, instrument, account, now)
    return _replace_working(old, command, terms, order_group, instrument, account, exposure, now)


def _replace_held(
    old: Order, terms: NewOrder, order_group: Sequence[Order], instrument: Instrument, account: Account, now: datetime
) -> Replaced:
    """Replace an exit whose entry has not filled: there is nothing yet that it could close."""
    changes: dict[str, Any] = {name: getattr(terms, name) for name in TERMS if name != "order_class"}
    active_at = active_from(account, now)
    changes |= {"accepted_at": now, "active_at": active_at}
    ends = expiry(terms, instrument, active_at)
    new = replace(old, id=terms.order_id, expires_at=ends, **changes)
    return Replaced(released(old, OrderStatus.REPLACED), new, account, _others(order_group, old, new))


def _replace_working(
    old: Order,
    command: ReplaceOrder,
    terms: NewOrder,
    order_group: Sequence[Order],
    instrument: Instrument,
    account: Account,
    exposure: Exposure,
    now: datetime,
) -> Replaced | Refusal:
    """Replace an order that may fill, if account and exposure without it allow the new one."""
    without = replace(account, reserved=account.reserved - old.reserved)
    exits = sum((each.held_for_orders for each in order_group if each.side is old.side), ZERO)
    opening = ZERO if old.leg is not None else (old.qty or ZERO) - old.filled_qty - old.closing
    exposure = exposure.with_order(buys=old.buys, opening=-opening, held_for_orders=-exits)
    admitted = admit(terms, instrument, without, exposure, now, old.trace, replaces=old)
    if isinstance(admitted, Refusal):
        return admitted
    (order,) = admitted.orders
    held_for_orders = order.held_for_orders
    if old.is_entry:  # the shares that it has bought stay held for its exits
        held_for_orders = old.held_for_orders
    elif old.leg is not None and not old.held_for_orders:  # the other exit holds the shares of both
        held_for_orders = ZERO
    order = replace(
        order,
        order_class=old.order_class,
        order_group=old.order_group,
        leg=old.leg,
        held_for_orders=held_for_orders,
        hwm=old.hwm or order.hwm,
        triggered=old.triggered and command.stop_price is None and command.trail is None,  # a new stop was not reached
        carried=old.carried + old.filled_qty,
    )
    return Replaced(released(old, OrderStatus.REPLACED), order, admitted.account, _others(order_group, old, order))


def _others(order_group: Sequence[Order], old: Order, new: Order) -> tuple[Order, ...]:
    """The other orders of the group with the new one's time in force, where that has changed."""
    if new.time_in_force is old.time_in_force:
        return ()
    times = {"time_in_force": new.time_in_force, "expires_at": new.expires_at}
    return tuple(changed(order, **times) for order in order_group if order.id != old.id)


def _broken_rules(old: Order, command: ReplaceOrder) -> Iterator[Refusal]:
    """The reasons why the order cannot be changed in this way (Alpaca: orders-at-alpaca)."""
    simple = old.order_class is OrderClass.SIMPLE
    if not old.is_open:
        yield Refusal(RejectReason.NOT_REPLACEABLE, f"the order is {old.status}")
    if old.qty is None:
        yield Refusal(
            RejectReason.NOTIONAL, "notional orders cannot be replaced: cancel the order and submit a new one"
        )
    if command.qty is not None and command.qty <= old.filled_qty:
        yield Refusal(RejectReason.QTY, f"qty must be more than the filled quantity of {plain(old.filled_qty)}")
    if command.qty is not None and old.leg is not None:
        yield Refusal(RejectReason.QTY, "qty of an exit cannot be changed: it is that of its entry")
    if command.qty is not None and command.qty % 1 and not simple:
        yield Refusal(RejectReason.QTY, f"qty: {old.order_class} orders must be of whole shares")
    if command.trail is not None and old.type is not OrderType.TRAILING_STOP:
        yield Refusal(RejectReason.TRAIL, f"trail cannot be set on a {old.type} order")
    if command.time_in_force in AT_ONCE and not simple:
        yield Refusal(RejectReason.TIME_IN_FORCE, f"time_in_force: {old.order_class} orders must be day or gtc")


def _broken_prices(
    old: Order, command: ReplaceOrder, terms: NewOrder, order_group: Sequence[Order], instrument: Instrument
) -> Iterator[Refusal]:
    """The changed prices that no market would take. Those that stay are not looked at: a split may have made them."""
    trail = None if old.trail_price is None else command.trail
    changed = {"limit_price": command.limit_price, "stop_price": command.stop_price, "trail_price": trail}
    yield from sub_penny(changed, instrument)
    if trail is not None:
        yield from unreachable_trail(terms, instrument)
    if command.limit_price is None and command.stop_price is None:
        return
    others = [order for order in order_group if order.id != old.id]
    gain, loss = prices_of_exits([old, *others])
    if old.leg is None:
        if old.is_entry:
            yield from misplaced_exits(instrument, base_price(terms, instrument), gain, loss, sells=old.buys)
        return
    gain, loss = (terms.limit_price, loss) if old.leg is Leg.TAKE_PROFIT else (gain, terms.stop_price)
    if gain is not None and loss is not None:
        yield from crossed_exits(gain, loss, sells=not old.buys)
    entry = next((order for order in others if order.leg is None), None)
    if entry is not None:
        yield from misplaced_exits(instrument, base_price(entry, instrument), gain, loss, sells=not old.buys)
    elif command.stop_price is not None:  # a working profit may be taken at the market, a stop lies beyond it
        yield from misplaced_exits(instrument, instrument.market, None, loss, sells=not old.buys)


def _new_terms(old: Order, command: ReplaceOrder) -> NewOrder | Refusal:
    """The terms of the old order's rest, with the changes; a refusal where they do not fit together."""
    changes = command.model_dump(include={"time_in_force", "limit_price", "stop_price"}, exclude_none=True)
    if command.trail is not None:
        changes["trail_price" if old.trail_price is not None else "trail_percent"] = command.trail
    changes["order_class"] = OrderClass.SIMPLE  # its group exists already
    changes["qty"] = (command.qty or old.qty or ZERO) - old.filled_qty
    lasts = command.time_in_force in {None, TimeInForce.DAY, TimeInForce.GTC}
    changes["extended_hours"] = old.extended_hours and lasts
    try:
        return NewOrder(
            **{name: getattr(old, name) for name in TERMS} | changes,
            order_id=command.new_order_id,
            client_order_id=command.client_order_id or str(command.new_order_id),
            submitted_at=command.requested_at,
        )
    except ValueError as error:
        return Refusal(RejectReason.INVALID, first_error(error))
