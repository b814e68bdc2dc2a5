"""The backlog of the system log: the lines that it takes, and those that it drops when it is full."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from shared.clock import utc_now
from shared.observability.log_record import Line
from shared.observability.system_log import BATCH, Backlog, Collector


class Unprintable:
    """A field that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("not a word")


def made_up_line(number: int) -> Line:
    return Line(utc_now(), "orders", "WARNING", "test", str(number), {}, "here:1")


def record(level: int, message: object = "said", **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("test", level, "file.py", 1, message, (), None)
    vars(made).update(extra)
    return made


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


@pytest.fixture
def collector(backlog: Backlog) -> Iterator[logging.Logger]:
    """A logger with only the collector of the backlog."""
    logger, collector = logging.getLogger("nothing but the collector"), Collector(backlog, "orders")
    logger.propagate = False
    logger.addHandler(collector)
    yield logger
    logger.removeHandler(collector)


def messages(backlog: Backlog) -> list[str]:
    return [line.message for line in backlog.take()[0]]


def test_a_full_backlog_drops_and_counts_the_oldest() -> None:
    """The next batch has the number dropped since the last one."""
    backlog = Backlog(most=3)
    for number in range(5):
        backlog.put_nowait(made_up_line(number))
    lines, dropped = backlog.take()
    assert ([line.message for line in lines], dropped) == (["2", "3", "4"], 2)
    assert backlog.take() == ([], 0)


def test_a_backlog_hands_out_batches_in_order(backlog: Backlog) -> None:
    """A statement has a size that the database takes."""
    for number in range(BATCH + 1):
        backlog.put_nowait(made_up_line(number))
    assert messages(backlog) == [str(number) for number in range(BATCH)]
    assert messages(backlog) == [str(BATCH)]


def test_a_full_batch_ends_a_wait(backlog: Backlog) -> None:
    """The writer does not wait for its whole pause."""
    waiting = threading.Thread(target=backlog.wait, args=(60.0,))
    waiting.start()
    for number in range(BATCH):
        backlog.put_nowait(made_up_line(number))
    waiting.join(15)
    assert not waiting.is_alive()


def test_warnings_are_collected_and_lines_of_a_run_from_info_on(backlog: Backlog, collector: logging.Logger) -> None:
    """Lower levels and repeated messages are left out."""
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL):
        collector.handle(record(level, f"{level} outside"))
        with bound_contextvars(run_id="1"):
            collector.handle(record(level, f"{level} inside"))
    collector.handle(record(logging.CRITICAL, "Consumer encountered a connection error: %s"))
    assert messages(backlog) == ["20 inside", "30 outside", "30 inside", "50 outside", "50 inside"]


def test_the_writer_s_own_lines_are_not_collected(backlog: Backlog) -> None:
    """Each of them would cause another."""
    collector = Collector(backlog, "orders")
    collector.writer = threading.get_ident()
    collector.handle(record(logging.ERROR))
    assert messages(backlog) == []


def test_a_field_without_a_text_does_not_fail_its_caller(
    backlog: Backlog, collector: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is left out, and stderr has the reason."""
    collector.handle(record(logging.ERROR, field=Unprintable()))
    collector.handle(record(logging.ERROR, "the next"))
    assert messages(backlog) == ["the next"]
    assert "not a word" in capsys.readouterr().err


def test_lines_that_repeat_the_run_s_row_are_not_collected(backlog: Backlog, collector: logging.Logger) -> None:
    """The start and the end of a run. The line of a failed run, the job's own lines and other engine lines stay."""
    with bound_contextvars(run_id="1"):
        for level, event in [
            (logging.INFO, "run started"),
            (logging.INFO, "run finished"),
            (logging.ERROR, "run finished"),
            (logging.INFO, "run postponed"),
        ]:
            made = record(level, {"event": event, "level": level})
            made.name = "shared.jobs.engine.executor"
            collector.handle(made)
        collector.handle(record(logging.INFO, {"event": "run started", "level": "a job's own"}))
    lines = [(line.level, line.message) for line in backlog.take()[0]]
    assert lines == [("ERROR", "run finished"), ("INFO", "run postponed"), ("INFO", "run started")]
