"""What comes into the backlog of the system log, and what goes when nobody takes it out."""

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
    """A field that cannot be shown."""

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
    """A logger with nothing but the collector of the backlog."""
    logger, collector = logging.getLogger("nothing but the collector"), Collector(backlog, "orders")
    logger.propagate = False
    logger.addHandler(collector)
    yield logger
    logger.removeHandler(collector)


def messages(backlog: Backlog) -> list[str]:
    return [line.message for line in backlog.take()[0]]


def test_a_backlog_forgets_the_oldest_and_tells_how_many() -> None:
    """Once: the next batch tells what was dropped since."""
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


def test_a_full_batch_wakes_who_waits_for_it(backlog: Backlog) -> None:
    """It does not sit out its pause."""
    waiting = threading.Thread(target=backlog.wait, args=(60.0,))
    waiting.start()
    for number in range(BATCH):
        backlog.put_nowait(made_up_line(number))
    waiting.join(15)
    assert not waiting.is_alive()


def test_warnings_are_collected_and_of_a_run_all_from_info_on(backlog: Backlog, collector: logging.Logger) -> None:
    """What is below, or no news, is nobody's business."""
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL):
        collector.handle(record(level, f"{level} outside"))
        with bound_contextvars(run_id="1"):
            collector.handle(record(level, f"{level} inside"))
    collector.handle(record(logging.CRITICAL, "Consumer encountered a connection error: %s"))
    assert messages(backlog) == ["20 inside", "30 outside", "30 inside", "50 outside", "50 inside"]


def test_what_the_writer_says_is_not_collected(backlog: Backlog) -> None:
    """Or each line would make another."""
    collector = Collector(backlog, "orders")
    collector.writer = threading.get_ident()
    collector.handle(record(logging.ERROR))
    assert messages(backlog) == []


def test_a_field_that_cannot_be_shown_does_not_fail_its_caller(
    backlog: Backlog, collector: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is left out, and why stands on stderr."""
    collector.handle(record(logging.ERROR, field=Unprintable()))
    collector.handle(record(logging.ERROR, "the next"))
    assert messages(backlog) == ["the next"]
    assert "not a word" in capsys.readouterr().err
