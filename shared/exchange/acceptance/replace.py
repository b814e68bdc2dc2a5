"""An open order is replaced: another goes on with what was left of it, under its changed terms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from shared.contracts.orders import (
    AT_ONCE,
    PRICES,
    NewOrder,
    OrderClass,
    OrderStatus,
    OrderType,
    ReplaceOrder,
)
from shared.exchange.acceptance.entry import Admitted, active_from, admit, expiry
from shared.exchange.acceptance.risk_checks import Exposure, Instrument, Refusal, refuse_change, refuse_halted
from shared.exchange.matching.contingent_orders import released
from shared.exchange.order import Account, Order
from shared.money import ZERO, plain


@dataclass(frozen=True)
class Replaced:
    """``ended`` is the old order, ``order`` the one that goes on; the account is as with both."""

    ended: Order
    order: Order
    account: Account


def amend(
    order_group: Sequence[Order],
    command: ReplaceOrder,
    instrument: Instrument,
    account: Account,
    exposure: Exposure,
    now: datetime,
) -> Replaced | Refusal:
    """Replace the order, or say why not; then it stays as it is. ``order_group`` are all open orders that end with it.

    The new order is admitted as any other is, beside the account without the old one.
    """
    old = next(order for order in order_group if order.id == command.order_id)
    refusal = refuse_change(old, now) or refuse_halted(old.symbol, instrument) or _refuse(old, command)
    if refusal is not None:
        return refusal
    terms = _terms(old, command)
    if isinstance(terms, Refusal):
        return terms
    without = replace(account, reserved=account.reserved - old.reserved)
    held_for_orders = sum((each.held_for_orders for each in order_group if each.side is old.side), ZERO)
    free = replace(_less(exposure, old), held_for_orders=exposure.held_for_orders - held_for_orders)
    if old.status is OrderStatus.HELD:  # its entry has not filled: there is nothing yet that it could close
        held = replace(_held(old, terms, instrument), accepted_at=now, active_at=active_from(account, now))
        return Replaced(released(old, OrderStatus.REPLACED), held, account)
    admitted = admit(terms, instrument, without, free, now, old.trace)
    if isinstance(admitted, Refusal):
        return admitted
    order = _going_on(old, admitted, command)
    return Replaced(released(old, OrderStatus.REPLACED), order, admitted.account)


def _less(exposure: Exposure, old: Order) -> Exposure:
    """The standing without what the old order would open."""
    opening = (
        ZERO
        if old.leg is not None
        else (old.qty or ZERO) - old.filled_qty - (ZERO if old.is_entry else old.held_for_orders)
    )
    if old.buys:
        return replace(exposure, buying=exposure.buying - opening)
    return replace(exposure, selling=exposure.selling - opening)


def _refuse(old: Order, command: ReplaceOrder) -> Refusal | None:
    if not old.is_open:
        return Refusal("not_replaceable", f"the order is {old.status}")
    if old.qty is None:
        return Refusal("notional", "a notional order cannot be replaced")
    if command.qty is not None and command.qty <= old.filled_qty:
        return Refusal("qty", f"qty must be more than the {plain(old.filled_qty)} that have filled")
    if command.qty is not None and old.leg is not None:
        return Refusal("qty", "the quantity of an exit is that of its entry")
    if command.trail is not None and old.type is not OrderType.TRAILING_STOP:
        return Refusal("trail", f"trail does not go with a {old.type} order")
    return _refuse_in_group(old, command) if old.order_class is not OrderClass.SIMPLE else None


def _refuse_in_group(old: Order, command: ReplaceOrder) -> Refusal | None:
    """What the terms of a simple order may be, but not those of one that belongs to others."""
    if command.time_in_force in AT_ONCE:
        return Refusal("time_in_force", f"time_in_force: an order of class {old.order_class} is day or gtc")
    if command.qty is not None and command.qty % 1:
        return Refusal("qty", f"qty: an order of class {old.order_class} is of whole shares")
    return None


def _terms(old: Order, command: ReplaceOrder) -> NewOrder | Refusal:
    """The new order's terms: what was left of the old one, with what changes."""
    fields = {name: getattr(old, name) for name in sorted(PRICES[old.type])}
    if command.limit_price is not None:
        fields["limit_price"] = command.limit_price
    if command.stop_price is not None:
        fields["stop_price"] = command.stop_price
    if command.trail is not None:
        fields["trail_price" if old.trail_price is not None else "trail_percent"] = command.trail
    try:
        return NewOrder(
            symbol=old.symbol,
            side=old.side,
            type=old.type,
            time_in_force=command.time_in_force or old.time_in_force,
            qty=(command.qty or old.qty or ZERO) - old.filled_qty,
            **fields,
            order_id=command.new_order_id,
            client_order_id=command.client_order_id or str(command.new_order_id),
            submitted_at=command.requested_at,
            strategy_id=old.strategy_id,
            extended_hours=old.extended_hours and command.time_in_force in {None, old.time_in_force},
        )
    except ValueError as error:
        return Refusal("invalid", _sentence(error))


def _sentence(error: ValueError) -> str:
    """What pydantic found, as one sentence."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _held(old: Order, terms: NewOrder, instrument: Instrument) -> Order:
    return replace(
        old,
        id=terms.order_id,
        qty=terms.qty,
        time_in_force=terms.time_in_force,
        limit_price=terms.limit_price,
        stop_price=terms.stop_price,
        expires_at=expiry(terms.time_in_force, instrument),
    )


def _going_on(old: Order, admitted: Admitted, command: ReplaceOrder) -> Order:
    """The new order in the old one's place in its order_group; a new stop is one that was not reached yet."""
    (order,) = admitted.orders
    return replace(
        order,
        order_class=old.order_class,
        order_group=old.order_group if old.order_class is not OrderClass.SIMPLE else None,
        leg=old.leg,
        held_for_orders=_promised(old, order),
        hwm=old.hwm or order.hwm,
        triggered=old.triggered and command.stop_price is None and command.trail is None,
        carried=old.carried + old.filled_qty,
    )


def _promised(old: Order, order: Order) -> Decimal:
    if old.is_entry:  # what it has bought stays held_for_orders to its exits
        return old.held_for_orders
    shared = old.leg is not None and old.held_for_orders == ZERO  # the other exit promises the shares of both
    return ZERO if shared else order.held_for_orders
