"""W3C trace context, carried in every message and shown in every log line.

A message that is sent while another message or a request is handled belongs to the same trace. Other messages begin a
trace of their own.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from structlog.contextvars import bound_contextvars

_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current() -> str | None:
    """The traceparent of the current work on this thread or task."""
    return _current.get()


def next_hop(traceparent: str | None = None) -> str:
    """A traceparent for a message that is sent now: of the given trace, else of the current one, else of a new one."""
    _, trace_id, _, flags = (traceparent or _current.get() or _begin()).split("-")
    return f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def trace_id_of(traceparent: str) -> str:
    return traceparent.split("-")[1]


@contextmanager
def tracing(traceparent: object) -> Iterator[str]:
    """Continue the trace of this traceparent, or begin a trace where it is not valid."""
    valid = isinstance(traceparent, str) and _FORM.fullmatch(traceparent)
    used = str(traceparent) if valid else _begin()
    token = _current.set(used)
    try:
        with bound_contextvars(trace_id=trace_id_of(used)):
            yield used
    finally:
        _current.reset(token)


def _begin() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
