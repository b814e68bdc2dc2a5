"""What orders does with each message."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import orders as store
from services.orders.usecases import auctions, cash, submit
from services.orders.usecases import corporate_actions as adjusting
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.execute import end_orders, fill_on
from shared.bus.actors import Actors
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import ConfigureAccount, MoveCash, OpenAccount, ResetAccount
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.official_prices import OfficialPricePublished
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
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.risk_checks import refuse_change
from shared.exchange.order import Account, Order
from shared.exchange.refusal import Refusal

actors = Actors()

#: A cancel or replace may overtake its submit; for this long an unknown order is waited for.
PARK_UNKNOWN = timedelta(seconds=5)
PARK_PAUSE_MS = 250
#: A command may come before its account is open; after this long it goes to the dead letters.
PARK_ACCOUNT = timedelta(seconds=60)


class UnknownAccount(LookupError):
    """A command came for an account that nobody opened."""


@actors.on(OpenAccount, queue="orders.commands")
def open_account(command: OpenAccount, uow: UnitOfWork) -> None:
    account_store.open_account(uow.connection, command, uow.now)


@actors.on(ConfigureAccount, queue="orders.commands")
def configure_account(command: ConfigureAccount, uow: UnitOfWork) -> None:
    _locked(uow, command.account_id)
    account_store.configure_account(uow.connection, command.account_id, command.settings)


@actors.on(MoveCash, queue="orders.commands")
def move_cash(command: MoveCash, uow: UnitOfWork) -> None:
    cash.move_cash(uow, _locked(uow, command.account_id), command)


@actors.on(ResetAccount, queue="orders.commands")
def reset_account(command: ResetAccount, uow: UnitOfWork) -> None:
    cash.reset(uow, _locked(uow, command.account_id), command)


@actors.on(PricesUpdated, queue="orders.prices", begins=True)
def fill_on_prices(event: PricesUpdated, uow: UnitOfWork) -> None:
    """A price that comes after a newer one of its symbol is dropped: no order may fill on it any more."""
    fill_on(uow, event.prices, at=event.at or uow.now)


@actors.on(CorporateActionApplied, queue="orders.prices")
def apply_corporate_action(event: CorporateActionApplied, uow: UnitOfWork) -> None:
    adjusting.apply_action(uow, event)


@actors.on(OfficialPricePublished, queue="orders.prices")
def hold_auction(event: OfficialPricePublished, uow: UnitOfWork) -> None:
    auctions.hold(uow, event)


@actors.on(SubmitOrder, queue="orders.commands", begins=True)
def submit_order(command: SubmitOrder, uow: UnitOfWork) -> None:
    """Accept the order and reserve what it needs, or refuse it with a reason; either is a row."""
    _submit(command.account_id, [command], uow)


@actors.on(SubmitOrders, queue="orders.commands", begins=True)
def submit_orders(command: SubmitOrders, uow: UnitOfWork) -> None:
    _submit(command.account_id, command.orders, uow)


def _submit(account_id: UUID, orders: Sequence[NewOrder], uow: UnitOfWork) -> None:
    account, pre_trade_contexts = submit.look_up(uow, account_id, orders)
    if account is None:
        raise _unknown(uow, account_id, orders[0].submitted_at)
    submit.enter_orders(uow, account, orders, pre_trade_contexts)


@actors.on(CancelOrder, queue="orders.commands")
def cancel_order(command: CancelOrder, uow: UnitOfWork) -> None:
    """Cancel what is open and not about to be auctioned; a fill that came first wins, and the sender is told so."""
    account = account_store.lock_account(uow.connection, command.account_id)
    found = _order_group(uow, account, command.order_id, command.requested_at, late=RejectReason.NOT_CANCELABLE)
    if account is None:
        return
    if isinstance(found, Refusal):
        _refuse_cancel(uow, account, command, found)
        return
    order, order_group = found
    late = refuse_change(order, uow.now)
    if late is not None:
        _refuse_cancel(uow, account, command, late)
        return
    end_orders(uow, [order], OrderStatus.CANCELED, order_group, {account.id: account}, "requested")


@actors.on(ReplaceOrder, queue="orders.commands")
def replace_order(command: ReplaceOrder, uow: UnitOfWork) -> None:
    """Replace what is open; a fill that came first wins, and the sender is told so."""
    account = account_store.lock_account(uow.connection, command.account_id)
    found = _order_group(uow, account, command.order_id, command.requested_at, late=RejectReason.NOT_REPLACEABLE)
    if account is None:
        return
    if isinstance(found, Refusal):
        submit.refuse_replace(uow, account, command, found)
        return
    submit.replace_order(uow, account, found[1], command)


def _locked(uow: UnitOfWork, account_id: UUID) -> Account:
    account = account_store.lock_account(uow.connection, account_id)
    if account is None:
        raise UnknownAccount(str(account_id))
    return account


def _unknown(uow: UnitOfWork, account_id: UUID, since: datetime) -> Exception:
    """An order may come before its account is open."""
    if uow.now - since < PARK_ACCOUNT:
        return TryAgainLater(f"account {account_id} is not open yet", pause_ms=PARK_PAUSE_MS)
    return UnknownAccount(str(account_id))


def _order_group(
    uow: UnitOfWork, account: Account | None, order_id: UUID, requested_at: datetime, *, late: RejectReason
) -> tuple[Order, list[Order]] | Refusal:
    """The open order and its open order_group, locked; or why nothing can be done about it: ``late`` where it has
    ended.
    """
    order_group = store.order_group_of(uow.connection, account.id, order_id) if account else None
    if account is None or order_group is None:
        if uow.now - requested_at < PARK_UNKNOWN:
            raise TryAgainLater(f"order {order_id} is not here yet", pause_ms=PARK_PAUSE_MS)
        return Refusal(RejectReason.UNKNOWN_ORDER, "the order does not exist")
    orders = store.lock_open_orders(uow.connection, [(account.id, order_group)])
    for order in orders:
        if order.id == order_id:
            return order, orders
    status = store.order(uow.connection, account.id, order_id).status
    return Refusal(late, f"the order is {status}")


def _refuse_cancel(uow: UnitOfWork, account: Account, command: CancelOrder, refusal: Refusal) -> None:
    accounts = {account.id: account}
    events = AccountEvents(uow, accounts)
    reason, message = refusal.reason, refusal.message
    events.emit(CancelRejected, account.id, order_id=command.order_id, reason=reason, message=message)
    uow.run(account_store.saving_accounts(list(accounts.values())))
