"""What happens to a message whose actor failed.

Errors that pass by themselves (the database or the broker is away) are tried again until they pass, and do
not count. Any other error is tried again a few times with growing pauses; then the message goes to the dead
letters table with its error. A retry that cannot be sent leaves the message failed, so that RabbitMQ keeps
it: stock dramatiq acknowledges it and it is gone.
"""

import random
import traceback
from typing import Any

import dramatiq
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.bus.transaction import Unit
from shared.storage.errors import is_transient

FIRST_PAUSE_MS = 200
LONGEST_PAUSE_MS = 30_000
TRIES = 6


class TryAgainLater(Exception):
    """Raised by an actor that cannot act yet; the message comes back after the pause."""

    def __init__(self, reason: str, *, pause_ms: int) -> None:
        super().__init__(reason)
        self.pause_ms = pause_ms


class RetryOrBury(dramatiq.Middleware):
    """Decides for every failed message; see the module's text."""

    def __init__(self, units: dict[str, Unit]) -> None:
        self.units = units

    @property
    def actor_options(self) -> set[str]:
        return {"throws"}

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.broker.MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 - dramatiq's signature
        exception: BaseException | None = None,
    ) -> None:
        if exception is None:
            return
        message.fail()  # until a retry or a row has taken its place, the message stays the broker's
        tries = int(message.options.get("retries", 0)) + 1
        if isinstance(exception, TryAgainLater):
            _send_again(broker, message, tries - 1, exception.pause_ms)
        elif is_transient(exception):
            _send_again(broker, message, tries - 1, pause_ms(3))
        elif tries < TRIES:
            _send_again(broker, message, tries, pause_ms(tries))
        else:
            self._bury(message, exception)

    def _bury(self, message: dramatiq.broker.MessageProxy, exception: BaseException) -> None:
        unit = self.units[message.queue_name.partition(".")[0]]
        try:
            with unit.engine.begin() as connection:
                connection.execute(text(_BURY.format(schema=unit.service)), _grave(message, exception, unit))
        except SQLAlchemyError:
            return  # stays failed: the broker's own dead-letter queue keeps it
        message.failed = False


def pause_ms(tries: int) -> int:
    """Doubling with each try, in milliseconds: 200-400 after the first, at most 15,000-30,000."""
    longest: int = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2**tries)
    return random.randint(longest // 2, longest)  # noqa: S311 - jitter, not a secret


def _send_again(broker: dramatiq.Broker, message: dramatiq.broker.MessageProxy, tries: int, pause: int) -> None:
    broker.enqueue(message._message.copy(options={"retries": tries}), delay=pause)  # noqa: SLF001
    message.failed = False


_BURY = """
INSERT INTO {schema}.dead_letters (queue, message_id, actor, body, reason, error, died_at)
VALUES (:queue, CAST(:message_id AS uuid), :actor, :body, :reason, :error, :died_at)
ON CONFLICT (queue, message_id)
DO UPDATE SET reason = excluded.reason, error = excluded.error, died_at = excluded.died_at
"""


def _grave(message: dramatiq.broker.MessageProxy, exception: BaseException, unit: Unit) -> dict[str, object]:
    return {
        "queue": message.queue_name,
        "message_id": message.message_id,
        "actor": message.actor_name,
        "body": message._message.encode(),  # noqa: SLF001 - the proxy has no call for it
        "reason": type(exception).__name__,
        "error": "".join(traceback.format_exception(exception)),
        "died_at": unit.clock(),
    }
