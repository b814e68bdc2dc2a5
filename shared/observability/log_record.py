"""A line of the system log: what is kept of a log record, of bounded size and without secrets.

``line_of`` runs on the thread that logs, and only takes down what may change afterwards. What costs more is done by
``row``, on the writer's.
"""

import json
import logging
import math
import re
import socket
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from structlog.contextvars import get_contextvars

from shared.contracts.routing import SERVICES

#: Characters of the message, of all fields as JSON, of the error with its traceback, of one field and of one name.
MESSAGE, FIELDS, ERROR, FIELD, NAME = 2_000, 8_192, 32_768, 1_000, 200
#: Entries of one list or mapping among the fields, and how deep they are followed.
ENTRIES, DEPTH = 50, 4
HIDDEN = "***"

_HOST = socket.gethostname()
_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_ELSEWHERE = {"level", "logger", "timestamp", "stack_info", "_record", "_from_structlog"}

_NAMES = r"passw(?:or)?d|secret|token|authori[sz]ation|api[_-]?key|credential|cookie|private[_-]?key"
_SECRET_KEY = re.compile(rf"{_NAMES}|(?:database|rabbitmq|broker)_?url|dsn", re.IGNORECASE)
#: user:password before a host. The lengths are bounded, so that no text takes long.
_IN_URL = re.compile(r"(?<=://)([^\s/@:]{0,100}):[^\s/]{1,200}@")
_ASSIGNED = re.compile(
    rf"((?:{_NAMES})[\w-]{{0,30}}[\"']?\s{{0,3}}[=:]\s{{0,3}})(?:(?:bearer|basic)\s{{1,3}})?"
    r"(?:b?\"(?:[^\"\\]|\\.){0,500}\"?|b?'(?:[^'\\]|\\.){0,500}'?|[^\s,;&)}\]\"']{1,500})",
    re.IGNORECASE,
)


class Line(NamedTuple):
    """``fields`` holds JSON values only. The texts may still be too long, and hold secrets."""

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
        """The values by column, as the database may have them."""
        clean = Line(*map(redacted, self))
        return {
            **clean._asdict(),
            "message": _shortened(clean.message, MESSAGE),
            "fields": _bounded(clean.fields),
            "error": None if clean.error is None else _without_middle(clean.error, ERROR),
        }


def line_of(record: logging.LogRecord, service: str) -> Line:
    """``service`` is whose line it is, unless the line says otherwise."""
    said = _said(record)
    error = said.pop("exception", None) or _error_of(said.pop("exc_info", None) or record.exc_info)
    return Line(
        at=datetime.fromtimestamp(record.created, UTC),
        service=_owner(said, record.name) or service,
        level=level_name(record.levelno),
        logger=record.name[:NAME],
        message=str(said.pop("event"))[: 2 * MESSAGE],
        worker=worker_of(record.process),
        error=error if error is None else _without_middle(str(error), 2 * ERROR),
        job=_name(said.pop("job", None)),
        run_id=_uuid(said.pop("run_id", None)),
        trace_id=_name(said.pop("trace_id", None)),
        fields=_plain({key: value for key, value in said.items() if key not in _ELSEWHERE}),
    )


def belongs_to_run(record: logging.LogRecord) -> bool:
    """Whether it was logged on behalf of a job's run."""
    return (is_event(record) and "run_id" in record.msg) or "run_id" in vars(record) or "run_id" in get_contextvars()


def is_event(record: logging.LogRecord) -> bool:
    """Whether it comes from structlog, which hands on its whole event."""
    return isinstance(record.msg, dict) and "event" in record.msg


def level_name(level: int) -> str:
    return next((name for name in _LEVELS if level >= getattr(logging, name)), "DEBUG")


def worker_of(pid: int | None) -> str:
    return f"{_HOST}:{pid}"


def redacted(value: Any) -> Any:
    """The JSON value without passwords in its texts, and without what PostgreSQL cannot store."""
    if isinstance(value, str):
        storable = value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
        return _ASSIGNED.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1:{HIDDEN}@", storable))
    if isinstance(value, dict):
        return {redacted(key): redacted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted(each) for each in value]
    return value


def _said(record: logging.LogRecord) -> dict[str, Any]:
    """The keys of structlog's event, or the message of a library and what it gave along; over those of the context."""
    if is_event(record):
        return {**get_contextvars(), **record.msg}  # type: ignore[dict-item] # structlog puts its event there
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {**get_contextvars(), **extra, "event": record.getMessage()}


def _owner(said: dict[str, Any], logger: str) -> str | None:
    """The service that the line names, or whose code says it; in the embedded run all of them share a process."""
    if said.get("service") in SERVICES:
        return str(said.pop("service"))
    package, _, rest = logger.partition(".")
    return rest.partition(".")[0] if package == "services" else None


def _error_of(exc_info: Any) -> str | None:
    """The traceback as text: the error itself would keep alive what its frames hold."""
    error = sys.exception() if exc_info is True else exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else None


def _plain(value: Any, depth: int = DEPTH) -> Any:
    """As JSON has it, and no longer what somebody may go on changing."""
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


def _bounded(fields: Mapping[str, Any]) -> str:
    """The fields as JSON; of too much, the first that have room."""
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
    """Of a traceback, where it began and, more of it, where it ended."""
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
