"""The inbox: which messages have had their effect, so that one that comes twice acts once."""

from shared.bus.unit_of_work import UnitOfWork
from shared.storage.driver import Call, Rows


class AlreadyHandled(Exception):
    """The effect of this message is in the database."""


def note(uow: UnitOfWork, consumer: str, message_id: str) -> None:
    """Note the message with the first round trip, which raises AlreadyHandled where that was done before."""
    uow.handle_message([noting(uow, consumer, message_id)], lambda answers: check_new(answers[0]))


def noting(uow: UnitOfWork, consumer: str, message_id: str) -> Call:
    values = {"consumer": consumer, "message_id": message_id, "now": uow.now}
    return _NOTE.format(schema=uow.schema), values


def check_new(noted: Rows) -> None:
    if not noted:
        raise AlreadyHandled


_NOTE = """
INSERT INTO {schema}.inbox (consumer, message_id, processed_at)
VALUES (%(consumer)s, %(message_id)s, %(now)s) ON CONFLICT DO NOTHING RETURNING message_id
"""
