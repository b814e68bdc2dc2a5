"""An order is placed once for each idempotency key: a request that is repeated gets the answer of the first one."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection, Row, text

from services.gateway.http.errors import Forbidden, Invalid, RequestRefused, alpaca_error
from services.gateway.http.requests import Gateway, read
from services.gateway.streams.hub import answers_within
from services.gateway.trading import commands, order_queries, submissions
from services.gateway.trading.requests import NewOrder
from services.gateway.trading.schemas import Order
from services.gateway.trading.serializers import order_json
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderStatus, SubmitOrder
from shared.storage.keyset import Record

KEY_IS_TAKEN = "Idempotency-Key: was used for another order; send a new key with a new order"


@dataclass(frozen=True)
class Key:
    """An idempotency key of an account, and the hash of the body that was sent with it."""

    account_id: UUID
    key: str
    body_hash: bytes


class AlreadyClaimed(Exception):
    """An earlier request used the key. Its row has the answer, if there is one."""

    def __init__(self, row: Row[Any]) -> None:
        super().__init__(f"order {row.order_id} was submitted with this key")
        self.row = row


def key_of(account_id: UUID, key: str, body: NewOrder) -> Key:
    """Return the key for this body. Defaults do not count, so that a release that adds one keeps the hash."""
    return Key(account_id, key, hashlib.sha256(body.model_dump_json(exclude_defaults=True).encode()).digest())


async def place_once(gateway: Gateway, command: SubmitOrder, key: Key) -> Order:
    """Submit the order, and return it once it is accepted, or as ``pending_new`` after the timeout.

    If an earlier request used the key, its answer is returned, or awaited. Raises Invalid if the key or the client
    order id belongs to another order, and RequestRefused if the order is rejected.
    """

    def publish(uow: UnitOfWork) -> None:
        _claim(uow, key, command.order_id)
        submissions.add_submission(uow, command)

    order_id = command.order_id
    try:
        await commands.send(gateway, publish, [order_id])
    except AlreadyClaimed as earlier:
        if bytes(earlier.row.body_hash) != key.body_hash:
            raise Invalid(KEY_IS_TAKEN, field="Idempotency-Key") from None
        if earlier.row.status is not None:
            return _repeated(earlier.row)
        order_id = earlier.row.order_id
        await _wait(gateway, command.account_id, order_id)
    (row,) = await read(gateway, order_queries.orders_of, command.account_id, [order_id], nested=True)
    if row["status"] == OrderStatus.PENDING_NEW:  # the decision is the answer that is kept
        return order_json(row)
    return _repeated(await read(gateway, _keep_answer, key, row))


async def _wait(gateway: Gateway, account_id: UUID, order_id: UUID) -> None:
    """Wait for the answer to an earlier request, which may have come already."""
    with gateway.hub.waiting_for(order_id) as waiting:
        (row,) = await read(gateway, order_queries.orders_of, account_id, [order_id])
        if row["status"] == OrderStatus.PENDING_NEW:
            await answers_within(gateway.settings.answer_timeout, [waiting])


def _claim(uow: UnitOfWork, key: Key, order_id: UUID) -> None:
    """Store the key for this order. Waits for a concurrent request with the key. Raises AlreadyClaimed."""
    given = {"account_id": key.account_id, "key": key.key, "body_hash": key.body_hash}
    row = uow.connection.execute(_CLAIM, {**given, "order_id": order_id, "now": uow.now}).one()
    if row.order_id != order_id:
        raise AlreadyClaimed(row)


def _keep_answer(connection: Connection, key: Key, row: Record) -> Row[Any]:
    """Store the answer, and return that which was stored first."""
    try:
        status, answer = 200, cast("dict[str, Any]", order_json(commands.accepted(row)))
    except RequestRefused as refused:
        status, answer = refused.status, cast("dict[str, Any]", alpaca_error(refused))
    given = {"account_id": key.account_id, "key": key.key, "status": status, "answer": json.dumps(answer)}
    return connection.execute(_KEEP_ANSWER, given).one()


def _repeated(stored: Row[Any]) -> Order:
    """Return the stored order. Raises RequestRefused if the stored answer is an error."""
    if stored.status == 200:
        return cast("Order", stored.answer)
    details = {name: value for name, value in stored.answer.items() if name not in {"code", "message"}}
    refused = Forbidden if stored.status == Forbidden.status else Invalid
    raise refused(stored.answer["message"], code=stored.answer["code"], details=details)


#: The row of an earlier request stays as it is. Updating it returns it, whichever request came first.
_CLAIM = text("""
INSERT INTO gateway.idempotency_keys (account_id, key, body_hash, order_id, created_at)
VALUES (:account_id, :key, :body_hash, :order_id, :now)
ON CONFLICT (account_id, key) DO UPDATE SET key = excluded.key
RETURNING order_id, body_hash, status, answer
""")
_KEEP_ANSWER = text("""
UPDATE gateway.idempotency_keys
SET status = COALESCE(status, :status), answer = COALESCE(answer, CAST(:answer AS jsonb))
WHERE account_id = :account_id AND key = :key
RETURNING status, answer
""")
