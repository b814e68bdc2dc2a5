"""Submissions: every order is a row of the gateway before its command is published, and is resent until answered."""

import json
from datetime import timedelta

import structlog
from pydantic import ValidationError
from sqlalchemy import text

from services.gateway.http.errors import FIELD_CODE, Invalid
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import SubmitOrder

log = structlog.get_logger(__name__)


class AlreadySubmitted(Invalid):
    """The client order id belongs to another order of the account, which exists or is pending."""

    def __init__(self) -> None:
        super().__init__("client_order_id must be unique", field="client_order_id", code=FIELD_CODE)


def add_submission(uow: UnitOfWork, *commands: SubmitOrder) -> None:
    """Save submissions and publish their commands in the same transaction.

    A second submission with the same client order id waits until the first has committed. Raises AlreadySubmitted if
    a client order id is taken.
    """
    for command in commands:
        if command.client_order_id != str(command.order_id):
            given = {"account_id": command.account_id, "client_order_id": command.client_order_id}
            uow.connection.execute(_LOCK_CLIENT_ID, given)
            if uow.connection.execute(_EARLIER, given).first() is not None:
                raise AlreadySubmitted
    message_ids = [uow.publish(command) for command in commands]
    uow.chain()
    previous = {message.message_id: message.previous for message in uow.outgoing}
    rows = [
        {
            "order_id": command.order_id,
            "account_id": command.account_id,
            "client_order_id": command.client_order_id,
            "message_id": message_id,
            "previous": previous[message_id],
            "command": json.dumps(command.payload()),
            "now": uow.now,
        }
        for command, message_id in zip(commands, message_ids, strict=True)
    ]
    uow.connection.execute(_ADD_SUBMISSION, rows)


def resend_unanswered(uow: UnitOfWork, older_than: timedelta) -> int:
    """Mark the submissions whose order exists as answered, resend the others, and return the number resent.

    A submission is retried forever, with delays that double. Only one that an earlier release accepted and this one
    cannot parse is given up.
    """
    uow.connection.execute(_MARK_ANSWERED, {"now": uow.now})
    count = 0
    for row in uow.connection.execute(_UNANSWERED, {"now": uow.now, "before": uow.now - older_than}).all():
        try:
            command = SubmitOrder.model_validate(row.command)
        except ValidationError as error:
            log.warning("submission cannot be resent", order_id=str(row.order_id), error=str(error))
            uow.connection.execute(_GIVE_UP, {"order_id": row.order_id, "now": uow.now})
            continue
        uow.publish(command, message_id=row.message_id, previous=row.previous)
        count += 1
    return count


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
_MARK_ANSWERED = text("""
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
