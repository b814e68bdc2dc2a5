"""The system log on a real PostgreSQL: log records become rows, and logging does not wait for them."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import Connection, text
from structlog.contextvars import bound_contextvars

from shared.bus.unit_of_work import ServiceContext
from shared.observability import system_log
from shared.observability.log_record import Line
from shared.observability.system_log import BATCH, MAX_LINES, SystemLog
from tests.component.watching import context_of, statements
from tests.servers.proxy import Proxy, proxy_to
from tests.support import eventually, rows, value

log = structlog.get_logger(__name__)
library = logging.getLogger("library")

Insert = Callable[[Connection, list[Line]], None]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Records are made from INFO on, as configure_logs does, and written at once."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("shared.observability.system_log.PAUSE_SECONDS", 0.01)


@pytest.fixture
def orders(urls: dict[str, str]) -> Iterator[ServiceContext]:
    with context_of("orders", urls) as context:
        yield context


@pytest.fixture
def kept(orders: ServiceContext) -> Iterator[SystemLog]:
    """The running system log of orders."""
    system_log = SystemLog(orders)
    system_log.start()
    yield system_log
    system_log.stop()


@pytest.fixture
def proxy(urls: dict[str, str]) -> Iterator[Proxy]:
    with proxy_to(urls["orders"]) as proxy:
        yield proxy


@pytest.fixture
def cut_off(urls: dict[str, str], proxy: Proxy, orders: ServiceContext) -> Iterator[SystemLog]:
    """A running system log whose database no longer answers."""
    with context_of("orders", {"orders": proxy.through(urls["orders"])}) as context:
        system_log = SystemLog(context)
        system_log.start()
        log.warning("before")
        eventually(lambda: messages(orders))
        proxy.refuse()
        yield system_log
        system_log.stop()


def found(context: ServiceContext) -> list[Any]:
    return rows(context.engine, "SELECT * FROM jobs.system_log ORDER BY id")


def messages(context: ServiceContext) -> list[str]:
    return [row.message for row in found(context)]


def test_warnings_and_errors_become_rows(orders: ServiceContext, kept: SystemLog) -> None:
    """Our records keep their fields, those of libraries their message. INFO outside of a run is left out."""
    log.info("not this")
    log.warning("cannot fill", symbol="AAPL", api_key="hunter2")
    try:
        int("this is why")
    except ValueError:
        library.exception("failed for the %s time", "third")
    ours, theirs = eventually(lambda: found(orders)[1:] and found(orders))
    assert (ours.level, ours.service, ours.logger, ours.message) == ("WARNING", "orders", __name__, "cannot fill")
    assert (ours.fields, ours.error, ours.run_id) == ({"symbol": "AAPL", "api_key": "***"}, None, None)
    assert (theirs.level, theirs.logger, theirs.message) == ("ERROR", "library", "failed for the third time")
    assert theirs.error.endswith("base 10: 'this is why'\n")
    assert ours.at <= theirs.at


def test_the_lines_of_a_run_are_found_by_its_id(orders: ServiceContext, kept: SystemLog) -> None:
    """All from INFO on and in order, with those of the libraries that it used."""
    run_id = uuid4()
    with bound_contextvars(job="process_orders", run_id=str(run_id)):
        log.info("job started")
        library.info("of a library")
        library.debug("not this")
        log.info("job finished", filled=2)
    log.warning("of nobody's run")
    eventually(lambda: "of nobody's run" in messages(orders))
    of_run = rows(orders.engine, "SELECT * FROM jobs.system_log WHERE run_id = :id ORDER BY id", id=run_id)
    assert [row.message for row in of_run] == ["job started", "of a library", "job finished"]
    assert {row.job for row in of_run} == {"process_orders"}
    assert of_run[-1].fields == {"filled": 2}


def test_many_lines_are_one_statement(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full batch is written at once, in a single round trip."""
    monkeypatch.setattr("shared.observability.system_log.PAUSE_SECONDS", 60.0)
    system_log = SystemLog(orders)
    with statements(orders.engine) as seen:
        system_log.start()
        for number in range(BATCH):
            log.warning("said", number=number)
        eventually(lambda: seen)
        system_log.stop()
    assert len(seen) == 1
    assert [row.fields["number"] for row in found(orders)] == list(range(BATCH))


