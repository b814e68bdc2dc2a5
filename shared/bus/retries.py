"""Retry a failed message, or dead-letter it.

A transient error (the database or the broker is unavailable) is retried until it passes, and does not count as a try.
Poison is dead-lettered at once. Any other error is retried with growing pauses, and dead-lettered after TRIES. A
message that can be neither retried nor dead-lettered stays failed, so that RabbitMQ keeps it: stock dramatiq
acknowledges such a message and loses it.
"""

import traceback
from random import Random
from typing import Any

import dramatiq
import structlog
from dramatiq.broker import MessageProxy
from sqlalchemy import text

from shared.bus.metrics import CONSUMED, DEAD, RETRIED
from shared.bus.poison import Poison
from shared.bus.unit_of_work import ServiceContext
from shared.outage import pause_seconds
from shared.storage.errors import DATABASE_ERRORS, is_transient

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
TRIES = 6
#: The part of an error that a dead letter keeps.
KEPT_CHARACTERS = 20_000


class TryAgainLater(Exception):
    """Raised by an actor that cannot act yet. The message is delivered again after ``pause_ms``."""

    def __init__(self, reason: str, *, pause_ms: int) -> None:
        super().__init__(reason)
        self.pause_ms = pause_ms


class RetryOrDeadLetter(dramatiq.Middleware):
    """The one decision about a failed message, as the module describes it."""

    def __init__(self, contexts: dict[str, ServiceContext], jitter: Random | None = None) -> None:
        """``contexts`` by service. ``jitter`` makes the pauses reproducible."""
        self.contexts = contexts
        self.jitter = jitter

    @property
    def actor_options(self) -> set[str]:
        return {"throws"}

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 - dramatiq's signature
        exception: BaseException | None = None,
    ) -> None:
        if exception is None:
            _count(message, "done")
            return
        message.fail()  # the message stays the broker's until a retry or a dead letter replaces it
        tries = int(message.options.get("retries", 0)) + 1
        if isinstance(exception, TryAgainLater):
            _retry(broker, message, tries - 1, exception.pause_ms, exception)
        elif is_transient(exception):
            _retry(broker, message, tries - 1, self._pause_ms(3), exception)
        elif tries < TRIES and not isinstance(exception, Poison):
            _retry(broker, message, tries, self._pause_ms(tries), exception)
        else:
            self._dead_letter(message, exception)

    def _pause_ms(self, tries: int) -> int:
        """Milliseconds that double with each try: 200 to 400 after the first, at most 15,000 to 30,000."""
        seconds = pause_seconds(tries, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS, jitter=self.jitter)
        return int(1000 * seconds)

    def _dead_letter(self, message: MessageProxy, exception: BaseException) -> None:
        """Write the dead letter and release the messages that wait for this one, in one transaction."""
        queue, reason = message.queue_name.removesuffix(".DQ"), type(exception).__name__
        if isinstance(exception, Poison):
            queue, body, size = exception.queue or queue, exception.body, exception.size
        else:
            body = message._message.encode()  # noqa: SLF001 - the proxy does not offer it
            size = len(body)
        values = {
            "queue": queue,
            "message_id": message.message_id,
            "actor": message.actor_name,
            "body": body,
            "size": size,
            "reason": reason,
            "error": storable("".join(traceback.format_exception(exception))),
        }
        context = self.contexts[message.queue_name.partition(".")[0]]
        try:
            with context.unit_of_work() as uow:
                uow.lock(message.message_id)
                uow.connection.execute(text(_DEAD_LETTER.format(schema=context.service)), {**values, "now": uow.now})
                uow.release(message.message_id)
        except DATABASE_ERRORS as error:
            log.warning("a dead letter could not be written", queue=message.queue_name, error=str(error))
            return  # the message stays failed, and is requeued
        message.failed = False
        log.error("dead letter", queue=queue, message_id=message.message_id, reason=reason)
        DEAD.labels(queue, _wire_name(message), reason).inc()
        _count(message, "dead")


def storable(error: str) -> str:
    """The error as PostgreSQL can store it, its beginning and its end where it is long."""
    text = error.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if len(text) <= KEPT_CHARACTERS:
        return text
    half = KEPT_CHARACTERS // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"


def _retry(broker: dramatiq.Broker, message: MessageProxy, tries: int, pause: int, why: BaseException) -> None:
    broker.enqueue(message._message.copy(options={"retries": tries}), delay=pause)  # noqa: SLF001
    message.failed = False
    RETRIED.labels(message.queue_name, _wire_name(message), type(why).__name__).inc()
    _count(message, "retried")


def _count(message: MessageProxy, outcome: str) -> None:
    CONSUMED.labels(message.queue_name, _wire_name(message), outcome).inc()


def _wire_name(message: MessageProxy) -> str:
    return str(message.actor_name).rpartition("/")[2]


_DEAD_LETTER = """
INSERT INTO {schema}.dead_letters (queue, message_id, actor, body, size, reason, error, died_at)
VALUES (:queue, CAST(:message_id AS uuid), :actor, :body, :size, :reason, :error, :now)
ON CONFLICT (queue, message_id) DO UPDATE
SET body = excluded.body, size = excluded.size, reason = excluded.reason, error = excluded.error,
    died_at = excluded.died_at
"""
