"""The inbox: the ids of handled messages, so that a message that is delivered twice has its effect once."""

from shared.bus.unit_of_work import UnitOfWork
from shared.storage.driver import Call, Rows


class AlreadyHandled(Exception):
    """This consumer has handled the message: its effect is in the database."""


def record(uow: UnitOfWork, consumer: str, message_id: str) -> None:
    """Have ``uow.begin`` record the message. It raises AlreadyHandled where the message was recorded before."""
    uow.guard([recording(uow, consumer, message_id)], lambda answers: check_new(answers[0]))


def recording(uow: UnitOfWork, consumer: str, message_id: str) -> Call:
    """The statement that records the message. It returns no row where the message was recorded before."""
    values = {"consumer": consumer, "message_id": message_id, "now": uow.now}
    return _RECORD.format(schema=uow.schema), values


def check_new(recorded: Rows) -> None:
    """Raises AlreadyHandled where the statement of ``recording`` returned no row."""
    if not recorded:
        raise AlreadyHandled


_RECORD = """
INSERT INTO {schema}.inbox (consumer, message_id, processed_at)
VALUES (%(consumer)s, %(message_id)s, %(now)s) ON CONFLICT DO NOTHING RETURNING message_id
"""
