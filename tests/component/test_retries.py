"""A message that can be neither handled nor dead-lettered stays with the broker."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.broker import MessageProxy

from shared.bus.inprocess import InProcessBroker
from shared.bus.poison import Undecodable
from shared.bus.retries import RetryOrDeadLetter
from shared.bus.unit_of_work import ServiceContext
from shared.storage.engine import SESSION
from shared.tracebacks import LONGEST
from tests.component.watching import context_of
from tests.servers.proxy import proxy_to
from tests.support import value


@contextmanager
def cut_off(urls: dict[str, str], _message_id: str) -> Iterator[ServiceContext]:
    """The pooled connection is dead, and was used too recently to be tested."""
    with proxy_to(urls["orders"]) as proxy, context_of("orders", {"orders": proxy.through(urls["orders"])}) as context:
        assert context.database_answers()
        proxy.cut()
        yield context


@contextmanager
def locked_out(urls: dict[str, str], message_id: str) -> Iterator[ServiceContext]:
    """Another transaction holds the lock of the message for longer than anybody waits."""
    with pytest.MonkeyPatch.context() as patch, context_of("orders", urls) as other, other.unit_of_work() as uow:
        patch.setitem(SESSION, "lock_timeout", "100ms")
        uow.lock(message_id)
        with context_of("orders", urls) as context:
            yield context


@pytest.mark.parametrize("hindered", [cut_off, locked_out])
def test_a_dead_letter_that_cannot_be_written_leaves_the_message_failed(
    urls: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    hindered: Callable[[dict[str, str], str], AbstractContextManager[ServiceContext]],
) -> None:
    """One warning, whether SQLAlchemy or psycopg raises. The message is dead-lettered the next time."""
    poison = Undecodable("not an envelope", b"x")
    message: dramatiq.Message[None] = dramatiq.Message("orders.prices", "Poison", (), {}, {}, str(uuid4()))
    proxy = MessageProxy(message)
    with hindered(urls, message.message_id) as context, caplog.at_level(logging.WARNING):
        middleware = RetryOrDeadLetter({"orders": context})
        middleware.after_process_message(InProcessBroker(middleware=[]), proxy, exception=poison)
    assert proxy.failed
    assert [record.message for record in caplog.records] == ["a dead letter could not be written"]
    with context_of("orders", urls) as orders:
        assert value(orders.engine, "SELECT count(*) FROM orders.dead_letters") == 0
        middleware = RetryOrDeadLetter({"orders": orders})
        middleware.after_process_message(InProcessBroker(middleware=[]), proxy, exception=poison)
        assert value(orders.engine, "SELECT count(*) FROM orders.dead_letters") == 1
    assert not proxy.failed


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        ("a NUL \x00", "a NUL \\x00"),
        ("half a pair \ud800", "half a pair \\ud800"),
        ("long " * 1_000_000, "long long"),
        ("GET /query?apikey=hunter2 failed", "apikey=*** failed"),
    ],
    ids=["nul", "surrogate", "long", "secret"],
)
def test_a_dead_letter_is_written_whatever_the_error_says(urls: dict[str, str], error: str, stored: str) -> None:
    """PostgreSQL stores neither NUL nor lone surrogates. A long error is cut."""
    message: dramatiq.Message[None] = dramatiq.Message("orders.prices", "Poison", (), {}, {}, str(uuid4()))
    proxy = MessageProxy(message)
    with context_of("orders", urls) as orders:
        middleware = RetryOrDeadLetter({"orders": orders})
        middleware.after_process_message(
            InProcessBroker(middleware=[]), proxy, exception=Undecodable(error, b"x", queue="or\0ders")
        )
        kept = str(value(orders.engine, "SELECT error FROM orders.dead_letters"))
    assert not proxy.failed
    assert stored in kept
    assert len(kept) <= LONGEST + 100
