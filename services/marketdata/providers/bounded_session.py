"""A session of requests whose answers are bounded in time and size."""

import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from services.marketdata.providers.provider import ProviderDown, Throttled
from services.marketdata.providers.retry_after import date_of, retry_after

CONNECT_SECONDS = 5.0
#: An answer is whole after this time, however slowly it comes.
REQUEST_SECONDS = 10.0
#: Alpaca's limit is one of a minute.
LONGEST_RESET_SECONDS = 120.0
LARGEST_BYTES = 32 * 1024 * 1024


class BoundedSession(requests.Session):
    """A session that raises ProviderDown and Throttled in the place of errors of connections and servers.

    No error shows a URL, since some providers take their key in it.
    """

    def __init__(self, provider: str) -> None:
        super().__init__()
        self._provider = provider
        self.mount("https://", HTTPAdapter(pool_maxsize=16))
        self.mount("http://", HTTPAdapter(pool_maxsize=16))

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> Any:
        options.update(timeout=(CONNECT_SECONDS, REQUEST_SECONDS), stream=True)
        deadline = time.monotonic() + REQUEST_SECONDS
        try:
            response = super().request(method, url, *args, **options)
            with response:
                response._content = self._read(response, deadline)  # noqa: SLF001
        except (requests.RequestException, HTTPError, OSError) as error:
            # not "from error", whose text has the URL
            raise ProviderDown(
                f"no answer from {self._provider} ({type(error).__name__}): check the connection to the internet"
            ) from None
        self._refuse_busy(response)
        return response

    def _read(self, response: Any, deadline: float) -> bytes:
        parts, size = [], 0
        while part := response.raw.read1(65_536, decode_content=True):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise ProviderDown(f"{self._provider} took longer than {REQUEST_SECONDS:g} s: it is asked again later")
            if size > LARGEST_BYTES:
                raise ProviderDown(f"{self._provider} answered with more than {LARGEST_BYTES} bytes: ask for less")
        return b"".join(parts)

    def _refuse_busy(self, response: Any) -> None:
        status: int = response.status_code
        if status == 429:
            raise Throttled(
                f"{self._provider} takes no more requests for now: ask for fewer symbols or less often",
                _wait(response.headers),
            )
        if status >= 500:
            raise ProviderDown(f"{self._provider} answered with status {status}: it is asked again later")


def _wait(headers: Mapping[str, str | None]) -> float | None:
    """The wait of Retry-After, else until Alpaca's X-RateLimit-Reset, which is a time in seconds since 1970."""
    seconds, reset = retry_after(headers), headers.get("X-RateLimit-Reset") or ""
    sent_at = date_of(headers)
    if seconds is None and sent_at is not None and reset.isdecimal():
        return min(max(1.0, int(reset) - sent_at.timestamp()), LONGEST_RESET_SECONDS)
    return seconds
