"""What happens to a message whose actor failed.

Errors that pass by themselves (the database or the broker is away) are tried again until they pass, and do
not count. Poison goes to the dead letters at once. Any other error is tried again a few times with growing pauses;
then it is a dead letter too. What can neither be sent again nor written down stays failed, so that RabbitMQ keeps
it: stock dramatiq acknowledges it and it is gone.
"""

import traceback
from random import Random
from typing import Any

import dramatiq
import structlog
from dramatiq.broker import MessageProxy
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.bus.metrics import CONSUMED, DEAD, RETRIED
from shared.bus.poison import Poison
from shared.bus.unit_of_work import ServiceContext
from shared.outage import pause_seconds
from shared.storage.errors import is_transient

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
TRIES = 6


class TryAgainLater(Exception):
    """Raised by an actor that cannot act yet; the message comes back after the pause."""

    def __init__(self, reason: str, *, pause_ms: int) -> None:
        super().__init__(reason)
        self.pause_ms = pause_ms


class RetryOrDeadLetter(dramatiq.Middleware):
    """Decides for every failed message; see the module's text."""

    def __init__(self, contexts: dict[str, ServiceContext], jitter: Random | None = None) -> None:
        """``jitter`` makes the pauses reproducible."""
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
        message.fail()  # until a retry or a row has taken its place, the message stays the broker's
        tries = int(message.options.get("retries", 0)) + 1
        if isinstance(exception, TryAgainLater):
            _send_again(broker, message, tries - 1, exception.pause_ms, exception)
        elif is_transient(exception):
            _send_again(broker, message, tries - 1, self._pause_ms(3), exception)
        elif tries < TRIES and not isinstance(exception, Poison):
            _send_again(broker, message, tries, self._pause_ms(tries), exception)
        else:
            self._bury(message, exception)

    def _pause_ms(self, tries: int) -> int:
        """Doubling with each try, in milliseconds: 200-400 after the first, at most 15,000-30,000."""
        seconds = pause_seconds(tries, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS, jitter=self.jitter)
        return int(1000 * seconds)

    def _bury(self, message: MessageProxy, exception: BaseException) -> None:
        context = self.contexts[message.queue_name.partition(".")[0]]
        grave = _grave(message, exception, context)
        try:
            with context.unit_of_work() as uow:
                uow.lock(message.message_id)
                uow.connection.execute(text(_BURY.format(schema=context.service)), grave)
                uow.release(message.message_id)
        except SQLAlchemyError as error:
            log.warning("no dead letter could be written", queue=message.queue_name, error=str(error))
            return  # stays failed, and is put back into its queue
        message.failed = False
        reason = type(exception).__name__
        log.error("dead letter", queue=grave["queue"], message_id=message.message_id, reason=reason)
        DEAD.labels(grave["queue"], _wire_name(message), reason).inc()
        _count(message, "dead")


def _send_again(broker: dramatiq.Broker, message: MessageProxy, tries: int, pause: int, why: BaseException) -> None:
    broker.enqueue(message._message.copy(options={"retries": tries}), delay=pause)  # noqa: SLF001
    message.failed = False
    RETRIED.labels(message.queue_name, _wire_name(message), type(why).__name__).inc()
    _count(message, "retried")


def _count(message: MessageProxy, outcome: str) -> None:
    CONSUMED.labels(message.queue_name, _wire_name(message), outcome).inc()


def _wire_name(message: MessageProxy) -> str:
    return str(message.actor_name).rpartition("/")[2]


_BURY = """
INSERT INTO {schema}.dead_letters (queue, message_id, actor, body, size, reason, error, died_at)
VALUES (:queue, CAST(:message_id AS uuid), :actor, :body, :size, :reason, :error, :died_at)
ON CONFLICT (queue, message_id) DO UPDATE
SET body = excluded.body, size = excluded.size, reason = excluded.reason, error = excluded.error,
    died_at = excluded.died_at
"""


def _grave(message: MessageProxy, exception: BaseException, context: ServiceContext) -> dict[str, Any]:
    queue = message.queue_name.removesuffix(".DQ")
    if isinstance(exception, Poison):
        body, size, queue = exception.body, exception.size, exception.queue or queue
    else:
        body = message._message.encode()  # noqa: SLF001 - the proxy has no call for it
        size = len(body)
    return {
        "queue": queue,
        "message_id": message.message_id,
        "actor": message.actor_name,
        "body": body,
        "size": size,
        "reason": type(exception).__name__,
        "error": "".join(traceback.format_exception(exception)),
        "died_at": context.clock(),
    }
