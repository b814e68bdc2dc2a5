"""Submissions: every order is a row of the gateway before its command is published, and is resent until answered."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import Row, text

from services.gateway.http.errors import FIELD_CODE, Invalid
from shared.bus import tracing
from shared.bus.dead_letters import discard_dead_letters
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import first_error
from shared.contracts.orders import SUBMISSION_LASTS, SubmitOrder
from shared.contracts.reasons import RejectReason

log = structlog.get_logger(__name__)

#: The clocks of two services may differ by so much.
CLOCKS_DIFFER = timedelta(minutes=5)
FAILED = (
    RejectReason.PROCESSING_FAILED,
    "the order could not be processed and was not placed: try again, and ask the operator if it fails again",
)
TOO_LATE = (
    RejectReason.SUBMITTED_TOO_LONG_AGO,
    f"the order waited for {SUBMISSION_LASTS // timedelta(hours=1)} hours and was not placed: submit it again",
)


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
            "command": json.dumps({**command.payload(), "trace": tracing.current()}),
            "now": uow.now,
        }
        for command, message_id in zip(commands, message_ids, strict=True)
    ]
    uow.connection.execute(_ADD_SUBMISSION, rows)


def resend_unanswered(uow: UnitOfWork, older_than: timedelta) -> int:
    """Mark the submissions whose order exists as answered, end those without hope, resend others, and count these.

    A submission is resent with delays that double, unless its message waits in the outbox. It is rejected once its
    command is a dead letter, or after SUBMISSION_LASTS: the orders service takes no older order either, whatever copy
    of the command still comes.
    """
    uow.connection.execute(_MARK_ANSWERED, {"now": uow.now})
    reject_dead(uow)
    given = {"now": uow.now, "before": uow.now - SUBMISSION_LASTS - CLOCKS_DIFFER, **_reason(TOO_LATE)}
    _log_rejected(uow.connection.execute(_REJECT_OLD, given).all())
    count = 0
    for row in uow.connection.execute(_UNANSWERED, {"now": uow.now, "before": uow.now - older_than}).all():
        try:
            command = SubmitOrder.model_validate(row.command)
        except ValidationError as error:
            log.warning("submission cannot be resent", order_id=str(row.order_id), error=first_error(error))
            given = {"order_id": row.order_id, "now": uow.now, **_reason(FAILED)}
            _log_rejected(uow.connection.execute(_REJECT, given).all())
            continue
        with tracing.tracing(row.command.get("trace")):
            uow.publish(command, message_id=row.message_id, previous=row.previous)
        count += 1
    return count


def reject_dead(uow: UnitOfWork) -> None:
    """Reject the submissions whose command is a dead letter and no order, and have the dead letters discarded.

    A dead letter of a rejected submission must not be requeued: its client has been told that the order is not placed.
    """
    rejected = uow.connection.execute(_REJECT_DEAD, {"now": uow.now, **_reason(FAILED)}).all()
    _log_rejected(rejected)
    if rejected:
        discard_dead_letters(uow, "orders", [row.letter for row in rejected], who="gateway")


def _reason(refusal: tuple[RejectReason, str]) -> dict[str, str]:
    return {"reason": refusal[0].value, "message": refusal[1]}


def _log_rejected(rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        with tracing.tracing(row.command.get("trace")):
            log.warning("submission rejected", order_id=str(row.order_id), reason=row.reject_reason)


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
#: By index for each submission that waits.
_REJECT_DEAD = text("""
UPDATE gateway.submissions s
SET answered_at = :now, rejected_at = :now, reject_reason = :reason, reject_message = :message
FROM gateway.submissions w CROSS JOIN LATERAL (
  SELECT id FROM orders.dead_letters_v1 d WHERE d.message_id = w.message_id AND d.queue = 'orders.commands' LIMIT 1
) d
WHERE w.answered_at IS NULL AND s.order_id = w.order_id AND s.answered_at IS NULL
  AND NOT EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = w.account_id AND o.id = w.order_id)
RETURNING s.order_id, s.command, s.reject_reason, d.id AS letter
""")
_REJECT_OLD = text("""
UPDATE gateway.submissions
SET answered_at = :now, rejected_at = :now, reject_reason = :reason, reject_message = :message
WHERE answered_at IS NULL AND submitted_at < :before
RETURNING order_id, command, reject_reason
""")
_REJECT = text("""
UPDATE gateway.submissions
SET answered_at = :now, rejected_at = :now, reject_reason = :reason, reject_message = :message
WHERE order_id = :order_id
RETURNING order_id, command, reject_reason
""")
#: At most so many at once, the longest waiting first.
_UNANSWERED = text("""
UPDATE gateway.submissions SET sent_at = :now
WHERE order_id IN (
  SELECT s.order_id FROM gateway.submissions s
  WHERE s.answered_at IS NULL AND s.sent_at < :before
    AND CAST(:now AS timestamptz) - s.sent_at >= s.sent_at - s.submitted_at
    AND NOT EXISTS (SELECT FROM gateway.outbox o WHERE o.message_id = s.message_id)
  ORDER BY s.sent_at LIMIT 1000 FOR UPDATE OF s SKIP LOCKED)
RETURNING order_id, message_id, previous, command
""")
