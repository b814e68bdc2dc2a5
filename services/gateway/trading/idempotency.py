"""An order is placed once for each idempotency key: a request that is repeated gets the answer of the first one."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, Row, text

from services.gateway.http.errors import Forbidden, Invalid, RequestRefused, alpaca_error
from services.gateway.http.requests import Gateway, read
from services.gateway.streams.hub import answers_within
from services.gateway.trading import commands, order_queries, submissions
from services.gateway.trading.schemas import Order
from services.gateway.trading.serializers import order_json
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderStatus, SubmitOrder
from shared.storage.keyset import Record

KEY_IS_TAKEN = "Idempotency-Key: was used for another order; send a new key with a new order"


@dataclass(frozen=True)
class Key:
    """An idempotency key of an account, and the hash of the request that was sent with it."""

    account_id: UUID
    key: str
    body_hash: bytes


class AlreadyClaimed(Exception):
    """An earlier request used the key. Its row has the answer, if there is one."""

    def __init__(self, row: Row[Any]) -> None:
        super().__init__(f"order {row.order_id} was submitted with this key")
        self.row = row


def key_of(account_id: UUID, key: str, *request: BaseModel | str) -> Key:
    """Return the key for a request of these parts. Defaults do not count, so a release that adds one keeps the hash."""
    parts = [part if isinstance(part, str) else part.model_dump_json(exclude_defaults=True) for part in request]
    return Key(account_id, key, hashlib.sha256("\n".join(parts).encode()).digest())


async def earlier(gateway: Gateway, key: Key) -> Order | None:
    """Return or await the answer to an earlier request with this key, None if there was none.

    Raises Invalid if that request was another one, and RequestRefused if its order was rejected.
    """
    known = await read(gateway, _known, key)
    return None if known is None else await _answer_of(gateway, key, known)


async def place_once(gateway: Gateway, command: SubmitOrder, key: Key) -> Order:
    """Submit the order, and return it once it is accepted, or as ``pending_new`` after the timeout.

    If a concurrent request used the key, its answer is awaited. Raises Invalid if the key or the client order id
    belongs to another order, and RequestRefused if the order is rejected.
    """

    def publish(uow: UnitOfWork) -> None:
        _claim(uow, key, command.order_id)
        submissions.add_submission(uow, command)

    try:
        await commands.send(gateway, publish, [command.order_id], account_id=key.account_id)
    except AlreadyClaimed as claimed:
        return await _answer_of(gateway, key, claimed.row)
    return await _decided(gateway, key, command.order_id)


async def _answer_of(gateway: Gateway, key: Key, known: Row[Any]) -> Order:
    """Return the answer of the key's row, or await it. Raises as ``earlier`` does."""
    if bytes(known.body_hash) != key.body_hash:
        raise Invalid(KEY_IS_TAKEN, field="Idempotency-Key")
    if known.status is not None:
        return _repeated(known)
    await _wait(gateway, key.account_id, known.order_id)
    return await _decided(gateway, key, known.order_id)


async def _decided(gateway: Gateway, key: Key, order_id: UUID) -> Order:
    """Return the order, and keep the answer if there is a decision. Raises RequestRefused if it is a rejection."""
    (row,) = await read(gateway, order_queries.orders_of, key.account_id, [order_id], nested=True)
    if row["status"] == OrderStatus.PENDING_NEW:
        return order_json(row)
    return _repeated(await read(gateway, _keep_answer, key, row))


async def _wait(gateway: Gateway, account_id: UUID, order_id: UUID) -> None:
    """Wait for the answer to an earlier request, which may have come already."""
    with gateway.hub.waiting_for(account_id, order_id) as waiting:
        (row,) = await read(gateway, order_queries.orders_of, account_id, [order_id])
        if row["status"] == OrderStatus.PENDING_NEW:
            await answers_within(gateway.settings.answer_timeout, [waiting])


def _known(connection: Connection, key: Key) -> Row[Any] | None:
    return connection.execute(_KNOWN, {"account_id": key.account_id, "key": key.key}).first()


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


_KNOWN = text("""
SELECT order_id, body_hash, status, answer FROM gateway.idempotency_keys
WHERE account_id = :account_id AND key = :key
""")
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
