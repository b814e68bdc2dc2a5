"""Commands to other services: published in one transaction, then awaited until the answer or a timeout."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import Principal
from services.gateway.http.errors import FIELD_CODE, Forbidden, Invalid, NotReady, RequestRefused
from services.gateway.http.requests import Gateway, read
from services.gateway.streams.hub import Answer, answers_within
from services.gateway.trading import order_queries, submissions
from services.gateway.trading.requests import OrderChanges
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import Command, Message
from shared.contracts.orders import OPEN_STATUSES, CancelOrder, CancelOrders, OrderStatus, SubmitOrder
from shared.contracts.reasons import RejectReason
from shared.jobs.admin import control
from shared.storage.keyset import Record

ENDED = frozenset(OrderStatus) - OPEN_STATUSES - {OrderStatus.PENDING_NEW}


#: Orders that one command cancels.
CANCEL_AT_ONCE = 1000


def rejection(reason: str, message: str, details: Mapping[str, str]) -> RequestRefused:
    """Return the error for a rejection, by the HTTP status of its reason and with the figures behind it."""
    try:
        status = RejectReason(reason).http_status
    except ValueError:  # a newer release of another service knows more reasons
        status = Invalid.status
    code = FIELD_CODE if reason == RejectReason.DUPLICATE_CLIENT_ORDER_ID else None
    refused = Forbidden if status == Forbidden.status else Invalid
    return refused(message, code=code, details=details)


async def send(
    gateway: Gateway,
    publish: Callable[[UnitOfWork], object],
    awaited: Sequence[UUID],
    *,
    account_id: UUID | None,
    within: float | None = None,
) -> list[Answer | None]:
    """Commit the commands that ``publish`` adds, and return the answer to each awaited id, None after the timeout.

    The ids are of ``account_id``, or of halts if that is None. The timeout is ``within``, or that of the settings.
    """

    def commit() -> None:
        with gateway.context.unit_of_work() as uow:
            publish(uow)

    with ExitStack() as stack:
        waiting = [stack.enter_context(gateway.hub.waiting_for(account_id, each)) for each in awaited]
        await run_in_threadpool(commit)
        answers = await answers_within(within or gateway.settings.answer_timeout, waiting)
    if any(each is not None and each.body.get("reason") == RejectReason.PROCESSING_FAILED for each in answers):
        await run_in_threadpool(_reject_dead, gateway)
    return answers


async def ask(
    gateway: Gateway,
    publish: Callable[[UnitOfWork], object],
    request_id: UUID,
    *,
    late: str,
    within: float | None = None,
) -> tuple[type[Message], Mapping[str, Any]]:
    """Commit a command, and return the class and the body of the event that answers it.

    Raises NotReady with the message ``late`` if it does not come in time.
    """
    (answer,) = await send(gateway, publish, [request_id], account_id=None, within=within)
    if answer is None:
        raise NotReady(late)
    return answer.message, answer.body


def _reject_dead(gateway: Gateway) -> None:
    """Reject at once the submissions that the orders service could not even save as rejected."""
    with gateway.context.unit_of_work() as uow:
        submissions.reject_dead(uow)


def check(answer: Answer | None) -> None:
    """Raise RequestRefused if the answer is a rejection."""
    if answer is not None and answer.refused:
        raise rejection(answer.body["reason"], answer.body["message"], answer.body.get("details", {}))


def recorded(
    command: Command, principal: Principal, action: str, subject: str, after: object, *, before: object = None
) -> Callable[[UnitOfWork], None]:
    """Return a function that publishes the command and records the operator's action, for ``send``."""

    def publish(uow: UnitOfWork) -> None:
        uow.publish(command)
        control.record_action(uow, principal.key_id, action, subject, before, after)

    return publish


async def place(gateway: Gateway, account_id: UUID, commands: Sequence[SubmitOrder]) -> list[Record]:
    """Submit orders of one account, and return their rows after the answers. Raises AlreadySubmitted."""
    if not commands:
        return []
    ids = [command.order_id for command in commands]
    await send(gateway, lambda uow: submissions.add_submission(uow, *commands), ids, account_id=account_id)
    return await read(gateway, order_queries.orders_of, account_id, ids, nested=True)


def accepted(row: Record) -> Record:
    """Return the order's row. Raises RequestRefused if the order was rejected."""
    if row["status"] == OrderStatus.REJECTED:
        raise rejection(row["reject_reason"], row["reject_message"], json.loads(row["reject_details"] or "{}"))
    return row


async def cancel(gateway: Gateway, account_id: UUID, order_id: UUID) -> None:
    """Cancel an order. Returns also if the cancel is still on the way. Raises Invalid if it is refused."""
    command = CancelOrder(account_id=account_id, order_id=order_id, requested_at=gateway.context.clock())
    (answer,) = await send(gateway, lambda uow: uow.publish(command), [order_id], account_id=account_id)
    (row,) = await read(gateway, order_queries.orders_of, account_id, [order_id])
    check_canceled(row, answer)


async def cancel_all(gateway: Gateway, account_id: UUID) -> list[tuple[Record, Answer | None]]:
    """Cancel all open orders of the account, however many, and return each row after the answer, with the answer.

    An order that the orders service has not taken yet is canceled as soon as it is there.
    """
    pending = await read(gateway, order_queries.pending_ids, account_id)
    known = await read(gateway, order_queries.open_ids, account_id)
    ids = list(dict.fromkeys([*known, *pending]))
    now = gateway.context.clock()

    def publish(uow: UnitOfWork) -> None:
        for start in range(0, len(known), CANCEL_AT_ONCE):
            some = tuple(known[start : start + CANCEL_AT_ONCE])
            uow.publish(CancelOrders(account_id=account_id, order_ids=some, requested_at=now))
        for order_id in ids[len(known) :]:
            uow.publish(CancelOrder(account_id=account_id, order_id=order_id, requested_at=now))

    if not ids:
        return []
    answers = dict(zip(ids, await send(gateway, publish, ids, account_id=account_id), strict=True))
    return [(row, answers[row["id"]]) for row in await read(gateway, order_queries.orders_of, account_id, ids)]


def check_canceled(row: Record, answer: Answer | None) -> None:
    """Raise RequestRefused if the order ended otherwise, or if its cancel was refused. A cancel may be on the way."""
    if row["status"] == OrderStatus.CANCELED:
        return
    if row["status"] in ENDED:
        raise Invalid(f'order is already in "{row["status"]}" state')
    check(answer)


async def replace(gateway: Gateway, account_id: UUID, order_id: UUID, changes: OrderChanges) -> Record:
    """Replace an order, and return the new one's row, or the old one as ``pending_replace`` after the timeout.

    Raises RequestRefused if the replacement is rejected.
    """
    new_id = uuid4()
    command = changes.command(
        account_id=account_id, order_id=order_id, new_order_id=new_id, now=gateway.context.clock()
    )
    (answer,) = await send(gateway, lambda uow: uow.publish(command), [new_id], account_id=account_id)
    check(answer)
    *_, row = await read(gateway, order_queries.orders_of, account_id, [order_id, new_id], nested=True)
    return row if row["id"] == new_id else {**replaceable(row), "shown_status": "pending_replace"}


def replaceable(row: Record) -> Record:
    """Return the order's row. Raises Invalid if the order has ended."""
    if row["status"] in ENDED:
        raise Invalid(f"order is not replaceable: it is {row['status']}")
    return row
