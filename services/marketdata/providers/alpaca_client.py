"""alpaca-py's clients, with limits of time and size, and its errors as ours.

alpaca-py itself knows no time limit, and answers 429 by asking again after three seconds.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.historical.news import NewsClient
from alpaca.trading.client import TradingClient

from services.marketdata.providers.bounded_session import BoundedSession
from services.marketdata.providers.provider import KeyRefused, ProviderDown, ProviderError

Answer = TypeVar("Answer")
#: Errors of alpaca-py over an answer that is not what it expects, such as HTML, nothing, or a list for an object.
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError)


class BadSymbol(ProviderError):
    """Alpaca refuses the request for its symbols. ``said`` is its message."""

    def __init__(self, said: str) -> None:
        super().__init__(f"Alpaca refuses the request: {said[:200]}")
        self.said = said


class AlpacaClients:
    """One client for each part of Alpaca's API, all with one session."""

    def __init__(self, key: str, secret: str, *, url: str | None, trading_url: str | None, paper: bool) -> None:
        if not key or not secret:
            raise KeyRefused(
                "Alpaca needs a key: make one at alpaca.markets, and set PAPERPROFIT_ALPACA_KEY and "
                "PAPERPROFIT_ALPACA_SECRET"
            )
        self._session = BoundedSession("Alpaca")
        given: dict[str, Any] = {"api_key": key, "secret_key": secret, "raw_data": True}
        self.stocks = self._bounded(StockHistoricalDataClient(**given, url_override=url))
        self.crypto = self._bounded(CryptoHistoricalDataClient(**given, url_override=url))
        self.actions = self._bounded(CorporateActionsClient(**given, url_override=url))
        self.news = self._bounded(NewsClient(**given, url_override=url))
        self.trading = self._bounded(TradingClient(**given, paper=paper, url_override=trading_url))

    def _bounded(self, client: Any) -> Any:
        client._session, client._retry = self._session, 0  # noqa: SLF001
        return client

    def close(self) -> None:
        self._session.close()


def asked(call: Callable[[], Answer]) -> Answer:
    """The call's answer, or ProviderError."""
    try:
        return call()
    except ProviderError:
        raise
    except APIError as error:
        raise _refused(error) from None
    except _UNREADABLE as error:
        raise ProviderDown(f"Alpaca's answer cannot be read ({type(error).__name__}): try again later") from error


def _refused(error: APIError) -> ProviderError:
    status, said = error.status_code, str(error)
    if status in (401, 403):
        return KeyRefused(
            f"Alpaca refuses the key with status {status}: check PAPERPROFIT_ALPACA_KEY and PAPERPROFIT_ALPACA_SECRET, "
            "and that the subscription has the feed of PAPERPROFIT_ALPACA_FEED"
        )
    if status in (400, 404, 422):
        return BadSymbol(said)
    return ProviderDown(f"Alpaca answered with status {status}: it is asked again later")
