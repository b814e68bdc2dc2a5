"""A rebalance goes on when its orders end: first the sells, then the buys within the proceeds that filled.

The state of the orders is read from the view of orders, whose rows commit with each fill. No message can be missed.
"""

import threading
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from services.strategy.rebalancing import load, store
from services.strategy.rebalancing.plan import AccountFacts, PlannedOrder, affordable, blocked
from services.strategy.rebalancing.store import OrderRow, Rebalance
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.ordering import order_for
from services.strategy.strategies.sizing import Sized
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OPEN_STATUSES, CancelOrder, OrderStatus, Side
from shared.contracts.rebalancing import RebalanceState
from shared.money import ZERO, cents_down

#: A rebalance that is older is ended, and its open orders are canceled.
LASTS = timedelta(days=1)
#: Set when this process has begun a rebalance.
begun = threading.Event()
_WAITING = {*OPEN_STATUSES, OrderStatus.PENDING_NEW}


def advance(uow: UnitOfWork, rebalance_id: UUID) -> None:
    """Take the next step of the rebalance, if its orders allow one. Run again it does the same."""
    rebalance = store.lock(uow.connection, rebalance_id)
    if rebalance is None or rebalance.state not in {RebalanceState.SELLING, RebalanceState.BUYING}:
        return
    rows = [_ended(row) for row in store.orders_of(uow.connection, rebalance)]
    account = load.account_facts(uow.connection, rebalance.account_id)
    if account is None or account.generation != rebalance.generation:
        _end(uow, rebalance, rows, RebalanceState.CANCELED, "the account was reset or closed")
        return
    if uow.now - (rebalance.started_at or rebalance.created_at) >= LASTS:
        _cancel_open(uow, rebalance, rows)
        _end(uow, rebalance, rows, RebalanceState.INCOMPLETE, "its orders did not fill within a day")
        return
    if any(row.status == "sent" for row in rows):
        store.save_orders(uow.connection, rebalance.id, rows)
        return
    if any(row.status == "planned" for row in rows):
        rows = send(uow, rebalance, rows, account)
        if any(row.status == "sent" for row in rows):
            return
    finish(uow, rebalance, rows)


def send(uow: UnitOfWork, rebalance: Rebalance, rows: list[OrderRow], account: AccountFacts) -> list[OrderRow]:
    """Send the planned sells, or the planned buys where there are none. Save and return all orders."""
    sells = [row for row in rows if row.status == "planned" and row.side is Side.SELL]
    planned = sells or [row for row in rows if row.status == "planned"]
    ready = planned if sells else _payable(uow, rebalance, rows, account)
    sent = {row.symbol: _sent(uow, rebalance, row) if row.status == "planned" else row for row in ready}
    after = [sent.get(row.symbol, row) for row in rows]
    store.save_orders(uow.connection, rebalance.id, after)
    if any(row.status == "sent" for row in after):
        state = RebalanceState.SELLING if sells else RebalanceState.BUYING
        store.save_state(uow.connection, rebalance.id, state, uow.now)
        uow.after_commit.append(begun.set)
    return after


def cancel(uow: UnitOfWork, rebalance: Rebalance, reason: str) -> None:
    """Cancel the open orders of the rebalance, and end it."""
    rows = [_ended(row) for row in store.orders_of(uow.connection, rebalance)]
    _cancel_open(uow, rebalance, rows)
    _end(uow, rebalance, rows, RebalanceState.CANCELED, reason)


def _payable(uow: UnitOfWork, rebalance: Rebalance, rows: list[OrderRow], account: AccountFacts) -> list[OrderRow]:
    """The planned buys as far as the cash pays for them now. The others have ended, with the reason.

    A deposit that came meanwhile is not spent, nor is cash that an order has reserved.
    """
    planned = [row for row in rows if row.status == "planned"]
    listed = load.listed(uow.connection, account.id, [row.symbol for row in planned], uow.now)
    ready, ended = [], {}
    for row in planned:
        each = listed.get(row.symbol)
        opens = each is not None and each.qty >= ZERO
        refusal = None if each is None else blocked(account, each, opens=opens, shorts=False, scheduled=False)
        if each is None or refusal is not None:
            note = f"{row.symbol} is not an instrument any more" if refusal is None else refusal.message
            ended[row.symbol] = replace(row, status="ended", note=note)
            continue
        ready.append(PlannedOrder(row.symbol, Side.BUY, row.qty, each.price(Side.BUY), ZERO, ZERO, row.note))
    proceeds = cents_down(sum((row.filled_value for row in rows if row.side is Side.SELL), ZERO))
    least = cents_down((rebalance.targets.cash or ZERO) * account.equity)
    kept, unpaid = affordable(ready, min(rebalance.budget + proceeds, account.free - least), listed, account)
    orders, reasons = {each.symbol: each for each in kept}, {each.symbol: each.message for each in unpaid}
    for row in planned:
        if row.symbol in orders:
            found = orders[row.symbol]
            ended[row.symbol] = replace(row, qty=found.qty, note=found.cut)
        elif row.symbol in reasons:
            ended[row.symbol] = replace(row, status="ended", note=reasons[row.symbol])
    return list(ended.values())


def _sent(uow: UnitOfWork, rebalance: Rebalance, row: OrderRow) -> OrderRow:
    """Publish the order. One rebalance has one order in a symbol, however often it is sent."""
    decision = Decision(symbol=row.symbol, action=Action.TARGET, reason="The account is rebalanced.")
    order = order_for(
        decision,
        Sized(row.side, row.qty),
        row.side,
        account_id=rebalance.account_id,
        order_id=row.order_id,
        client_order_id=f"rebalance-{rebalance.id}-{row.symbol}",
        strategy_id=None,
        at=uow.now,
    )
    uow.publish(order, message_id=order.order_id)
    return replace(row, status="sent")


def _ended(row: OrderRow) -> OrderRow:
    """The order as it is now. An order that orders does not know yet waits."""
    if row.status != "sent" or row.known is None or row.known in _WAITING:
        return row
    ended = f"the order is {row.known}{f': {row.refusal}' if row.refusal else ''}"
    note = row.note if row.known == OrderStatus.FILLED else ended
    return replace(row, status="ended", note=note)


def _cancel_open(uow: UnitOfWork, rebalance: Rebalance, rows: list[OrderRow]) -> None:
    for row in rows:
        if row.status == "sent":
            uow.publish(CancelOrder(account_id=rebalance.account_id, order_id=row.order_id, requested_at=uow.now))


def finish(uow: UnitOfWork, rebalance: Rebalance, rows: list[OrderRow]) -> None:
    """End the rebalance: done if each order was filled as it was planned."""
    left = [row.symbol for row in rows if row.filled_qty < row.qty]
    state = RebalanceState.INCOMPLETE if left else RebalanceState.DONE
    reason = f"not all was filled: {', '.join(left[:10])}" if left else None
    _end(uow, rebalance, rows, state, reason)


def _end(
    uow: UnitOfWork, rebalance: Rebalance, rows: list[OrderRow], state: RebalanceState, reason: str | None
) -> None:
    store.save_orders(uow.connection, rebalance.id, [replace(row, status="ended") for row in rows])
    store.save_state(uow.connection, rebalance.id, state, uow.now, reason)
