"""What component tests look at without a running bus: an engine's statements and an outbox's messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import dramatiq
from sqlalchemy import Engine, event

from services.marketdata.service import prepare
from shared.bus.unit_of_work import ServiceContext
from shared.clock import Clock, utc_now
from shared.storage.engine import make_engine
from tests.conftest import FakeClock
from tests.support import rows


@dataclass(frozen=True)
class Sent:
    """A message in an outbox: its id, its name such as ``RunJob.v1``, and its body as JSON values."""

    id: UUID
    name: str
    body: dict[str, Any]


def outbox(context: ServiceContext) -> list[Sent]:
    """The messages of the unit's outbox, oldest first; no relay takes them away while none runs."""
    found = rows(context.engine, f"SELECT body FROM {context.service}.outbox ORDER BY id")
    messages: list[dramatiq.Message[None]] = [dramatiq.Message.decode(row.body) for row in found]
    return [Sent(UUID(message.message_id), message.actor_name, message.kwargs) for message in messages]


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Every statement that the engine executes meanwhile."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def unit_of(service: str, urls: dict[str, str], clock: Clock = utc_now) -> Iterator[ServiceContext]:
    """A service's unit with an engine of its own, as each replica has one."""
    engine = make_engine(urls[service], name=service)
    try:
        yield ServiceContext(service, engine, clock)
    finally:
        engine.dispose()


@contextmanager
def marketdata_at(now: datetime, urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The service's unit at that time, with its instruments and no price yet."""
    clock.now = now
    with unit_of("marketdata", urls, clock) as context:
        prepare(context)
        yield context
