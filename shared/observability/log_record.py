"""A line of the system log: the parts of a log record that are kept, with a bounded size and without secrets.

``line_of`` runs on the thread that logs, and only copies values that may change afterwards. ``row`` does the expensive
part on the writer's thread.
"""

import json
import logging
import math
import re
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from structlog.contextvars import get_contextvars

from shared.contracts.routing import SERVICES
from shared.tracebacks import HIDDEN, NAMES_TO_HIDE, traceback_of, without_secrets

#: Most characters of the message, of all fields as JSON, of the error with its traceback, of one field, of one name.
MESSAGE, FIELDS, ERROR, FIELD, NAME = 2_000, 8_192, 32_768, 1_000, 200
#: Most entries of one list or mapping among the fields, and most levels of them.
ENTRIES, DEPTH = 50, 4

_HOST = socket.gethostname()
_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_ELSEWHERE = {"level", "logger", "timestamp", "stack_info", "_record", "_from_structlog"}

_SECRET_KEY = re.compile(rf"{NAMES_TO_HIDE}|(?:database|rabbitmq|broker)_?url|dsn", re.IGNORECASE)


class Line(NamedTuple):
    """A line before its texts are shortened and cleaned of secrets. ``fields`` holds JSON values only."""

    at: datetime
    service: str
    level: str
    logger: str
    message: str
    fields: Mapping[str, Any]
    worker: str
    error: str | None = None
    job: str | None = None
    run_id: UUID | None = None
    trace_id: str | None = None

    def row(self) -> dict[str, Any]:
        """The values by column, shortened and without secrets."""
        clean = Line(*map(redacted, self))
        return {
            **clean._asdict(),
            "message": _shortened(clean.message, MESSAGE),
            "fields": _bounded_json(clean.fields),
            "error": None if clean.error is None else _without_middle(clean.error, ERROR),
        }


def line_of(record: logging.LogRecord, service: str) -> Line:
    """The line of a log record.

    It belongs to the service that the record names, else to the one whose code logs (in the embedded run all services
    share a process), else to ``service``.
    """
    if is_event(record):
        own: dict[str, Any] = record.msg  # type: ignore[assignment] # structlog puts its event there
    else:
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        own = {**extra, "event": record.getMessage()}
    event = {**get_contextvars(), **own}
    package, _, rest = record.name.partition(".")
    if event.get("service") in SERVICES:
        service = str(event.pop("service"))
    elif package == "services":
        service = rest.partition(".")[0]
    error = event.pop("exception", None) or _traceback(event.pop("exc_info", None) or record.exc_info)
    return Line(
        at=datetime.fromtimestamp(record.created, UTC),
        service=service,
        level=level_name(record.levelno),
        logger=record.name[:NAME],
        message=str(event.pop("event"))[: 2 * MESSAGE],
        worker=worker_of(record.process),
        error=error if error is None else _without_middle(str(error), 2 * ERROR),
        job=_name(event.pop("job", None)),
        run_id=_uuid(event.pop("run_id", None)),
        trace_id=_name(event.pop("trace_id", None)),
        fields=_plain({key: value for key, value in event.items() if key not in _ELSEWHERE}),
    )


def belongs_to_run(record: logging.LogRecord) -> bool:
    """True where the record was logged on behalf of a job's run."""
    return (is_event(record) and "run_id" in record.msg) or "run_id" in vars(record) or "run_id" in get_contextvars()


def is_event(record: logging.LogRecord) -> bool:
    """True where the record comes from structlog, whose message is the whole event."""
    return isinstance(record.msg, dict) and "event" in record.msg


def level_name(level: int) -> str:
    """The standard level at or below the numeric one."""
    return next((name for name in _LEVELS if level >= getattr(logging, name)), "DEBUG")


def worker_of(pid: int | None) -> str:
    """The name of a process: host and process id."""
    return f"{_HOST}:{pid}"


def bounded(event: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the event for the terminal: without secrets, and no longer than a line of the system log."""
    message, error = str(event.get("event", "")), event.get("exception")
    fields = {str(key)[:NAME]: value for key, value in event.items() if key not in {"event", "exception"}}
    plain = redacted({**_plain(fields), "event": message[: 2 * MESSAGE]})
    shown = {**plain, "event": _shortened(plain["event"], MESSAGE)}
    return shown if error is None else {**shown, "exception": _without_middle(redacted(str(error)), ERROR)}


def redacted(value: Any) -> Any:
    """The JSON value without passwords in its texts, and without characters that PostgreSQL cannot store."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {redacted(key): redacted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted(each) for each in value]
    return value


def _traceback(exc_info: Any) -> str | None:
    """The traceback as text, because the exception itself would keep the objects of its frames alive."""
    error = sys.exception() if exc_info is True else exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return traceback_of(error, 2 * ERROR) if isinstance(error, BaseException) else None


def _plain(value: Any, depth: int = DEPTH) -> Any:
    """A copy of the value as JSON, which later changes of the value do not reach."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else hex(value)[:FIELD]
    if isinstance(value, float) and math.isfinite(value):
        return value
    if depth and isinstance(value, Mapping):
        return {
            str(key)[:NAME]: HIDDEN if _is_secret(str(key)[:NAME]) else _plain(each, depth - 1)
            for key, each in islice(value.items(), ENTRIES)
        }
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in islice(value, ENTRIES)]
    return _shortened(str(value), FIELD)


@lru_cache(1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _bounded_json(fields: Mapping[str, Any]) -> str:
    """The fields as JSON. Fields for which there is no room are left out, and counted."""
    text = json.dumps(fields, ensure_ascii=False)
    if len(text) <= FIELDS:
        return text
    kept, room = {}, FIELDS - 30
    for key, value in fields.items():
        size = len(json.dumps({key: value}, ensure_ascii=False))
        if size <= room:
            kept[key] = value
            room -= size
    return json.dumps({**kept, "left_out": len(fields) - len(kept)}, ensure_ascii=False)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _without_middle(text: str, most: int) -> str:
    """The beginning and, three times as long, the end of a text: both ends of a traceback matter."""
    if len(text) <= most:
        return text
    return f"{text[: most // 4]}\n…\n{text[3 + most // 4 - most :]}"


def _name(value: object) -> str | None:
    return None if value is None else str(value)[:NAME]


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None
