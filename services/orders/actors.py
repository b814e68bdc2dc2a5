"""What orders does with each message."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from services.orders import saving, store
from services.orders.domain import risk
from services.orders.domain.order import Account
from services.orders.domain.risk import Refusal
from services.orders.filling import fill_open_orders
from shared.bus.actors import Actors
from shared.bus.retries import TryAgainLater
from shared.bus.transaction import Transaction
from shared.contracts.base import Message
from shared.contracts.orders import (
    OPEN_STATUSES,
    CancelOrder,
    CancelRejected,
    OpenAccount,
    OrderAccepted,
    OrderCanceled,
    OrderRejected,
    OrderStatus,
    SubmitOrder,
    TimeInForce,
)
from shared.contracts.prices import PricesUpdated
from shared.money import ZERO

actors = Actors()

#: A cancel may overtake its submit; for this long an unknown order is waited for.
PARK_CANCEL = timedelta(seconds=5)
PARK_PAUSE_MS = 250
#: An order may come before its account is open; after this long it goes to the dead letters.
PARK_SUBMIT = timedelta(seconds=60)


class UnknownAccount(LookupError):
    """An order came for an account that nobody opened."""


@actors.on(OpenAccount, queue="orders.commands")
def open_account(command: OpenAccount, tx: Transaction) -> None:
    store.open_account(tx.connection, command, tx.now)


@actors.on(PricesUpdated, queue="orders.prices")
def fill_on_prices(event: PricesUpdated, tx: Transaction) -> None:
    """A price that comes after a newer one of its symbol is dropped: no order may fill on it any more."""
    fresh = tx.not_older("orders.prices", {price.symbol: price.sequence for price in event.prices})
    fill_open_orders(tx, tuple(price for price in event.prices if price.symbol in fresh))


@actors.on(SubmitOrder, queue="orders.commands")
def submit_order(command: SubmitOrder, tx: Transaction) -> None:
    """Accept the order and reserve what it needs, or refuse it with a reason; either is a row."""
    account = store.lock_account(tx.connection, command.account_id)
    if account is None and tx.now - command.submitted_at < PARK_SUBMIT:
        raise TryAgainLater(f"account {command.account_id} is not open yet", pause_ms=PARK_PAUSE_MS)
    if account is None:
        raise UnknownAccount(str(command.account_id))
    if store.order_exists(tx.connection, account.id, command.order_id):
        return
    found = store.listing(tx.connection, command.symbol, tx.now)
    if found is None:
        _reject(command, account, risk.unknown_symbol(command.symbol), tx)
        return
    listing, session_end = found
    refusal = _refusal(command, listing, account, tx)
    if refusal is not None:
        _reject(command, account, refusal, tx)
        return
    reserved = risk.reserve_for(command, listing)
    store.add_order(
        tx.connection,
        command,
        now=tx.now,
        reserved=reserved,
        expires_at=session_end if command.time_in_force is TimeInForce.DAY else None,
        refusal=None,
    )
    account = replace(account, reserved=account.reserved + reserved)
    _say(OrderAccepted, account, tx, order_id=command.order_id)


def _refusal(command: SubmitOrder, listing: risk.Listing, account: Account, tx: Transaction) -> Refusal | None:
    if store.client_id_taken(tx.connection, account.id, command.client_order_id):
        return risk.DUPLICATE
    available = store.available_qty(tx.connection, account.id, command.symbol)
    return risk.refuse(command, listing, account, available_qty=available)


def _reject(command: SubmitOrder, account: Account, refusal: Refusal, tx: Transaction) -> None:
    store.add_order(tx.connection, command, now=tx.now, reserved=ZERO, expires_at=None, refusal=refusal)
    _say(OrderRejected, account, tx, order_id=command.order_id, reason=refusal.reason, message=refusal.message)


@actors.on(CancelOrder, queue="orders.commands")
def cancel_order(command: CancelOrder, tx: Transaction) -> None:
    """Cancel what is open; a fill that came first wins, and the sender is told so."""
    account = store.lock_account(tx.connection, command.account_id)
    order = store.lock_order(tx.connection, command.account_id, command.order_id) if account else None
    if account is None or order is None:
        if tx.now - command.requested_at < PARK_CANCEL:
            raise TryAgainLater(f"order {command.order_id} is not here yet", pause_ms=PARK_PAUSE_MS)
        if account is not None:
            _say_not_canceled(command, account, "unknown_order", "the order does not exist", tx)
        return
    if order.status not in OPEN_STATUSES:
        _say_not_canceled(command, account, "not_cancelable", f"the order is {order.status}", tx)
        return
    store.end_orders(tx.connection, [order], OrderStatus.CANCELED, tx.now)
    account = replace(account, reserved=account.reserved - order.reserved)
    _say(OrderCanceled, account, tx, trace=order.trace, order_id=order.id)


def _say_not_canceled(command: CancelOrder, account: Account, reason: str, message: str, tx: Transaction) -> None:
    _say(CancelRejected, account, tx, order_id=command.order_id, reason=reason, message=message)


def _say(event: type[Message], account: Account, tx: Transaction, trace: str | None = None, **facts: Any) -> None:
    """Publish the account's next event, and save the account with its new sequence."""
    account = replace(account, sequence=account.sequence + 1)
    saving.save_accounts(tx.connection, [account])
    tx.publish(event(account_id=account.id, sequence=account.sequence, at=tx.now, **facts), trace=trace)
