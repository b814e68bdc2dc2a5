"""Actors: functions that handle one kind of message from one queue, inside one transaction.

    actors = Actors()

    @actors.on(PricesUpdated, queue="orders.prices")
    def fill_on_prices(event: PricesUpdated, tx: Transaction) -> None: ...

The inbox row stands in the same transaction as the effect, so a message that comes twice acts once. A
handler for which that is not enough (a job with several transactions) is declared with ``@actors.raw``.
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
from shared.bus.ordering import OutOfTurn, note_in_turn, park
from shared.bus.poison import InvalidBody, Poison, poison_actor
from shared.bus.retries import TryAgainLater
from shared.bus.tracing import tracing
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.base import Message
from shared.contracts.routing import QUEUES, dead_queue

M = TypeVar("M", bound=Message)
Handler = Callable[[Any, UnitOfWork], None]
RawHandler = Callable[[Any, ServiceContext], None]


@dataclass(frozen=True)
class Declared:
    message: type[Message]
    queue: str
    run: RawHandler
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return actor_name(self.queue, self.message.wire_name())


@dataclass
class Actors:
    """The actors of one service, declared beside each other and attached to a broker when it is made."""

    declared: list[Declared] = field(default_factory=list)

    def on(self, message: type[M], *, queue: str, begins: bool = False, **options: Any) -> Callable[[Handler], Handler]:
        """Declare a handler that runs once per message, in a transaction of its own.

        ``begins``: the handler calls ``uow.begin`` itself before anything else, so that its first reads share the round
        trip that finds out whether the message is new and in turn. Any other handler starts once that is known.
        """

        def declare(handler: Handler) -> Handler:
            self.raw(message, queue=queue, **options)(_exactly_once(handler, queue, message, begins=begins))
            return handler

        return declare

    def raw(self, message: type[M], *, queue: str, **options: Any) -> Callable[[RawHandler], RawHandler]:
        """Declare a handler that opens its own transactions, and is safe to run twice by itself."""

        def declare(handler: RawHandler) -> RawHandler:
            self.declared.append(Declared(message, queue, handler, options))
            return handler

        return declare

    def attach(self, broker: dramatiq.Broker, context: ServiceContext) -> None:
        for declared in self.declared:
            _attach(declared, broker, context)
        dead = dead_queue(context.service)
        if poison_actor(dead) not in broker.actors:
            _declare(broker, poison_actor(dead), dead, _fail_with)


def _attach(declared: Declared, broker: dramatiq.Broker, context: ServiceContext) -> None:
    def run(**payload: Any) -> None:
        with tracing(_current_message().options.get("traceparent")):
            try:
                message = declared.message.model_validate(payload)
            except ValidationError as error:
                raise InvalidBody(str(error), _current_message().encode()) from error
            declared.run(message, context)

    _declare(broker, declared.name, declared.queue, run, **declared.options)
    if poison_actor(declared.queue) not in broker.actors:
        _declare(broker, poison_actor(declared.queue), declared.queue, _fail_with)


def _declare(broker: dramatiq.Broker, name: str, queue: str, run: Callable[..., None], **options: Any) -> None:
    declare = dramatiq.actor(
        broker=broker,
        actor_name=name,
        queue_name=queue,
        priority=-QUEUES[queue].priority if queue in QUEUES else 0,  # dramatiq's smallest goes first
        throws=(TryAgainLater, Poison),  # answers and what is told as a dead letter are not logged as errors
        **options,
    )
    declare(run)


def _fail_with(*, poison: Poison) -> None:
    raise poison


def _exactly_once(handler: Handler, queue: str, message: type[Message], *, begins: bool) -> RawHandler:
    consumer = actor_name(queue, message.wire_name())

    def run(event: Message, context: ServiceContext) -> None:
        current = _current_message()
        try:
            with context.unit_of_work() as uow:
                if message.in_order:
                    note_in_turn(uow, queue, consumer, current.message_id, current.options.get("after"))
                else:
                    inbox.note(uow, consumer, current.message_id)
                if not begins:
                    uow.begin()
                handler(event, uow)
        except inbox.AlreadyHandled:
            DUPLICATES.labels(queue, message.wire_name()).inc()

    def run_in_turn(event: Message, context: ServiceContext) -> None:
        while True:
            try:
                run(event, context)
            except OutOfTurn:
                if not park(context, queue, _current_message()):
                    continue  # the one before was settled just now
            return

    return run_in_turn if message.in_order else run


def current_message_id() -> str:
    return str(_current_message().message_id)


def _current_message() -> "dramatiq.Message[Any]":
    message = CurrentMessage.get_current_message()
    if message is None:
        raise RuntimeError("no message is being handled on this thread")
    return message
