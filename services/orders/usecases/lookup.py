"""The account and the order that a command names, locked. A command may arrive before either is there, and waits."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import orders as order_store
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import CancelOrder, ReplaceOrder
from shared.contracts.reasons import RejectReason
from shared.exchange.order import Account, Order
from shared.exchange.refusal import Refusal

#: A cancel or replace may overtake its submit, and waits this long for the order.
PARK_UNKNOWN = timedelta(seconds=5)
PARK_PAUSE_MS = 250
#: An order may come before its account is open, and waits this long. Then it is dead-lettered.
PARK_ACCOUNT = timedelta(seconds=60)
#: An order may come while a split is on its way from marketdata, and waits this long. Then it is rejected.
PARK_SPLIT = timedelta(seconds=10)


class UnknownAccount(LookupError):
    """A command names an account that nobody opened."""


class ClosedAccount(LookupError):
    """A command names an account that was closed for good."""


class Target(NamedTuple):
    """An open order, and all open orders of its group."""

    order: Order
    order_group: list[Order]


def lock_account(uow: UnitOfWork, account_id: UUID) -> Account:
    """The account, locked. Raises UnknownAccount."""
    account = account_store.lock_account(uow.connection, account_id)
    if account is None:
        raise UnknownAccount(str(account_id))
    return account


def lock_open_account(uow: UnitOfWork, account_id: UUID) -> Account:
    """The account, locked. Raises UnknownAccount, and ClosedAccount."""
    account = lock_account(uow, account_id)
    if account.closed:
        raise ClosedAccount(refuse_closed(account_id).message)
    return account


def refuse_closed(account_id: UUID) -> Refusal:
    return Refusal(RejectReason.ACCOUNT_CLOSED, f"account {account_id} is closed: use another account")


def wait_for_account(uow: UnitOfWork, account_id: UUID, since: datetime) -> None:
    """Raises TryAgainLater where the command about the missing account is young, else UnknownAccount."""
    if uow.now - since < PARK_ACCOUNT:
        raise TryAgainLater(f"account {account_id} is not open yet", pause_ms=PARK_PAUSE_MS)
    raise UnknownAccount(str(account_id))


def wait_for_split(uow: UnitOfWork, symbols: Iterable[str], since: datetime) -> None:
    """Wait with a young order in these symbols, whose prices are of new shares and whose positions are of old ones.

    Raises TryAgainLater.
    """
    if uow.now - since < PARK_SPLIT:
        waiting = ", ".join(sorted(set(symbols)))
        raise TryAgainLater(f"the books wait for a split or dividend of {waiting}", pause_ms=PARK_PAUSE_MS)


def being_split(symbol: str) -> Refusal:
    return Refusal(
        RejectReason.NOT_TRADABLE, f"the books wait for a split or dividend of {symbol}: try again in a moment"
    )


def lock_target(
    uow: UnitOfWork, command: CancelOrder | ReplaceOrder, *, ended: RejectReason
) -> tuple[Account | None, Target | Refusal]:
    """The account, and the open order that the command names or why there is none: ``ended`` where it has ended.

    Raises TryAgainLater where account or order is not there yet.
    """
    account = account_store.lock_account(uow.connection, command.account_id)
    order_group = None
    if account is not None:
        order_group = order_store.order_group_of(uow.connection, account.id, command.order_id)
    if account is None or order_group is None:
        if uow.now - command.requested_at < PARK_UNKNOWN:
            raise TryAgainLater(f"order {command.order_id} is not here yet", pause_ms=PARK_PAUSE_MS)
        return account, Refusal(RejectReason.UNKNOWN_ORDER, "the order does not exist")
    orders = order_store.lock_open_orders(uow.connection, [(account.id, order_group)])
    for order in orders:
        if order.id == command.order_id:
            return account, Target(order, orders)
    status = order_store.find_order(uow.connection, account.id, command.order_id).status
    return account, Refusal(ended, f"the order is {status}")
