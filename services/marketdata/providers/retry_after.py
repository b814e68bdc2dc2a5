"""The header Retry-After of HTTP (RFC 9110, 10.2.3): seconds, or a date."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: No provider is left alone for longer, whatever it says.
LONGEST_SECONDS = 86_400.0


def retry_after(headers: Mapping[str, str | None]) -> float | None:
    """The seconds that the server asks to wait. None without the header, or with a text that is neither.

    A date is taken against the server's own ``Date``, so that a clock that is off does no harm.
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return min(float(text), LONGEST_SECONDS)
    until, sent_at = _parsed(text), date_of(headers)
    if until is None or sent_at is None:
        return None
    return min(max(0.0, (until - sent_at).total_seconds()), LONGEST_SECONDS)


def date_of(headers: Mapping[str, str | None]) -> datetime | None:
    """The time by the server's own clock."""
    return _parsed(headers.get("Date") or "")


def _parsed(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
