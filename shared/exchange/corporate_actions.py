"""The effect of splits and dividends on lots, open orders and cash.

A split changes the number of shares and never their cost. It takes effect at a moment: shares bought before it are old
ones, and shares bought later are new ones already, however late the split is entered.

The prices of open orders are rounded to the tick, away from the market, so that rounding fills or triggers nothing.
Their open quantities are rounded down: to whole shares, or to the ninth decimal for day orders and for exits, since
these hold what their entry bought. This is FINRA Rule 5330 for forward splits. Reverse splits change orders in the same
way, while brokers cancel them under that rule.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import NamedTuple
from uuid import UUID

from shared.contracts.orders import OrderStatus, OrderType, Side, TimeInForce
from shared.exchange.fx import Rate
from shared.exchange.lots import Closed, Lot, held, trade
from shared.exchange.order import LEAST_QTY, Key, Order
from shared.exchange.values import changed
from shared.money import CENT, ZERO, cents_down

WHOLE = Decimal(1)
#: Prices below one dollar have four decimals (SEC Rule 612).
SMALL_TICK = Decimal("0.0001")
#: (account, order group).
GroupKey = tuple[UUID, UUID]


class Split(NamedTuple):
    """``new`` shares for every ``old`` ones."""

    new: int
    old: int

    def shares(self, qty: Decimal) -> Decimal:
        """The new shares for that many old ones, rounded towards zero to nine decimals."""
        return _in_units(qty * self.new / self.old, LEAST_QTY)

    def price(self, price: Decimal, rounding: str) -> Decimal:
        return on_tick(price * self.old / self.new, rounding)


def on_tick(price: Decimal, rounding: str) -> Decimal:
    """The price in whole ticks, at least one (SEC Rule 612)."""
    rounded = price.quantize(CENT if price >= 1 else SMALL_TICK, rounding=rounding)
    return max(price if price == rounded else rounded, SMALL_TICK)


def _in_units(qty: Decimal, unit: Decimal) -> Decimal:
    """The quantity in whole units, rounded towards zero. The number itself where it is in such units."""
    whole = qty // unit * unit
    return qty if qty == whole else whole


def split_lots(lots: tuple[Lot, ...], split: Split, effective_at: datetime) -> tuple[Lot, ...]:
    """The lots after the split. Those opened before it have new shares, rounded down to nine decimals, at the old cost.

    The first of them gets the shares that rounding each would lose, so that open orders never hold more than there is.
    """
    old = tuple(lot for lot in lots if lot.opened_at < effective_at)
    new = {lot.fill_id: split.shares(lot.qty) for lot in old}
    lost = split.shares(held(old)) - sum(new.values(), ZERO)
    first = next((lot.fill_id for lot in old if lot.qty), None)
    return tuple(
        lot._replace(qty=new[lot.fill_id] + (lost if lot.fill_id == first else ZERO)) if lot.fill_id in new else lot
        for lot in lots
    )


class PaidOut(NamedTuple):
    """Lots without the fraction of a share that was paid in cash, that cash, and the parts of lots that it closed."""

    lots: tuple[Lot, ...]
    qty: Decimal
    cash: Decimal
    closed: tuple[Closed, ...]


def pay_fraction(
    before: tuple[Lot, ...], after: tuple[Lot, ...], last: Decimal, rate: Rate, action_id: UUID, at: datetime
) -> PaidOut | None:
    """Pay cash in lieu of the fraction of a share that a split made of whole shares, at the price after the split.

    None where there is no fraction, or where fractions of shares were held before. The cash is rounded down. For a
    short position it is negative, and rounded against its holder too.
    """
    qty = held(after)
    fraction = qty - qty.quantize(WHOLE, rounding=ROUND_DOWN)
    if not fraction or held(before) % 1:
        return None
    cash = cents_down(fraction * last * rate.of(buys=fraction < 0))
    side = Side.SELL if fraction > 0 else Side.BUY
    lots, closed = trade(after, side, abs(fraction), abs(cash), fill_id=action_id, at=at)
    return PaidOut(lots, fraction, cash, closed)


@dataclass(frozen=True)
class FilledSince:
    """The shares filled since a split took effect, which are new ones: by order, and by order group and purpose.

    ``entered`` were filled for the entries of each group, ``exited`` for its exits.
    """

    by_order: dict[Key, Decimal] = field(default_factory=dict)
    entered: dict[GroupKey, Decimal] = field(default_factory=dict)
    exited: dict[GroupKey, Decimal] = field(default_factory=dict)


class SplitOrders(NamedTuple):
    """``adjusted`` orders stay open. Nothing is left of the ``ending`` ones but what an entry holds for its exits."""

    adjusted: list[Order]
    ending: list[Order]


def split_orders(
    orders: Sequence[Order],
    split: Split,
    effective_at: datetime,
    positions: Mapping[UUID, Decimal],
    since: FilledSince | None = None,
) -> SplitOrders:
    """The open orders of one symbol after the split, all of their groups. Orders accepted after it are of new shares.

    ``positions`` are the new shares of each account. Closing orders never hold more than these: an order that came in
    between the split and its entry may have been meant in old shares, and then gets what the earlier orders leave.
    """
    since = since or FilledSince()
    adjusted: list[Order] = []
    ending: list[Order] = []
    free = {account: abs(qty) for account, qty in positions.items()}
    groups: dict[GroupKey, list[Order]] = {}
    for order in sorted(orders, key=lambda each: (each.accepted_at, each.leg is not None, each.id.int)):
        groups.setdefault(_group(order), []).append(order)
    for (account, _), group in groups.items():  # an entry precedes its exits
        after = _split_group(group, split, effective_at, since)
        excess = _held_for_orders(after) - free.get(account, ZERO)
        if excess > 0:
            after = [_reduced(order, excess) if order.held_for_orders or order.leg else order for order in after]
        free[account] = free.get(account, ZERO) - _held_for_orders(after)
        for was, order in zip(group, after, strict=True):
            if order.qty is not None and order.qty <= order.filled_qty:
                ending.append(changed(order, qty=was.qty))
            elif order != was:
                adjusted.append(order)
    return SplitOrders(adjusted, ending)


def _held_for_orders(orders: Iterable[Order]) -> Decimal:
    return sum((order.held_for_orders for order in orders), ZERO)


def _split_group(group: list[Order], split: Split, effective_at: datetime, since: FilledSince) -> list[Order]:
    entry: Order | None = None
    after = []
    for order in group:
        new = order
        if order.accepted_at < effective_at:
            new = _split_exit(order, split, since) if order.leg else _split_order(order, split, since)
        if entry is not None and new.status is OrderStatus.HELD:  # it waits for what its entry buys
            new = changed(new, qty=entry.held_for_orders + entry.open_qty(WHOLE))
        if new.is_entry:
            entry = new
        after.append(new)
    return after


def _split_order(order: Order, split: Split, since: FilledSince) -> Order:
    """The order in new shares at their prices. The part that was filled is unchanged."""
    filled = since.by_order.get(order.key, ZERO)
    if order.is_entry:
        filled_for_exits = min(since.entered.get(_group(order), ZERO), order.held_for_orders)
        holds = split.shares(order.held_for_orders - filled_for_exits) + filled_for_exits
    else:
        holds = max(split.shares(order.held_for_orders + filled) - filled, ZERO) if order.held_for_orders else ZERO
    if order.qty is None:
        return changed(order, held_for_orders=holds, **_prices(order, split))
    unit = LEAST_QTY if order.time_in_force is TimeInForce.DAY else WHOLE
    open_then = order.qty - order.filled_qty + filled
    left = max(_in_units(split.shares(open_then) - filled, unit), ZERO)
    holds = holds if order.is_entry else min(holds, left)
    return changed(order, qty=order.filled_qty + left, held_for_orders=holds, **_prices(order, split))


def _split_exit(order: Order, split: Split, since: FilledSince) -> Order:
    """The exit in new shares: of those that its entry bought before the split, less those that were sold before it."""
    group, left = _group(order), (order.qty or ZERO) - order.filled_qty
    new = since.entered.get(group, ZERO) - since.exited.get(group, ZERO)
    left = max(split.shares(max(left - new, ZERO)) + new, ZERO)
    holds = left if order.held_for_orders else ZERO  # of two exits, one holds the shares
    return changed(order, qty=order.filled_qty + left, held_for_orders=holds, **_prices(order, split))


def _group(order: Order) -> GroupKey:
    return order.account_id, order.order_group or order.id


def _reduced(order: Order, excess: Decimal) -> Order:
    """The order of a group that holds so many shares too many. The exits of one group stay alike."""
    holds = max(order.held_for_orders - excess, ZERO)
    if order.qty is None or order.is_entry or order.status is OrderStatus.HELD:
        return changed(order, held_for_orders=holds)
    unit = LEAST_QTY if order.leg or order.time_in_force is TimeInForce.DAY else WHOLE
    left = max(_in_units(order.qty - order.filled_qty - excess, unit), ZERO)
    return changed(order, qty=order.filled_qty + left, held_for_orders=min(holds, left))


def _prices(order: Order, split: Split) -> dict[str, Decimal | None]:
    """The order's prices after the split, in whole ticks."""
    stops = order.type is not OrderType.LIMIT
    down = order.buys != stops  # buy limits and sell stops lie below the market, and the others above it
    away = ROUND_FLOOR if down else ROUND_CEILING

    def scaled(price: Decimal | None, rounding: str) -> Decimal | None:
        return None if price is None else split.price(price, rounding)

    return {
        "limit_price": scaled(order.limit_price, away),
        "stop_price": scaled(order.stop_price, away),
        "trail_price": scaled(order.trail_price, ROUND_CEILING),
        "hwm": scaled(order.hwm, away),
    }


