"""The submissions that the gateway keeps itself, and what it reads of marketdata's views."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection, Row, text

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderTerms, SubmitOrder
from shared.storage.keyset import Record, records

log = structlog.get_logger(__name__)


class AlreadySubmitted(Exception):
    """The client order id stands for another order, which is there or on its way."""

    def __init__(self, order_id: UUID) -> None:
        super().__init__(f"the order {order_id} was handed in under that client_order_id")
        self.order_id = order_id


def instrument_exists(connection: Connection, symbol: str) -> bool:
    return connection.execute(_INSTRUMENT, {"symbol": symbol}).first() is not None


def prices(connection: Connection) -> list[Record]:
    return records(connection, _PRICES)


def market_is_open(connection: Connection, market: str, now: datetime) -> Record | None:
    """Whether the market is open, and the sessions' next opening and close (None: open at all hours)."""
    return next(iter(records(connection, _CLOCK, market=market, now=now)), None)


def terms(connection: Connection, order_id: UUID) -> OrderTerms | None:
    """What was handed in under this id; None where it was not here, or so long ago that it is not kept."""
    command = connection.execute(_TERMS, {"id": order_id}).scalar_one_or_none()
    return None if command is None else OrderTerms.model_validate(command)


def add_submission(uow: UnitOfWork, command: SubmitOrder) -> None:
    """Keep the order's row before anything is sent, and send it from the outbox of this transaction.

    Raises AlreadySubmitted.
    """
    if command.client_order_id != str(command.order_id):
        _refuse_repetition(uow, command)
    message_id = uow.publish(command)
    previous = uow.chain()
    uow.connection.execute(
        _ADD_SUBMISSION,
        {
            "order_id": command.order_id,
            "account_id": command.account_id,
            "client_order_id": command.client_order_id,
            "message_id": message_id,
            "previous": previous,
            "command": json.dumps(command.payload()),
            "now": uow.now,
        },
    )


def _refuse_repetition(uow: UnitOfWork, command: SubmitOrder) -> None:
    """Of two at once the second looks when the first has committed."""
    given = {"account_id": command.account_id, "client_order_id": command.client_order_id}
    uow.connection.execute(_LOCK_CLIENT_ID, given)
    earlier = uow.connection.execute(_EARLIER, given).scalar()
    if earlier is not None:
        raise AlreadySubmitted(earlier)


def resend_unanswered(uow: UnitOfWork, older_than: timedelta) -> int:
    """Note which submissions orders knows by now, and send the others again; the number sent.

    None is given up: the pause before each time is as long as all before it together, so that it doubles.
    """
    uow.connection.execute(_NOTE_ANSWERED, {"now": uow.now})
    rows = uow.connection.execute(_UNANSWERED, {"now": uow.now, "before": uow.now - older_than}).all()
    return sum(_sent_again(uow, row) for row in rows)


def _sent_again(uow: UnitOfWork, row: Row[Any]) -> bool:
    """False for what an earlier release took and this one would refuse: nobody waits for its answer any more."""
    try:
        command = SubmitOrder.model_validate(row.command)
    except ValidationError as error:
        log.warning("a submission cannot be sent again", order_id=str(row.order_id), error=str(error))
        uow.connection.execute(_GIVE_UP, {"order_id": row.order_id, "now": uow.now})
        return False
    uow.publish(command, message_id=row.message_id, previous=row.previous)
    return True


_INSTRUMENT = text("SELECT 1 FROM marketdata.instruments_v1 WHERE symbol = :symbol")
_PRICES = text("""
SELECT symbol, bid, ask, bid_size, ask_size, last, open, high, low, last AS close, volume, quoted_at, sequence,
       provider
FROM marketdata.instruments_v1 WHERE last IS NOT NULL ORDER BY symbol
""")
_CLOCK = text("""
SELECT EXISTS (SELECT FROM marketdata.sessions_v1 WHERE market = :market AND open_at <= :now AND close_at > :now)
         AS is_open,
       (SELECT min(open_at) FROM marketdata.sessions_v1
        WHERE market = :market AND open_at > :now AND isfinite(open_at)) AS next_open,
       (SELECT min(close_at) FROM marketdata.sessions_v1
        WHERE market = :market AND close_at > :now AND isfinite(close_at)) AS next_close
""")
_TERMS = text("SELECT command FROM gateway.submissions WHERE order_id = :id")
_LOCK_CLIENT_ID = text(
    "SELECT pg_advisory_xact_lock(hashtextextended(CAST(:account_id AS text) || '/' || :client_order_id, 0))"
)
_EARLIER = text("""
SELECT o.id FROM orders.orders_v1 o
WHERE o.account_id = :account_id AND o.client_order_id = :client_order_id AND o.status <> 'rejected'
UNION ALL
SELECT s.order_id FROM gateway.submissions s
WHERE s.account_id = :account_id AND s.client_order_id = :client_order_id AND s.answered_at IS NULL
  AND NOT EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = s.account_id AND o.id = s.order_id)
LIMIT 1
""")
_ADD_SUBMISSION = text("""
INSERT INTO gateway.submissions
  (order_id, account_id, client_order_id, message_id, previous, command, submitted_at, sent_at)
VALUES (:order_id, :account_id, :client_order_id, :message_id, :previous, CAST(:command AS jsonb), :now, :now)
""")
_NOTE_ANSWERED = text("""
UPDATE gateway.submissions s SET answered_at = :now
WHERE s.answered_at IS NULL
  AND EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = s.account_id AND o.id = s.order_id)
""")
_UNANSWERED = text("""
UPDATE gateway.submissions SET sent_at = :now
WHERE answered_at IS NULL AND sent_at < :before AND CAST(:now AS timestamptz) - sent_at >= sent_at - submitted_at
RETURNING order_id, message_id, previous, command
""")
_GIVE_UP = text("UPDATE gateway.submissions SET answered_at = :now WHERE order_id = :order_id")
