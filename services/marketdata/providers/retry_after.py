"""The header Retry-After of HTTP (RFC 9110, 10.2.3): seconds, or a date."""

from collections.abc import Mapping
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
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date") or "")
    except (ValueError, TypeError):
        return None
    return min(max(0.0, wait.total_seconds()), LONGEST_SECONDS)
