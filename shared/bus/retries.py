"""Retry a failed message, or dead-letter it.

A transient error (the database or the broker is unavailable) is retried until it passes, and does not count as a try.
Poison is dead-lettered at once, and so are values that the database refuses. Any other error is retried with growing
pauses, and dead-lettered after TRIES, or after the actor's ``tries`` where a client waits for its answer. A message
that can be neither retried nor dead-lettered stays failed, so that RabbitMQ keeps it: stock dramatiq acknowledges such
a message and loses it.

An actor's ``on_death`` answers for a command that died, in the transaction that writes the dead letter. The command
then counts as handled: its sender was told that it had no effect, so another copy or a requeue of it has none.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import dramatiq
import psycopg
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.errors import ActorNotFound, DecodeError
from sqlalchemy import text
from sqlalchemy.exc import DataError

from shared.bus import inbox
from shared.bus.envelope import actor_name
from shared.bus.metrics import CONSUMED, DEAD, RETRIED
from shared.bus.poison import SHOWN, GivenUp, InvalidBody, Poison
from shared.bus.tracing import tracing
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.outage import first_line, pause_seconds
from shared.storage.errors import DATABASE_ERRORS, is_transient
from shared.tracebacks import shortened, traceback_of, without_secrets

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
TRIES = 6
#: Characters of an error in a log line, and of its traceback there. The dead letter keeps more of it.
LOGGED_ERROR, LOGGED_TRACEBACK = 500, 4_000

#: Answers for a dead command, given its body as JSON values, which need not be as agreed.
OnDeath = Callable[[dict[str, Any], UnitOfWork], None]


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
        return {"throws", "on_death", "tries"}

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
        with tracing(message.options.get("traceparent")):
            self._decide(broker, message, exception)

    def _decide(self, broker: dramatiq.Broker, message: MessageProxy, exception: BaseException) -> None:
        tries = int(message.options.get("retries", 0)) + 1
        most = min(TRIES, _option(broker, message.actor_name, "tries") or TRIES)
        if isinstance(exception, TryAgainLater):
            _retry(broker, message, tries - 1, exception.pause_ms, exception)
        elif is_transient(exception):
            _retry(broker, message, tries - 1, self._pause_ms(3), exception)
        elif tries < most and not isinstance(exception, (Poison, DataError, psycopg.DataError)):
            _retry(broker, message, tries, self._pause_ms(tries), exception)
        else:
            self._dead_letter(broker, message, exception)

    def _pause_ms(self, tries: int) -> int:
        """Milliseconds that double with each try: 200 to 400 after the first, at most 15,000 to 30,000."""
        seconds = pause_seconds(tries, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS, jitter=self.jitter)
        return int(1000 * seconds)

    def _dead_letter(self, broker: dramatiq.Broker, message: MessageProxy, exception: BaseException) -> None:
        """Write the dead letter, answer its sender, and release the messages that wait for it, in one transaction."""
        queue, reason = message.queue_name.removesuffix(".DQ"), type(exception).__name__
        if isinstance(exception, Poison):
            queue, body, size = exception.queue or queue, exception.body, exception.size
        else:
            body = message._message.encode()  # noqa: SLF001 - the proxy does not offer it
            size = len(body)
        values = {
            "queue": shortened(queue, SHOWN),
            "message_id": message.message_id,
            "actor": shortened(message.actor_name, SHOWN),
            "body": body,
            "size": size,
            "reason": shortened(reason, SHOWN),
            "error": without_secrets(traceback_of(exception)),
        }
        context = self.contexts[message.queue_name.partition(".")[0]]
        try:
            with context.unit_of_work() as uow:
                uow.lock(message.message_id)
                uow.connection.execute(text(_DEAD_LETTER.format(schema=context.service)), {**values, "now": uow.now})
                if not isinstance(exception, Poison) or isinstance(exception, (InvalidBody, GivenUp)):
                    _answer(broker, uow, queue, message.message_id, body)
                uow.release(message.message_id)
        except DATABASE_ERRORS as error:
            log.warning("a dead letter could not be written", queue=message.queue_name, error=first_line(error))
            return  # the message stays failed, and is requeued
        message.failed = False
        log.error(
            "dead letter",
            queue=queue,
            message_id=message.message_id,
            reason=reason,
            error=first_line(exception)[:LOGGED_ERROR],
            exception=traceback_of(exception, LOGGED_TRACEBACK),
        )
        DEAD.labels(queue, _wire_name(message), reason).inc()
        _count(message, "dead")


def _answer(broker: dramatiq.Broker, uow: UnitOfWork, queue: str, message_id: str, body: bytes) -> None:
    """Let the actor answer for its dead command, unless it handled the command after all.

    The dead letter stays where that fails. Raises a transient error of the database, so that both are tried again.
    """
    try:
        command: dramatiq.Message[Any] = dramatiq.Message.decode(body)
        consumer, payload = actor_name(queue, command.actor_name), dict(command.kwargs)
    except (DecodeError, AttributeError, TypeError, ValueError):
        return
    on_death: OnDeath | None = _option(broker, consumer, "on_death")
    if on_death is None:
        return
    try:
        with uow.part() as part:
            (recorded,) = part.run(inbox.recording(part, consumer, message_id))
            if recorded:
                on_death(payload, part)
    except Exception as error:
        if is_transient(error):
            raise
        log.warning("no answer for a dead letter", queue=queue, message_id=message_id, error=first_line(error))


def _option(broker: dramatiq.Broker, actor: str, name: str) -> Any:
    """An option of the actor, None where the broker has no such actor, or the actor no such option."""
    try:
        return broker.get_actor(actor).options.get(name)
    except ActorNotFound:
        return None


def _retry(broker: dramatiq.Broker, message: MessageProxy, tries: int, pause: int, why: BaseException) -> None:
    broker.enqueue(message._message.copy(options={"retries": tries}), delay=pause)  # noqa: SLF001
    message.failed = False
    say = log.debug if isinstance(why, TryAgainLater) or is_transient(why) else log.info
    error = f"{type(why).__name__}: {first_line(why)}"[:LOGGED_ERROR]
    say("message is tried again", queue=message.queue_name, message_id=message.message_id, tries=tries, error=error)
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