def test_logging_while_the_database_is_away_does_not_delay_its_caller(
    orders: ServiceContext, proxy: Proxy, cut_off: SystemLog
) -> None:
    """The latest lines are written when the database is back, with the number of dropped ones."""
    many = MAX_LINES + 2 * BATCH
    began = time.perf_counter()
    for number in range(many):
        library.warning("line %d", number)
    seconds = time.perf_counter() - began
    assert seconds / many < 0.002  # a hundred times the usual, for a busy machine, but shorter than a try to connect
    proxy.accept()
    last = f"line {many - 1}"
    eventually(lambda: value(orders.engine, "SELECT count(*) FROM jobs.system_log WHERE message = :last", last=last))
    log.warning("after")
    eventually(lambda: messages(orders)[-1] == "after")
    (told,) = rows(orders.engine, "SELECT * FROM jobs.system_log WHERE logger = 'shared.observability.system_log'")
    lines = [message for message in messages(orders) if message.startswith("line ")]
    assert told.fields == {"dropped": many - len(lines)}
    assert (told.level, told.service) == ("WARNING", "orders")
    assert MAX_LINES <= len(lines) <= MAX_LINES + BATCH
    assert lines[-MAX_LINES:] == [f"line {number}" for number in range(many - MAX_LINES, many)]


def test_an_outage_is_logged_once(
    orders: ServiceContext, proxy: Proxy, cut_off: SystemLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at every try, and on the terminal only."""
    log.warning("meanwhile")
    eventually(lambda: cut_off._database._failures > 2)
    proxy.accept()
    eventually(lambda: "meanwhile" in messages(orders))
    said = [record.message for record in caplog.records if record.name == "shared.outage"]
    assert said == ["the database is away; waiting for it", "the database is back"]
    assert messages(orders) == ["before", "meanwhile"]


def test_the_writer_s_own_lines_are_not_written(
    orders: ServiceContext, kept: SystemLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is written once, though writing it logs another one."""
    insert = system_log.insert

    def telling(connection: Connection, lines: list[Line]) -> None:
        library.error("wrote %d lines", len(lines))
        insert(connection, lines)

    monkeypatch.setattr("shared.observability.system_log.insert", telling)
    for said in ("first", "second", "third"):
        log.warning(said)
        eventually(lambda said=said: said in messages(orders))  # type: ignore[misc]
    assert messages(orders) == ["first", "second", "third"]


def test_a_batch_that_the_database_refuses_does_not_hold_up_later_lines(
    orders: ServiceContext, kept: SystemLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped and counted."""
    insert = system_log.insert

    def refusing(connection: Connection, lines: list[Line]) -> None:
        if any(line.message == "poison" for line in lines):
            connection.execute(text("SELECT 1 / 0"))
        insert(connection, lines)

    monkeypatch.setattr("shared.observability.system_log.insert", refusing)
    log.warning("poison")
    eventually(lambda: [row.fields for row in found(orders)] == [{"dropped": 1}])
    log.warning("the next")
    eventually(lambda: messages(orders)[1:] == ["the next"])


def test_a_process_that_stops_writes_its_last_lines(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last lines say why it stops. Afterwards nothing is collected."""
    monkeypatch.setattr("shared.observability.system_log.PAUSE_SECONDS", 60.0)
    system_log = SystemLog(orders)
    system_log.start()
    log.warning("the last words")
    system_log.stop()
    assert messages(orders) == ["the last words"]
    log.warning("too late")
    assert not system_log.alive
    assert messages(orders) == ["the last words"]


def test_a_stop_does_not_wait_for_a_database_that_is_away(cut_off: SystemLog) -> None:
    """It tries once more, without a pause after that."""
    log.warning("never written")
    cut_off.stop()
    assert not cut_off.alive


def test_lines_of_many_threads_are_all_written(orders: ServiceContext, kept: SystemLog) -> None:
    """Each line once, and those of one thread in order."""

    def say(thread: int) -> None:
        for number in range(300):
            library.warning("%d", number, extra={"by": thread})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(say, range(8)))
    eventually(lambda: len(found(orders)) == 8 * 300)
    for thread in range(8):
        assert [row.message for row in found(orders) if row.fields["by"] == thread] == [str(n) for n in range(300)]
