"""Observation without a running bus: the statements of an engine and the messages of an outbox."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import dramatiq
import pytest
from sqlalchemy import Engine, event

from services.marketdata.service import prepare
from shared.bus.unit_of_work import ServiceContext
from shared.clock import Clock, utc_now
from shared.storage import driver
from shared.storage.engine import make_engine
from tests.conftest import FakeClock
from tests.support import rows


@dataclass(frozen=True)
class Sent:
    """A message in an outbox. ``name`` is its wire name, such as ``RunJob.v1``, ``body`` has JSON values."""

    id: UUID
    name: str
    body: dict[str, Any]


def outbox(context: ServiceContext) -> list[Sent]:
    """The messages of the service's outbox, the oldest first. Without a relay they stay there."""
    found = rows(context.engine, f"SELECT body FROM {context.service}.outbox ORDER BY id")
    messages: list[dramatiq.Message[None]] = [dramatiq.Message.decode(row.body) for row in found]
    return [Sent(UUID(message.message_id), message.actor_name, message.kwargs) for message in messages]


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Record every statement that the engine executes."""
    seen: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", record)


@contextmanager
def all_statements(engine: Engine) -> Iterator[list[str]]:
    """Record every statement that the engine executes, and those that our own driver sends in a pipeline."""
    run = driver.run_prepared
    with statements(engine) as seen, pytest.MonkeyPatch.context() as patch:

        def record(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
            seen.extend(statement for statement, _ in calls)
            return run(used, prepared, calls)

        patch.setattr(driver, "run_prepared", record)
        yield seen


@contextmanager
def context_of(service: str, urls: dict[str, str], clock: Clock = utc_now) -> Iterator[ServiceContext]:
    """The context of a replica of the service, with an engine of its own."""
    engine = make_engine(urls[service], name=service)
    try:
        yield ServiceContext(service, engine, clock)
    finally:
        engine.dispose()


@contextmanager
def marketdata_at(now: datetime, urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The context of marketdata at that time, with its instruments and no prices."""
    clock.now = now
    with context_of("marketdata", urls, clock) as context:
        prepare(context)
        yield context
