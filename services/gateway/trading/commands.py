"""Commands: sent from a transaction of ours, and waited for until they are answered or the time is over."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import Principal
from services.gateway.http.errors import Forbidden, Invalid, RequestRefused
from services.gateway.http.requests import Gateway, read
from services.gateway.streams.hub import Answer, answers_within
from services.gateway.trading import order_queries, submissions
from services.gateway.trading.requests import OrderChanges
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import Command
from shared.contracts.orders import OPEN_STATUSES, CancelOrder, OrderStatus, SubmitOrder
from shared.jobs.admin import control
from shared.storage.keyset import Record

ENDED = {str(status) for status in OrderStatus} - {str(status) for status in OPEN_STATUSES} - {"pending_new"}
#: Refusals that are the account's: another account, or this one at another time, could bear the same request.
ACCOUNT_REASONS = {
    "insufficient_buying_power",
    "insufficient_shares",
    "insufficient_cash",
    "trading_blocked",
    "no_exchange_rate",
    "symbol_blocked",
    "symbol_not_allowed",
    "too_many_orders",
    "order_too_large",
    "position_limit",
    "price_collar",
    "daily_loss",
    "drawdown",
}


def refusal(reason: str, message: str) -> RequestRefused:
    return (Forbidden if reason in ACCOUNT_REASONS else Invalid)(message)


async def ask(gateway: Gateway, send: Callable[[UnitOfWork], object], awaited: Sequence[UUID]) -> list[Answer | None]:
    """Commit what ``send`` publishes; what was answered about each that is awaited, None where nothing was in time."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(gateway.live.waiting_for(each)) for each in awaited]
        await run_in_threadpool(_commit, gateway, send)
        return await answers_within(gateway.settings.answer_timeout, waiting)


def _commit(gateway: Gateway, send: Callable[[UnitOfWork], object]) -> None:
    with gateway.context.unit_of_work() as uow:
        send(uow)


def noted(
    command: Command, principal: Principal, what: str, about: str, after: object, *, before: object = None
) -> Callable[[UnitOfWork], None]:
    """Send the command, and note who did."""

    def send(uow: UnitOfWork) -> None:
        uow.publish(command)
        control.record_action(uow, principal.key_id, what, about, before, after)

    return send


async def place(gateway: Gateway, account_id: UUID, commands: Sequence[SubmitOrder]) -> list[Record]:
    """Hand in orders of one account; each as it is after the answer."""
    ids = [command.order_id for command in commands]

    def send(uow: UnitOfWork) -> None:
        for command in commands:
            submissions.add_submission(uow, command)

    await ask(gateway, send, ids)
    return await read(gateway, order_queries.orders_of, account_id, ids, nested=True)


def accepted(row: Record) -> Record:
    """The order, if it was not refused."""
    if row["status"] == OrderStatus.REJECTED:
        raise refusal(row["reject_reason"], row["reject_message"])
    return row


async def cancel(gateway: Gateway, account_id: UUID, ids: Sequence[UUID]) -> list[tuple[Record, Answer | None]]:
    """Ask orders to cancel them; each as it is after the answer, and with it."""
    now = gateway.context.clock()

    def send(uow: UnitOfWork) -> None:
        for order_id in ids:
            uow.publish(CancelOrder(account_id=account_id, order_id=order_id, requested_at=now))

    answers = dict(zip(ids, await ask(gateway, send, ids), strict=True))
    return [(row, answers[row["id"]]) for row in await read(gateway, order_queries.orders_of, account_id, ids)]


async def replace(gateway: Gateway, account_id: UUID, order_id: UUID, changes: OrderChanges) -> Record:
    """The order that goes on, or the old one as ``pending_replace`` where no answer came in time."""
    new_id = uuid4()
    command = changes.command(
        account_id=account_id, order_id=order_id, new_order_id=new_id, now=gateway.context.clock()
    )
    (answer,) = await ask(gateway, lambda uow: uow.publish(command), [new_id])
    if answer is not None and answer.refused:
        raise refusal(answer.body["reason"], answer.body["message"])
    *_, row = await read(gateway, order_queries.orders_of, account_id, [order_id, new_id], nested=True)
    return row if row["id"] == new_id else {**replaceable(row), "status": "pending_replace"}


def replaceable(row: Record) -> Record:
    """The order, if it is open."""
    if row["status"] in ENDED:
        raise Invalid(f"order is not replaceable: it is {row['status']}")
    return row
