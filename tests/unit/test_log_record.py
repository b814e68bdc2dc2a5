"""A line of the system log has no secrets, and nothing that the database would refuse."""

import json
import logging
import os
import re
import socket
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.contextvars import bound_contextvars

from shared.observability.log_record import ERROR, FIELD, FIELDS, MESSAGE, Line, belongs_to_run, line_of, redacted

RUN = uuid4()


def record(message: object, *args: object, level: int = logging.WARNING, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord(
        "shared.jobs.engine.executor", level, "file.py", 1, message, args, extra.pop("exc_info", None)
    )
    vars(made).update(extra)
    return made


def line(message: object, *args: object, **extra: Any) -> Line:
    return line_of(record(message, *args, **extra), "orders")


def event(**fields: Any) -> dict[str, Any]:
    """The event that structlog hands to logging."""
    return {"event": "job failed", "level": "warning", "logger": "x", "timestamp": "2026-01-01", **fields}


def columns(line: Line) -> dict[str, Any]:
    """The row, with its fields decoded."""
    row = line.row()
    return {**row, "fields": json.loads(row["fields"])}


def test_a_line_of_ours_keeps_its_fields_and_names_its_run() -> None:
    """Time, level, logger, worker and run have columns. The rest of structlog's event is JSON."""
    when = datetime(2026, 11, 23, 12, tzinfo=UTC)
    said = event(job="process_orders", run_id=str(RUN), trace_id="4bf9", symbol="AAPL", counts={"filled": 2})
    row = columns(line(said, created=when.timestamp()))
    assert row == {
        "at": when,
        "service": "orders",
        "level": "WARNING",
        "logger": "shared.jobs.engine.executor",
        "message": "job failed",
        "fields": {"symbol": "AAPL", "counts": {"filled": 2}},
        "error": None,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "job": "process_orders",
        "run_id": RUN,
        "trace_id": "4bf9",
    }


def test_a_line_of_a_library_belongs_to_the_run_that_it_was_logged_in() -> None:
    """Its message is formatted, and the run comes from the context."""
    with bound_contextvars(job="trading_bot", run_id=str(RUN)):
        said = line("%s of %d", "one", 3)
    assert (said.message, said.job, said.run_id, said.fields) == ("one of 3", "trading_bot", RUN, {})


def test_a_line_of_a_run_is_recognised() -> None:
    """By the context, by the event's own keys, or by a library's ``extra``."""
    assert not belongs_to_run(record("outside"))
    assert belongs_to_run(record(event(run_id="1")))
    assert belongs_to_run(record("extra", run_id="1"))
    with bound_contextvars(run_id="1"):
        assert belongs_to_run(record("inside"))


@pytest.mark.parametrize(
    ("said", "logger", "service"),
    [
        (event(), "shared.outage", "orders"),
        (event(service="strategy"), "shared.outage", "strategy"),
        (event(service="of a stranger"), "shared.outage", "orders"),
        (event(), "services.valuation.actors", "valuation"),
    ],
)
def test_a_line_belongs_to_the_service_whose_code_logs_it(said: Any, logger: str, service: str) -> None:
    """The embedded run has all services in one process."""
    assert line(said, name=logger).service == service


def test_a_line_keeps_an_error_with_its_traceback() -> None:
    """It keeps text, because the exception would keep the objects of its frames alive."""
    try:
        int("this is why")
    except ValueError as error:
        texts = [line(event(exc_info=each)).error for each in (True, error, sys.exc_info())]
        texts.append(line("failed", exc_info=sys.exc_info()).error)
    for text in texts:
        assert text is not None
        assert "test_a_line_keeps_an_error" in text
        assert text.endswith("base 10: 'this is why'\n")


@pytest.mark.parametrize(
    "key",
    ["password", "db_password", "api_secret_key", "token", "Authorization", "database_url", "rabbitmq_url", "apikey"],
)
def test_a_field_with_the_name_of_a_secret_is_hidden(key: str) -> None:
    """At any depth."""
    row = columns(line(event(**{key: "hunter2"}, request=[{"headers": {key: "hunter2"}}])))
    assert row["fields"] == {key: "***", "request": [{"headers": {key: "***"}}]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://orders:hunter2@rabbit:5672/", "amqp://orders:***@rabbit:5672/"),
        ("cannot reach postgresql+psycopg://u:hun@ter2@db/x", "cannot reach postgresql+psycopg://u:***@db/x"),
        ("GET /query?symbol=IBM&apikey=hunter2&size=1", "GET /query?symbol=IBM&apikey=***&size=1"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("Settings(password='hunter2', port=1)", "Settings(password=***, port=1)"),
        ("[parameters: {'secret_hash': b'hun\\'ter2', 'n': 1}]", "[parameters: {'secret_hash': ***, 'n': 1}]"),
        ('{"api_key": "hun\\"ter2", "n": 1}', '{"api_key": ***, "n": 1}'),
        ("password authentication failed for user x", "password authentication failed for user x"),
        ("http://127.0.0.1:8000/healthz", "http://127.0.0.1:8000/healthz"),
    ],
)
def test_a_password_in_a_text_is_hidden(text: str, shown: str) -> None:
    """In messages, fields and errors, and nothing else of them."""
    row = columns(line(event(event=text, note=text, exception=text)))
    assert (row["message"], row["fields"], row["error"]) == (shown, {"note": shown}, shown)


def test_a_long_text_is_searched_for_secrets_in_a_moment() -> None:
    """The patterns are bounded, so no text takes long."""
    for text in ("token" * 20_000, "://" * 30_000, "x" * 100_000, "password='" * 10_000):
        assert len(redacted(text)) > 0


def test_a_line_is_bounded() -> None:
    """Message, fields, each field, and the error, of which beginning and end are kept."""
    fields = {f"k{number}": "x" * 2_000 for number in range(40)}
    row = columns(line(event(event="m" * 100_000, exception="first" + "x" * 200_000 + "last", **fields)))
    assert (len(row["message"]), len(row["error"])) == (MESSAGE, ERROR)
    assert re.fullmatch(r"firstx+\n…\nx+last", row["error"])
    assert len(json.dumps(row["fields"], ensure_ascii=False)) <= FIELDS
    assert len(row["fields"]["k0"]) == FIELD
    assert len(row["fields"]) + row["fields"]["left_out"] == len(fields) + 1


def test_a_secret_at_the_cut_is_hidden_too() -> None:
    """The text is searched before it is shortened."""
    row = columns(line("x" * (MESSAGE - 20) + " amqp://orders:hunter2hunter2@rabbit"))
    assert "hunter" not in row["message"]


def test_values_that_json_does_not_have_become_texts() -> None:
    """Values that PostgreSQL's jsonb refuses too."""
    given = {
        "price": Decimal("1.10"),
        "id": RUN,
        "rate": float("nan"),
        "sizes": (1, 2.5, None, True),
        "big": 10**5000,
        "nul": "a\0b",
        "half": "\ud800",
        "keys": {(1, 2): {3}},
    }
    fields = columns(line(event(**given)))["fields"]
    assert fields.pop("big").startswith("0x")
    assert fields == {
        "price": "1.10",
        "id": str(RUN),
        "rate": "nan",
        "sizes": [1, 2.5, None, True],
        "nul": "a\N{REPLACEMENT CHARACTER}b",
        "half": "?",
        "keys": {"(1, 2)": [3]},
    }


def test_a_value_that_contains_itself_is_cut() -> None:
    """A field may be any object."""
    endless: list[Any] = []
    endless.append(endless)
    assert columns(line(event(endless=endless)))["fields"] == {"endless": [[["[[...]]"]]]}


def test_a_field_stays_as_it_was_when_it_was_logged() -> None:
    """The caller may change its value later."""
    counts = {"filled": [1]}
    kept = line(event(counts=counts))
    counts["filled"].append(2)
    assert columns(kept)["fields"] == {"counts": {"filled": [1]}}


@pytest.mark.parametrize(
    ("level", "name"), [(5, "DEBUG"), (25, "INFO"), (30, "WARNING"), (45, "ERROR"), (99, "CRITICAL")]
)
def test_a_level_of_a_library_s_own_is_rounded_down(level: int, name: str) -> None:
    """The column has the five standard levels."""
    assert line("said", levelno=level).level == name


def test_an_invalid_run_id_is_left_out() -> None:
    """It must not make the database refuse the line."""
    assert line(event(run_id="of my own")).run_id is None
    assert isinstance(line(event(run_id=RUN)).run_id, UUID)
