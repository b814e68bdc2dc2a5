"""Yahoo's HTTP session: that of yfinance, which looks like a browser's, with limits of time and size.

yfinance asks for a cookie and a crumb, and again after a refusal. An answer of 429 or 500 is raised here at once, so
that yfinance does not ask a server in trouble five times more.
"""

import threading
import time
from collections.abc import Callable, Mapping
from json import JSONDecodeError
from typing import Any, TypeVar
from urllib.parse import urlsplit

from curl_cffi import CurlOpt
from curl_cffi.requests import Session
from curl_cffi.requests.exceptions import RequestException
from yfinance.data import YfData  # type: ignore[import-untyped]
from yfinance.exceptions import YFException, YFRateLimitError  # type: ignore[import-untyped]

from services.marketdata.providers.provider import ProviderDown, ProviderError, Throttled
from services.marketdata.providers.retry_after import retry_after

Answer = TypeVar("Answer")
#: A call may take this long, with all the requests that yfinance makes for it.
CALL_SECONDS = 20.0
REQUEST_SECONDS = 10.0
LARGEST_BYTES = 32 * 1024 * 1024
#: yfinance asks it for a cookie only. Its usual answer is 404.
_COOKIE_HOST = "fc.yahoo.com"


class YahooSession(Session[Any]):
    """A session for yfinance. With ``url``, all requests go to that server instead of Yahoo's."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__(impersonate="chrome", curl_options={CurlOpt.MAXFILESIZE_LARGE: LARGEST_BYTES})
        self._url = url.rstrip("/") if url else None
        self._call = threading.local()

    def start_call(self) -> None:
        self._call.deadline = time.monotonic() + CALL_SECONDS

    def request(self, method: Any, url: str, *args: Any, **options: Any) -> Any:
        left: float = getattr(self._call, "deadline", time.monotonic() + CALL_SECONDS) - time.monotonic()
        if left <= 0:
            raise ProviderDown(f"Yahoo took longer than {CALL_SECONDS:g} s to answer: it is asked again later")
        options["timeout"] = min(left, REQUEST_SECONDS)
        parts = urlsplit(url)
        if self._url is not None:
            url = self._url + parts.path + (f"?{parts.query}" if parts.query else "")
        response = super().request(method, url, *args, **options)
        if parts.hostname != _COOKIE_HOST:
            _refuse_busy(response)
        return response


def _refuse_busy(response: Any) -> None:
    if response.status_code == 429:
        raise Throttled(
            "Yahoo takes no more requests for now: ask for fewer symbols or less often",
            retry_after(response.headers),
        )
    if response.status_code >= 500:
        raise ProviderDown(f"Yahoo answered with status {response.status_code}: it is asked again later")


class YahooData:
    """yfinance's access to Yahoo. All errors become ProviderError, and no crumb of a failed call is used again."""

    def __init__(self, url: str | None = None) -> None:
        self._session = YahooSession(url)

    def json(self, url: str, params: Mapping[str, Any]) -> Any:
        """The JSON that Yahoo answers with, also beside a status such as 404, with which it says why."""
        return self.call(lambda data: _decoded(data.get(url, params=dict(params))))

    def call(self, make: Callable[[Any], Answer]) -> Answer:
        data = YfData(session=self._session)
        self._session.start_call()
        try:
            return make(data)
        except ProviderError:
            _forget(data)
            raise
        except YFRateLimitError:
            _forget(data)
            raise Throttled("Yahoo takes no more requests for now: ask for fewer symbols or less often") from None
        except RequestException as error:
            _forget(data)
            reason = type(error).__name__
            raise ProviderDown(f"no answer from Yahoo ({reason}): check the connection to the internet") from error
        except (JSONDecodeError, YFException) as error:
            _forget(data)
            raise ProviderDown(f"Yahoo's answer cannot be read ({type(error).__name__}): try again later") from error

    def close(self) -> None:
        self._session.close()


def _decoded(response: Any) -> Any:
    if response.status_code in (401, 403):
        raise ProviderDown(
            f"Yahoo refused the session with status {response.status_code}: a new one is made for the next attempt"
        )
    return response.json()


def _forget(data: Any) -> None:
    """Drop cookie and crumb. yfinance would keep the text of a refusal as its crumb."""
    data._cookie, data._crumb = None, None  # noqa: SLF001
