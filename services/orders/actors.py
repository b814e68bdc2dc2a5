"""What orders does with each message."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import orders as store
from services.orders.usecases import auctions, cash, submit
from services.orders.usecases import corporate_actions as adjusting
from services.orders.usecases.account_events import Voice
from services.orders.usecases.execute import end_orders, fill_on
from shared.bus.actors import Actors
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import Transaction
from shared.contracts.accounts import ConfigureAccount, MoveCash, OpenAccount, ResetAccount
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.official_prices import AuctionHeld
from shared.contracts.orders import (
    CancelOrder,
    CancelRejected,
    NewOrder,
    OrderStatus,
    ReplaceOrder,
    SubmitOrder,
    SubmitOrders,
)
from shared.contracts.prices import PricesUpdated
from shared.exchange.acceptance.risk_checks import Refusal, refuse_change
from shared.exchange.order import Account, Order

actors = Actors()

#: A cancel or replace may overtake its submit; for this long an unknown order is waited for.
PARK_UNKNOWN = timedelta(seconds=5)
PARK_PAUSE_MS = 250
#: A command may come before its account is open; after this long it goes to the dead letters.
PARK_ACCOUNT = timedelta(seconds=60)


class UnknownAccount(LookupError):
    """A command came for an account that nobody opened."""


@actors.on(OpenAccount, queue="orders.commands")
def open_account(command: OpenAccount, tx: Transaction) -> None:
    account_store.open_account(tx.connection, command, tx.now)


@actors.on(ConfigureAccount, queue="orders.commands")
def configure_account(command: ConfigureAccount, tx: Transaction) -> None:
    _locked(tx, command.account_id)
    account_store.configure_account(tx.connection, command.account_id, command.settings)


@actors.on(MoveCash, queue="orders.commands")
def move_cash(command: MoveCash, tx: Transaction) -> None:
    cash.move_cash(tx, _locked(tx, command.account_id), command)


@actors.on(ResetAccount, queue="orders.commands")
def reset_account(command: ResetAccount, tx: Transaction) -> None:
    cash.reset(tx, _locked(tx, command.account_id), command)


@actors.on(PricesUpdated, queue="orders.prices", asks_first=True)
def fill_on_prices(event: PricesUpdated, tx: Transaction) -> None:
    """A price that comes after a newer one of its symbol is dropped: no order may fill on it any more."""
    fill_on(tx, event.prices, at=event.at or tx.now)


@actors.on(CorporateActionApplied, queue="orders.prices")
def apply_corporate_action(event: CorporateActionApplied, tx: Transaction) -> None:
    adjusting.apply_action(tx, event)


@actors.on(AuctionHeld, queue="orders.prices")
def hold_auction(event: AuctionHeld, tx: Transaction) -> None:
    auctions.hold(tx, event)


@actors.on(SubmitOrder, queue="orders.commands", asks_first=True)
def submit_order(command: SubmitOrder, tx: Transaction) -> None:
    """Accept the order and reserve what it needs, or refuse it with a reason; either is a row."""
    _submit(command.account_id, [command], tx)


@actors.on(SubmitOrders, queue="orders.commands", asks_first=True)
def submit_orders(command: SubmitOrders, tx: Transaction) -> None:
    _submit(command.account_id, command.orders, tx)


def _submit(account_id: UUID, orders: Sequence[NewOrder], tx: Transaction) -> None:
    account, contexts = submit.look_up(tx, account_id, orders)
    if account is None:
        raise _unknown(tx, account_id, orders[0].submitted_at)
    submit.enter_orders(tx, account, orders, contexts)


@actors.on(CancelOrder, queue="orders.commands")
def cancel_order(command: CancelOrder, tx: Transaction) -> None:
    """Cancel what is open and not about to be auctioned; a fill that came first wins, and the sender is told so."""
    account = account_store.lock_account(tx.connection, command.account_id)
    found = _family(tx, account, command.order_id, command.requested_at, late="not_cancelable")
    if account is None:
        return
    if isinstance(found, Refusal):
        _refuse_cancel(tx, account, command, found)
        return
    order, family = found
    late = refuse_change(order, tx.now)
    if late is not None:
        _refuse_cancel(tx, account, command, late)
        return
    end_orders(tx, [order], OrderStatus.CANCELED, family, {account.id: account}, "requested")


@actors.on(ReplaceOrder, queue="orders.commands")
def replace_order(command: ReplaceOrder, tx: Transaction) -> None:
    """Replace what is open; a fill that came first wins, and the sender is told so."""
    account = account_store.lock_account(tx.connection, command.account_id)
    found = _family(tx, account, command.order_id, command.requested_at, late="not_replaceable")
    if account is None:
        return
    if isinstance(found, Refusal):
        submit.refuse_replace(tx, account, command, found)
        return
    submit.replace_order(tx, account, found[1], command)


def _locked(tx: Transaction, account_id: UUID) -> Account:
    account = account_store.lock_account(tx.connection, account_id)
    if account is None:
        raise UnknownAccount(str(account_id))
    return account


def _unknown(tx: Transaction, account_id: UUID, since: datetime) -> Exception:
    """An order may come before its account is open."""
    if tx.now - since < PARK_ACCOUNT:
        return TryAgainLater(f"account {account_id} is not open yet", pause_ms=PARK_PAUSE_MS)
    return UnknownAccount(str(account_id))


def _family(
    tx: Transaction, account: Account | None, order_id: UUID, requested_at: datetime, *, late: str
) -> tuple[Order, list[Order]] | Refusal:
    """The open order and its open family, locked; or why nothing can be done about it: ``late`` where it has ended."""
    family = store.family_of(tx.connection, account.id, order_id) if account else None
    if account is None or family is None:
        if tx.now - requested_at < PARK_UNKNOWN:
            raise TryAgainLater(f"order {order_id} is not here yet", pause_ms=PARK_PAUSE_MS)
        return Refusal("unknown_order", "the order does not exist")
    orders = store.lock_open_orders(tx.connection, [(account.id, family)])
    for order in orders:
        if order.id == order_id:
            return order, orders
    status = store.order(tx.connection, account.id, order_id).status
    return Refusal(late, f"the order is {status}")


def _refuse_cancel(tx: Transaction, account: Account, command: CancelOrder, refusal: Refusal) -> None:
    accounts = {account.id: account}
    voice = Voice(tx, accounts)
    reason, message = refusal.reason, refusal.message
    voice.say(CancelRejected, account.id, order_id=command.order_id, reason=reason, message=message)
    account_store.save_accounts(tx.connection, list(accounts.values()))
