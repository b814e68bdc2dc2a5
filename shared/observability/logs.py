"""Logs on stderr: JSON for machines, or lines for people. No log field ever holds a secret."""

import logging
import sys
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from shared.observability.log_record import bounded
from shared.settings import ServiceSettings
from shared.tracebacks import traceback_of

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

#: Records of a job's run from this level on are kept in the system log, whatever the terminal shows.
RUN_LEVEL = logging.INFO
#: Messages of dramatiq at every attempt of every consumer while RabbitMQ is away. ServiceConsumer logs it once.
_REPEATED = ("Consumer encountered a connection error: %s", "Restarting consumer in %0.2f seconds.")
#: Messages of dramatiq at every try of a message, with its whole body. RetryOrDeadLetter logs its retries and its end.
_FAILED = "Failed to process message"


def is_informative(record: logging.LogRecord) -> bool:
    """False for messages of dramatiq that others log once: an outage, and a message that failed."""
    return not isinstance(record.msg, str) or not (record.msg in _REPEATED or record.msg.startswith(_FAILED))


#: Events of the job engine whose run's row has the same: outcome, reason, counts, attempt and times.
_OF_ENGINE, _IN_RUN_ROW = "shared.jobs.engine.executor", frozenset({"run started", "run finished"})


def repeats_run(record: logging.LogRecord) -> bool:
    """True for the INFO lines of the job engine that only repeat the run's row. A failed run's line is an error."""
    if record.levelno > logging.INFO or record.name != _OF_ENGINE:
        return False
    return isinstance(record.msg, dict) and record.msg.get("event") in _IN_RUN_ROW


def configure_logs(settings: ServiceSettings) -> None:
    """Send the logs of our code and of the libraries through one formatter to stderr.

    The level in the settings applies to stderr. Records are made from RUN_LEVEL on, for the system log.
    """
    shown = logging.getLevelNamesMapping()[settings.log_level]
    renderer: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "human":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    stderr = logging.StreamHandler()
    stderr.setLevel(shown)
    stderr.addFilter(is_informative)
    stderr.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_traceback),
                lambda _logger, _method, event: bounded(event),
                renderer,
            ],
            foreign_pre_chain=_SHARED,
        )
    )
    logging.basicConfig(handlers=[stderr], level=min(shown, RUN_LEVEL), force=True)
    for noisy in ("pika", "alembic", "periodiq", "uvicorn.access", "shared.storage.engine.MeasuredPool"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    merge, *others = _SHARED
    structlog.configure(
        processors=[merge, _dropping_unused(shown), *others, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _traceback(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    return traceback_of(exc_info[1])


def _dropping_unused(shown: int) -> Processor:
    """Drops, before they cost anything, the events that neither stderr nor the system log keeps."""

    def drop_unused(_logger: Any, method: str, event: EventDict) -> EventDict:
        level = structlog.processors.NAME_TO_LEVEL[method]
        if level < shown and (level < RUN_LEVEL or "run_id" not in event):
            raise structlog.DropEvent
        return event

    return drop_unused
