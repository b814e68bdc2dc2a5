"""The effect that a corporate action would have on positions, cash and open orders, by the exchange's own rules.

Nothing is written. Trades, fills and orders until the action takes effect are not foreseen.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from services.gateway.instruments.preview_queries import Holdings
from shared.contracts.corporate_actions import CorporateAction
from shared.contracts.orders import OrderStatus
from shared.exchange.corporate_actions import (
    Split,
    dividend,
    pay_fraction,
    reduce_order,
    split_lots,
    split_orders,
)
from shared.exchange.lots import Lot, cost_of, held
from shared.exchange.matching.ending import end
from shared.exchange.order import Account, Key, Order
from shared.money import ZERO

#: The action has no id yet, and no effect depends on it.
NO_ID = UUID(int=0)


class OrderEffect(NamedTuple):
    """An open order before and after. ``after`` is None where it is canceled."""

    before: Order
    after: Order | None


class Effect(NamedTuple):
    """The effect on one account. ``cash`` is what it is paid, negative where it pays, None where a rate is missing."""

    account: Account
    qty: Decimal
    cost: Decimal
    qty_after: Decimal
    cost_after: Decimal
    cash: Decimal | None
    orders: tuple[OrderEffect, ...]


def preview(action: CorporateAction, holdings: Holdings, now: datetime) -> list[Effect]:
    """The effect on each account that holds the symbol, held it at the ex-date, or has orders that change."""
    if action.new_shares is not None and action.old_shares is not None:
        effects = _split(action, Split(action.new_shares, action.old_shares), holdings, now)
    else:
        effects = _dividend(action, action.amount or ZERO, holdings)
    return [each for each in effects if each.qty or each.cash or each.orders]


def price_after(action: CorporateAction, last: Decimal | None) -> Decimal | None:
    """The price of a share after the action. A dividend leaves it to the market."""
    if last is None or action.new_shares is None or action.old_shares is None:
        return last
    return round(last * action.old_shares / action.new_shares, 9)


def _split(action: CorporateAction, split: Split, holdings: Holdings, now: datetime) -> list[Effect]:
    at = action.effective_at
    after = {account_id: split_lots(lots, split, at) for account_id, lots in holdings.lots.items()}
    cash: dict[UUID, Decimal | None] = {}
    if action.cash_in_lieu and holdings.last is not None:
        last = price_after(action, holdings.last) or ZERO
        for account_id, lots in holdings.lots.items():
            rate = holdings.rates.get(account_id)
            if rate is None:
                cash[account_id] = None
            elif paid := pay_fraction(lots, after[account_id], last, rate, NO_ID, now):
                after[account_id], cash[account_id] = paid.lots, paid.cash
    positions = {account_id: held(lots) for account_id, lots in after.items()}
    orders = split_orders(holdings.orders, split, at, positions, holdings.since)
    changed: dict[Key, Order | None] = {order.key: order for order in orders.adjusted}
    if orders.ending:
        current = {order.key: order for order in (*holdings.orders, *orders.adjusted, *orders.ending)}
        accounts = dict(holdings.accounts)
        result = end(orders.ending, OrderStatus.CANCELED, list(current.values()), accounts, now)
        changed |= dict.fromkeys((order.key for order in (*result.ended, *result.canceled)), None)
    return _effects(holdings, changed, after, cash)


def _dividend(action: CorporateAction, amount: Decimal, holdings: Holdings) -> list[Effect]:
    reduced = ((order, reduce_order(order, amount)) for order in holdings.orders)
    changed: dict[Key, Order | None] = {
        order.key: after for order, after in reduced if after != order and order.accepted_at < action.effective_at
    }
    cash = {
        account_id: None if rate is None else dividend(qty, amount, rate)
        for account_id, qty in holdings.entitled.items()
        for rate in (holdings.rates.get(account_id),)
    }
    return _effects(holdings, changed, holdings.lots, cash)


def _effects(
    holdings: Holdings,
    changed: Mapping[Key, Order | None],
    after: Mapping[UUID, tuple[Lot, ...]],
    cash: Mapping[UUID, Decimal | None],
) -> list[Effect]:
    effects = []
    for account in holdings.accounts.values():
        was, now = holdings.lots.get(account.id, ()), after.get(account.id, ())
        orders = tuple(_order_effects((o for o in holdings.orders if o.account_id == account.id), changed))
        paid = cash.get(account.id, ZERO)
        effects.append(Effect(account, held(was), cost_of(was), held(now), cost_of(now), paid, orders))
    return effects


def _order_effects(orders: Iterable[Order], changed: Mapping[Key, Order | None]) -> Sequence[OrderEffect]:
    return [OrderEffect(order, changed[order.key]) for order in orders if order.key in changed]
