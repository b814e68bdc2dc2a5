"""Actors: functions that handle one kind of message from one queue, inside one transaction.

    actors = Actors()

    @actors.on(PricesUpdated, queue="orders.prices")
    def execute_on_prices(event: PricesUpdated, uow: UnitOfWork) -> None: ...

The inbox row commits with the effect, so a message that is delivered twice has its effect once. A handler with several
transactions, such as a job, is declared with ``@actors.raw``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import dramatiq
from dramatiq.middleware import CurrentMessage
from pydantic import ValidationError

from shared.bus import inbox
from shared.bus.envelope import actor_name
from shared.bus.metrics import DUPLICATES
from shared.bus.ordering import OutOfTurn, park, record_in_turn
from shared.bus.poison import InvalidBody, Poison, poison_actor
from shared.bus.retries import TryAgainLater
from shared.bus.tracing import tracing
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.base import Message, first_error
from shared.contracts.routing import QUEUES, dead_queue

M = TypeVar("M", bound=Message)
Handler = Callable[[Any, UnitOfWork], None]
RawHandler = Callable[[Any, ServiceContext], None]


@dataclass(frozen=True)
class Declared:
    """A handler, the message and queue that it is for, and options of its dramatiq actor."""

    message: type[Message]
    queue: str
    run: RawHandler
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return actor_name(self.queue, self.message.wire_name())

    def attach(self, broker: dramatiq.Broker, context: ServiceContext) -> None:
        """Declare the handler as an actor of the broker, and one that receives the poison of its queue."""

        def run(**payload: Any) -> None:
            with tracing(_current_message().options.get("traceparent")):
                try:
                    message = self.message.model_validate(payload)
                except ValidationError as error:
                    raise InvalidBody(first_error(error), _current_message().encode()) from error
                self.run(message, context)

        _declare_actor(broker, self.name, self.queue, run, **self.options)
        _declare_poison_actor(broker, self.queue)


@dataclass
class Actors:
    """The actors of one service, declared beside each other and attached to a broker when it is made."""

    declared: list[Declared] = field(default_factory=list)

    def on(self, message: type[M], *, queue: str, begins: bool = False, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a handler that runs once per message, in a transaction of its own.

        ``begins``: the handler itself calls ``uow.begin`` before anything else. Its first reads then share the round
        trip that finds out whether the message is new and in turn. For any other handler, that is found out before.
        ``options``: ``on_death`` answers for a message that became a dead letter, and ``tries`` says after how many
        tries it does, as shared.bus.retries describes.
        """

        def declare(handler: Handler) -> Handler:
            consumer = actor_name(queue, message.wire_name())

            def run_once(event: Message, context: ServiceContext) -> None:
                current = _current_message()
                try:
                    with context.unit_of_work() as uow:
                        if message.in_order:
                            record_in_turn(uow, queue, consumer, current.message_id, current.options.get("after"))
                        else:
                            inbox.record(uow, consumer, current.message_id)
                        if not begins:
                            uow.begin()
                        handler(event, uow)
                except inbox.AlreadyHandled:
                    DUPLICATES.labels(queue, message.wire_name()).inc()

            def run_in_turn(event: Message, context: ServiceContext) -> None:
                while True:
                    try:
                        run_once(event, context)
                    except OutOfTurn:
                        if not park(context, queue, _current_message()):
                            continue  # the predecessor was settled just now
                    return

            self.raw(message, queue=queue, **options)(run_in_turn if message.in_order else run_once)
            return handler

        return declare

    def raw(self, message: type[M], *, queue: str, **options: Any) -> Callable[[RawHandler], RawHandler]:
        """Declare a handler that opens its own transactions, and is idempotent by itself."""

        def declare(handler: RawHandler) -> RawHandler:
            self.declared.append(Declared(message, queue, handler, options))
            return handler

        return declare

    def attach(self, broker: dramatiq.Broker, context: ServiceContext) -> None:
        """Declare all handlers as actors of the broker."""
        for declared in self.declared:
            declared.attach(broker, context)
        _declare_poison_actor(broker, dead_queue(context.service))


def _declare_actor(broker: dramatiq.Broker, name: str, queue: str, run: Callable[..., None], **options: Any) -> None:
    declare = dramatiq.actor(
        broker=broker,
        actor_name=name,
        queue_name=queue,
        priority=-QUEUES[queue].priority if queue in QUEUES else 0,  # in dramatiq, the smallest goes first
        throws=(TryAgainLater, Poison),  # dramatiq does not log these as errors
        **options,
    )
    declare(run)


def _declare_poison_actor(broker: dramatiq.Broker, queue: str) -> None:
    def fail(*, poison: Poison) -> None:
        raise poison

    if poison_actor(queue) not in broker.actors:
        _declare_actor(broker, poison_actor(queue), queue, fail)


def current_message_id() -> str:
    """The id of the message that this thread handles. Raises RuntimeError where it handles none."""
    return str(_current_message().message_id)


def _current_message() -> "dramatiq.Message[Any]":
    message = CurrentMessage.get_current_message()
    if message is None:
        raise RuntimeError("no message is being handled on this thread")
    return message