def reduce_order(order: Order, amount: Decimal) -> Order:
    """The open order on the ex-date of a cash dividend of ``amount`` a share: a buy limit and a sell stop cost less.

    The price is reduced by the dividend and rounded down to the tick, and so is the best price that a trailing stop
    follows. A dividend below a cent changes nothing, nor does any dividend change an order that does not allow it, or
    one of a bracket, oto or oco order (Alpaca sends these as "do not reduce"). Source: FINRA Rule 5330.
    """
    below = order.type is OrderType.LIMIT if order.buys else order.type not in {OrderType.LIMIT, OrderType.MARKET}
    if order.do_not_reduce or order.order_group is not None or amount < CENT or not below or order.triggered:
        return order

    def reduced(price: Decimal | None) -> Decimal | None:
        return None if price is None else on_tick(max(price - amount, ZERO), ROUND_FLOOR)

    return changed(
        order,
        limit_price=reduced(order.limit_price),
        stop_price=reduced(order.stop_price),
        hwm=reduced(order.hwm),
    )


def dividend(qty: Decimal, amount: Decimal, rate: Rate) -> Decimal:
    """The cash for ``qty`` shares at ``amount`` each in their currency, negative where they are short.

    It is rounded down to the cent, and what a short seller owes is rounded up.
    """
    return cents_down(qty * amount * rate.of(buys=qty < 0)) if qty else ZERO
