"""A command that no try could handle is answered: its sender learns that it had no effect, and what to do.

Each function is given the body of the command, which need not be as agreed. Raises UnknownAccount.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from services.orders.persistence.accounts import saving_accounts
from services.orders.persistence.orders import adding_orders, incoming, named_orders
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.lookup import lock_account
from shared.bus import tracing
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import CashRefused, OfAccount
from shared.contracts.orders import CancelRejected, NewOrder, OrderRejected, ReplaceRejected
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import refused
from shared.exchange.refusal import Refusal
from shared.storage.errors import DATABASE_ERRORS, is_transient

_AGAIN = "try again, and ask the operator if it fails again"


def reject_order(command: dict[str, Any], uow: UnitOfWork) -> None:
    reject_orders({**command, "orders": [command]}, uow)


def reject_orders(command: dict[str, Any], uow: UnitOfWork) -> None:
    """Save the orders as rejected. If they cannot be read or saved, only tell of it, and the gateway shows it."""
    refusal = Refusal(RejectReason.PROCESSING_FAILED, f"the order could not be processed and was not placed: {_AGAIN}")
    try:
        with uow.part() as part:
            _save_rejected(part, command, [NewOrder.model_validate(order) for order in command["orders"]], refusal)
    except (ValidationError, *DATABASE_ERRORS) as error:
        if is_transient(error):
            raise
        told = [{"order_id": order["order_id"]} for order in command["orders"]]
        _tell(uow, command, OrderRejected, told, refusal.message)


def reject_cancel(command: dict[str, Any], uow: UnitOfWork) -> None:
    ids = command["order_ids"] if "order_ids" in command else [command["order_id"]]
    message = f"the cancel could not be processed, and the order is as it was: {_AGAIN}"
    _tell(uow, command, CancelRejected, [{"order_id": order_id} for order_id in ids], message)


def reject_replace(command: dict[str, Any], uow: UnitOfWork) -> None:
    ids = {"order_id": command["order_id"], "new_order_id": command["new_order_id"]}
    message = f"the change could not be processed, and the order is as it was: {_AGAIN}"
    _tell(uow, command, ReplaceRejected, [ids], message)


def refuse_cash(command: dict[str, Any], uow: UnitOfWork) -> None:
    message = f"the transfer could not be processed and was not booked: {_AGAIN}"
    _tell(uow, command, CashRefused, [{"transfer_id": command["transfer_id"]}], message)


def refuse_reset(command: dict[str, Any], uow: UnitOfWork) -> None:
    """Refuse the cash that the account would begin again with."""
    message = f"the reset could not be processed, and the account is as it was: {_AGAIN}"
    _tell(uow, command, CashRefused, [{"transfer_id": command["reset_id"]}], message)


def _save_rejected(uow: UnitOfWork, command: dict[str, Any], orders: Sequence[NewOrder], refusal: Refusal) -> None:
    account = lock_account(uow, UUID(command["account_id"]))
    accounts = {account.id: account}
    events = AccountEvents(uow, accounts)
    known = named_orders(uow.connection, account.id, [order.order_id for order in orders])
    rows = []
    for new in {order.order_id: order for order in orders if order.order_id not in known}.values():
        order = refused(new, account, account.currency, uow.now, tracing.current())
        rows.append(incoming(order, account, new.client_order_id, new.submitted_at, uow.now, refusal=refusal))
        events.rejected(order, refusal)
    if rows:
        uow.run(adding_orders(rows), saving_accounts([accounts[account.id]]))


def _tell(
    uow: UnitOfWork, command: dict[str, Any], event: type[OfAccount], subjects: Sequence[dict[str, Any]], message: str
) -> None:
    account = lock_account(uow, UUID(command["account_id"]))
    accounts = {account.id: account}
    events = AccountEvents(uow, accounts)
    for subject in subjects:
        events.emit(event, account.id, **subject, reason=RejectReason.PROCESSING_FAILED, message=message)
    uow.run(saving_accounts([accounts[account.id]]))
